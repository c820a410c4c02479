"""Canonical frames of the lungs: where in an X-ray each pixel of the frame lies, and the way back.

A frame is laid on the probability of lung that a segmenter gives. Connected components, which would throw out what is
no lung, cannot be exported; quantiles of the probability's mass can, and a speck with little mass does not move them.
Everything is made of sums, products and comparisons, so that it is the same in an exported graph. Positions are shares
of the image's height and width, 0 at the upper left corner, 1 at the lower right.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch.nn import functional

Alignment = Literal["none", "box", "rows"]
ALIGNMENTS: tuple[Alignment, ...] = ("none", "box", "rows")

TRIMMED = 0.02
"""Share of the mass at either end of a profile that may lie anywhere without moving the ends."""
LEAST_BOTH = 0.43
"""Share of the image's width that both lungs reach across, or what is found is one lung. In 674 true masks one reaches
across at most 0.43, and both across at least 0.40."""
MIN_ROW_WIDTH = 0.45
"""A row of a lung counts as at least this share of the lung's width, as apex and recess do not."""
EDGE_SIGMA = 0.03
"""Standard deviation of the smoothing of the lungs' edges along the rows, a share of the height."""
LEAST_MASS = 0.015
"""Share of the image below which a lung counts as not found."""
MARGIN = 0.06
"""What a frame shows beyond the lungs on each side, as a share of them."""
_TINY, _TINIEST = 1e-6, 1e-30  # divisors that are never reached but by what has no mass


class Box(NamedTuple):
    """The rectangle around both lungs, each side `(B,)`."""

    top: torch.Tensor
    bottom: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor


class Rows(NamedTuple):
    """Each lung's upper and lower end, `(B, 2)`, and its edges in each row of the image, `(B, 2, R)`.

    The first of the two lungs is the one on the image's left.
    """

    top: torch.Tensor
    bottom: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor


def mass_quantile(mass: torch.Tensor, share: float) -> torch.Tensor:
    """Return where a profile has passed a share of its mass, as if the mass of each pixel were spread over it.

    Args:
        mass: Profiles, at least 0, `(..., N)`.
        share: Above 0 and below 1.

    Returns:
        Positions from 0 to 1, `(...)`; 1 for profiles without mass.

    Example:
        >>> mass_quantile(torch.tensor([0.0, 2.0, 2.0, 0.0]), 0.25)
        tensor(0.3750)
    """
    share_of_each = mass / mass.sum(dim=-1, keepdim=True).clamp(min=_TINY)
    before = share_of_each.cumsum(dim=-1) - share_of_each
    passed = ((share - before) / share_of_each.clamp(min=_TINY)).clamp(0, 1)
    return passed.mean(dim=-1)


def _ends(mass: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both ends of profiles, `(..., N)` to `(...)` twice: exact for even ones, and blind to specks."""
    low, high = mass_quantile(mass, TRIMMED), mass_quantile(mass, 1 - TRIMMED)
    beyond = (high - low) * (TRIMMED / (1 - 2 * TRIMMED))
    return low - beyond, high + beyond


def _centers(count: int, like: torch.Tensor) -> torch.Tensor:
    return (torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) / count


def split_lungs(lungs: torch.Tensor) -> torch.Tensor:
    """Split a map of both lungs into one for each, half-way between their outer edges.

    One lung alone is on one side of the image's middle, and not to be split.

    Args:
        lungs: Probability of lung, `(B, 1, R, C)`.

    Returns:
        The lung on the image's left and that on its right, `(B, 2, R, C)`.

    Example:
        >>> split_lungs(torch.tensor([[[[0.0, 1.0, 0.0, 1.0]]]])).int().tolist()
        [[[[0, 1, 0, 0]], [[0, 0, 0, 1]]]]
    """
    left, right = _ends(lungs.sum(dim=(1, 2)))  # (B,)
    middle = torch.where(right - left > LEAST_BOTH, (left + right) / 2, torch.full_like(left, 0.5))
    on_the_left = (_centers(lungs.shape[-1], lungs) < middle.reshape(-1, 1, 1, 1)).to(lungs.dtype)
    return torch.cat([lungs * on_the_left, lungs * (1 - on_the_left)], dim=1)


def find_box(lungs: torch.Tensor) -> Box:
    """Find the rectangle around both lungs; the whole image where there is none.

    Args:
        lungs: Probability of lung, `(B, 1, R, C)`.

    Example:
        >>> lungs = torch.zeros(1, 1, 10, 10)
        >>> lungs[..., 2:8, 1:9] = 1
        >>> [round(side.item(), 2) for side in find_box(lungs)]
        [0.2, 0.8, 0.1, 0.9]
    """
    sure = _sure(lungs)
    found = sure.mean(dim=(1, 2, 3)) > LEAST_MASS
    vertical, horizontal = _ends(sure.sum(dim=(1, 3))), _ends(sure.sum(dim=(1, 2)))
    nowhere, everywhere = torch.zeros_like(vertical[0]), torch.ones_like(vertical[0])
    sides = zip((*vertical, *horizontal), (nowhere, everywhere) * 2, strict=True)
    return Box(*(torch.where(found, side, other) for side, other in sides))


def _sure(lungs: torch.Tensor) -> torch.Tensor:
    """Return the probability where lung is more likely than not, 0 elsewhere."""
    return lungs * (lungs > 0.5).to(lungs.dtype)  # noqa: PLR2004  # more likely than not


def lungs_present(lungs: torch.Tensor) -> torch.Tensor:
    """Tell which lungs are found at all, `(B, 2)`, the one on the image's left first.

    Args:
        lungs: Probability of lung, `(B, 1, R, C)`.

    Example:
        >>> lungs = torch.zeros(1, 1, 10, 10)
        >>> lungs[..., 2:8, 1:4] = 1
        >>> lungs[..., 0, 9] = 1  # a speck
        >>> lungs_present(lungs).tolist()
        [[True, False]]
    """
    return _are_large(split_lungs(_sure(lungs)))


def _are_large(each: torch.Tensor) -> torch.Tensor:
    """Tell which of two lungs, `(B, 2, R, C)`, have the mass of one, `(B, 2)`."""
    return each.mean(dim=(2, 3)) > LEAST_MASS


def find_rows(lungs: torch.Tensor, standard: Rows) -> Rows:
    """Find each lung's ends, and its smoothed edges in each row.

    Args:
        lungs: Probability of lung, `(B, 1, R, C)`.
        standard: Where the lungs of healthy people are, of batch size 1 and as many rows; it stands in for a lung that
            is not found.

    Example:
        >>> lungs = torch.zeros(1, 1, 50, 50)
        >>> lungs[..., 10:40, 5:20] = lungs[..., 10:40, 30:45] = 1
        >>> rows = find_rows(lungs, standard_rows(50))
        >>> [round(side[0, 1, ...].mean().item(), 2) for side in rows]
        [0.2, 0.8, 0.6, 0.9]
    """
    each = split_lungs(_sure(lungs))  # (B, 2, R, C)
    found = _are_large(each)
    of_row = each.sum(dim=3)  # (B, 2, R)
    top, bottom = _ends(of_row)
    left, right = (_smooth_along_rows(edge, of_row) for edge in _ends(each))
    left, right = _at_least_wide(left, right, each)
    sides = zip((top, bottom), standard[:2], strict=True)
    edges = zip((left, right), standard[2:], strict=True)
    return Rows(
        *(torch.where(found, side, other) for side, other in sides),
        *(torch.where(found.unsqueeze(2), edge, other) for edge, other in edges),
    )


def _smooth_along_rows(edges: torch.Tensor, of_row: torch.Tensor) -> torch.Tensor:
    """Smooth edges along the rows, `(B, 2, R)`; rows without mass take the nearest ones."""
    count = of_row.shape[-1]
    rows = _centers(count, of_row)
    away = (rows.reshape(-1, 1) - rows.reshape(1, -1)).abs() / EDGE_SIGMA  # in standard deviations
    kernel = torch.exp(-(away**2) / 2) + _TINY * torch.exp(-away)  # the tails reach beyond the lung's ends
    weight = (of_row > 0).to(of_row.dtype)  # (B, 2, R)
    return ((edges * weight) @ kernel) / (weight @ kernel).clamp(min=_TINIEST)


def _at_least_wide(left: torch.Tensor, right: torch.Tensor, each: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Widen rows around their middle to the least share of the lung's width."""
    outer_left, outer_right = _ends(each.sum(dim=2))  # (B, 2)
    least = (outer_right - outer_left).reshape(-1, 2, 1) * MIN_ROW_WIDTH
    middle, half = (left + right) / 2, torch.maximum(right - left, least) / 2
    return middle - half, middle + half


def standard_rows(count: int) -> Rows:
    """Return upright lungs of usual size and place, for an image with so many rows; batch size 1."""
    top, bottom = torch.full((1, 2), 0.15), torch.full((1, 2), 0.85)
    left, right = torch.tensor([0.12, 0.55]), torch.tensor([0.45, 0.88])
    return Rows(top, bottom, *(edge.reshape(1, 2, 1).expand(1, 2, count) for edge in (left, right)))


def box_grid(box: Box, size: tuple[int, int]) -> torch.Tensor:
    """Return where the pixels of a box's frame lie in the image, `(B, H, W, 2)`; see :func:`rows_grid`."""
    down, across = (_across(count, box.top) for count in size)
    y = box.top.unsqueeze(1) + (box.bottom - box.top).unsqueeze(1) * down  # (B, H)
    x = box.left.unsqueeze(1) + (box.right - box.left).unsqueeze(1) * across  # (B, W)
    return _grid(x.unsqueeze(1), y.unsqueeze(2))


def rows_grid(rows: Rows, size: tuple[int, int]) -> torch.Tensor:
    """Return where the pixels of the rows' frame lie in the image, as `grid_sample` wants it.

    The frame shows both lungs side by side, each stretched to a rectangle: from end to end, and in each row from edge
    to edge, with a margin on all sides.

    Args:
        rows: Ends and edges of the lungs.
        size: Rows and columns of the frame; half of the columns for each lung.

    Returns:
        `(B, H, W, 2)`, x and y in [-1, 1] inside the image.

    Example:
        >>> rows_grid(standard_rows(10), (4, 6)).shape
        torch.Size([1, 4, 6, 2])
    """
    down, across = _across(size[0], rows.top), _across(size[1] // 2, rows.top)
    y = rows.top.unsqueeze(2) + (rows.bottom - rows.top).unsqueeze(2) * down  # (B, 2, H)
    left, right = _at(rows.left, y), _at(rows.right, y)  # (B, 2, H)
    x = left.unsqueeze(3) + (right - left).unsqueeze(3) * across  # (B, 2, H, W / 2)
    grids = _grid(x, y.unsqueeze(3))
    return torch.cat([grids[:, 0], grids[:, 1]], dim=2)


def to_frame(images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Sample images, `(B, C, h, w)`, at a grid, `(B, H, W, 2)`: `(B, C, H, W)`; beyond the border as on it."""
    return functional.grid_sample(images, grid, align_corners=False, padding_mode="border")


def from_box(frames: torch.Tensor, box: Box, size: tuple[int, int]) -> torch.Tensor:
    """Warp what is in a box's frame back onto the image: the inverse of :func:`to_frame`; 0 outside the frame.

    Args:
        frames: Maps in the frame, `(B, C, H, W)`.
        box: The box of each image.
        size: Height and width of the image.

    Returns:
        Maps on the image, `(B, C, *size)`.
    """
    y, x = (_centers(count, frames).reshape(1, -1) for count in size)
    y = (y - box.top.unsqueeze(1)) / (box.bottom - box.top).unsqueeze(1)  # (B, h)
    x = (x - box.left.unsqueeze(1)) / (box.right - box.left).unsqueeze(1)  # (B, w)
    return _sample_inside(frames, _grid(_in_frame(x).unsqueeze(1), _in_frame(y).unsqueeze(2)))


def from_rows(frames: torch.Tensor, rows: Rows, size: tuple[int, int]) -> torch.Tensor:
    """Warp what is in the rows' frame back onto the image: the inverse of :func:`to_frame`; 0 outside both lungs.

    Args:
        frames: Maps in the frame, at least 0, `(B, C, H, W)`.
        rows: Ends and edges of the lungs of each image.
        size: Height and width of the image.

    Returns:
        Maps on the image, `(B, C, *size)`; the greater value where the margins of both lungs overlap.
    """
    y, x = (_centers(count, frames) for count in size)
    y = y.reshape(1, 1, -1).expand(*rows.top.shape, -1)  # (B, 2, h)
    left, right = _at(rows.left, y).unsqueeze(3), _at(rows.right, y).unsqueeze(3)  # (B, 2, h, 1)
    down = (y - rows.top.unsqueeze(2)) / (rows.bottom - rows.top).unsqueeze(2)
    across = (x - left) / (right - left)  # (B, 2, h, w)
    grids = _grid(_in_frame(across), _in_frame(down).unsqueeze(3))  # (B, 2, h, w, 2)
    halves = torch.unflatten(frames, 3, (2, -1)).movedim(3, 0)  # (2, B, C, H, W / 2)
    one, other = (_sample_inside(halves[lung], grids[:, lung]) for lung in (0, 1))
    return torch.maximum(one, other)


def _across(count: int, like: torch.Tensor) -> torch.Tensor:
    """Return where the centers of so many pixels lie in the lungs, `(count,)`: from 0 to 1, and the margins beyond."""
    return _centers(count, like) * (1 + 2 * MARGIN) - MARGIN


def _in_frame(across: torch.Tensor) -> torch.Tensor:
    """Return where positions in the lungs lie in the frame, from 0 to 1."""
    return (across + MARGIN) / (1 + 2 * MARGIN)


def _at(edges: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Interpolate edges, `(B, 2, R)`, at heights, `(B, 2, H)`; beyond the first and the last row as there."""
    count = edges.shape[-1]
    row = (y * count - 0.5).clamp(0, count - 1)
    away = row.unsqueeze(2) - torch.arange(count, device=y.device, dtype=y.dtype).reshape(1, 1, -1, 1)
    return (edges.unsqueeze(2) @ (1 - away.abs()).clamp(min=0)).squeeze(2)


def _grid(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Put positions from 0 to 1 that broadcast against each other into a grid, `(..., 2)`."""
    size = (y.shape[-2], x.shape[-1])
    spread = torch.ones(size, device=x.device, dtype=x.dtype)  # OpenVINO rounds what is only repeated
    both = torch.cat([x * spread, y * spread], dim=-1) * 2 - 1
    return torch.unflatten(both, -1, (2, size[1])).transpose(-2, -1)


def _sample_inside(frames: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Sample frames at a grid; 0 outside them."""
    inside = (grid.abs() <= 1).all(dim=-1).unsqueeze(1).to(frames.dtype)  # (B, 1, h, w)
    return to_frame(frames, grid) * inside


def frame_lung_mask(size: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
    """Return 1 where a frame of rows shows lung, 0 in the margins around each of them.

    Args:
        size: Rows and columns of the frame; half of the columns for each lung.
        like: A tensor of the wanted type, on the wanted device.

    Returns:
        `(H, W)`.

    Example:
        >>> frame_lung_mask((10, 20), torch.zeros(1)).int()[:2, :10].tolist()
        [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1, 1, 1, 1, 0]]
    """
    share = MARGIN / (1 + 2 * MARGIN)
    rows, columns = (round(share * count) for count in (size[0], size[1] // 2))
    lung = torch.ones(size[0] - 2 * rows, size[1] // 2 - 2 * columns, device=like.device, dtype=like.dtype)
    one = functional.pad(lung, (columns, columns, rows, rows))
    return torch.cat([one, one], dim=1)


def stack_lungs(frames: torch.Tensor) -> torch.Tensor:
    """Put the lungs of frames in a batch, so that neither reaches over: `(B, C, H, W)` to `(2B, C, H, W / 2)`.

    Example:
        >>> stack_lungs(torch.tensor([[[[1.0, 2.0]]]])).flatten().tolist()
        [1.0, 2.0]
    """
    return torch.unflatten(frames, 3, (2, -1)).permute(3, 0, 1, 2, 4).flatten(0, 1)  # OpenVINO rounds what is split


def unstack_lungs(lungs: torch.Tensor) -> torch.Tensor:
    """Put lungs side by side again, `(2B, C, H, W)` to `(B, C, H, 2W)`; the inverse of :func:`stack_lungs`.

    Example:
        >>> frames = torch.rand(3, 1, 4, 6)
        >>> torch.equal(unstack_lungs(stack_lungs(frames)), frames)
        True
    """
    both = torch.unflatten(lungs, 0, (2, -1))
    return torch.cat([both[0], both[1]], dim=3)
