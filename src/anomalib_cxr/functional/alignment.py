"""Position of the lungs in an X-ray, from the probability map of a segmenter.

Ends and edges are quantiles of the probability's mass: unlike connected components they can be exported, and specks
with little mass do not move them. Positions are shares of the image's height and width, 0 at the upper left corner, 1
at the lower right.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

Alignment = Literal["none", "box", "rows"]
ALIGNMENTS: tuple[Alignment, ...] = ("none", "box", "rows")

TRIM = 0.02
"""Share of a profile's mass at either end that is ignored when its ends are located."""
MIN_TWO_LUNGS_WIDTH = 0.43
"""Minimum horizontal extent of two lungs (share of the image's width); below it one lung is assumed. In 674 true masks
one lung extends over at most 0.43, both over at least 0.40."""
MIN_ROW_WIDTH = 0.45
"""Minimum width of a row of a lung (share of the lung's width); narrower rows, as at the apex, are widened."""
EDGE_SIGMA = 0.03
"""Standard deviation of the Gaussian that smooths the lungs' edges along the rows (share of the height)."""
MIN_LUNG_AREA = 0.015
"""Minimum area of a lung (share of the image); a smaller one counts as missing."""
_EPSILON, _MIN_WEIGHT = 1e-6, 1e-30  # lower bounds of divisors, reached without mass only


class Box(NamedTuple):
    """Bounding box of both lungs; each side is `(B,)`."""

    top: torch.Tensor
    bottom: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor


class Rows(NamedTuple):
    """Upper and lower end of each lung, `(B, 2)`, and its edges in each row of the image, `(B, 2, R)`.

    The lung on the image's left comes first.
    """

    top: torch.Tensor
    bottom: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor


def mass_quantile(mass: torch.Tensor, share: float) -> torch.Tensor:
    """Return a quantile of the mass of profiles, each pixel's mass being spread evenly over the pixel.

    Args:
        mass: Non-negative profiles, `(..., N)`.
        share: Order of the quantile, in (0, 1).

    Returns:
        Positions from 0 to 1, `(...)`; 1 for profiles without mass.

    Example:
        >>> mass_quantile(torch.tensor([0.0, 2.0, 2.0, 0.0]), 0.25)
        tensor(0.3750)
    """
    density = mass / mass.sum(dim=-1, keepdim=True).clamp(min=_EPSILON)
    before = density.cumsum(dim=-1) - density
    passed = ((share - before) / density.clamp(min=_EPSILON)).clamp(0, 1)
    return passed.mean(dim=-1)


def _ends(mass: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both ends of profiles, `(..., N)` to twice `(...)`; exact for uniform ones, robust against specks."""
    low, high = mass_quantile(mass, TRIM), mass_quantile(mass, 1 - TRIM)
    beyond = (high - low) * (TRIM / (1 - 2 * TRIM))
    return low - beyond, high + beyond


def pixel_centers(count: int, like: torch.Tensor) -> torch.Tensor:
    """Return the centers of pixels in a row.

    Args:
        count: Number of pixels.
        like: Tensor of the wanted type, on the wanted device.

    Returns:
        Positions in (0, 1), `(count,)`.

    Example:
        >>> pixel_centers(2, torch.zeros(1))
        tensor([0.2500, 0.7500])
    """
    return (torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) / count


def split_lungs(lungs: torch.Tensor) -> torch.Tensor:
    """Split a map of both lungs half-way between their outer edges.

    A single lung is not split: it is assigned to a side by the image's middle.

    Args:
        lungs: Probability of lung, `(B, 1, R, C)`.

    Returns:
        The lung on the image's left and the one on its right, `(B, 2, R, C)`.

    Example:
        >>> split_lungs(torch.tensor([[[[0.0, 1.0, 0.0, 1.0]]]])).int().tolist()
        [[[[0, 1, 0, 0]], [[0, 0, 0, 1]]]]
    """
    left, right = _ends(lungs.sum(dim=(1, 2)))  # (B,)
    middle = torch.where(right - left > MIN_TWO_LUNGS_WIDTH, (left + right) / 2, torch.full_like(left, 0.5))
    on_the_left = (pixel_centers(lungs.shape[-1], lungs) < middle.reshape(-1, 1, 1, 1)).to(lungs.dtype)
    return torch.cat([lungs * on_the_left, lungs * (1 - on_the_left)], dim=1)


def find_box(lungs: torch.Tensor) -> Box:
    """Find the bounding box of both lungs.

    Args:
        lungs: Probability of lung, `(B, 1, R, C)`.

    Returns:
        The box; the whole image where there is no lung.

    Example:
        >>> lungs = torch.zeros(1, 1, 10, 10)
        >>> lungs[..., 2:8, 1:9] = 1
        >>> [round(side.item(), 2) for side in find_box(lungs)]
        [0.2, 0.8, 0.1, 0.9]
    """
    likely = _likely(lungs)
    present = likely.mean(dim=(1, 2, 3)) > MIN_LUNG_AREA
    vertical, horizontal = _ends(likely.sum(dim=(1, 3))), _ends(likely.sum(dim=(1, 2)))
    first, last = torch.zeros_like(vertical[0]), torch.ones_like(vertical[0])
    sides = zip((*vertical, *horizontal), (first, last) * 2, strict=True)
    return Box(*(torch.where(present, side, border) for side, border in sides))


def _likely(lungs: torch.Tensor) -> torch.Tensor:
    """Return the probability where lung is more likely than not, 0 elsewhere."""
    return lungs * (lungs > 0.5).to(lungs.dtype)  # noqa: PLR2004  # more likely than not


def lungs_present(lungs: torch.Tensor) -> torch.Tensor:
    """Tell whether each lung is present.

    Args:
        lungs: Probability of lung, `(B, 1, R, C)`.

    Returns:
        Bool, `(B, 2)`, the lung on the image's left first.

    Example:
        >>> lungs = torch.zeros(1, 1, 10, 10)
        >>> lungs[..., 2:8, 1:4] = 1
        >>> lungs[..., 0, 9] = 1  # a speck
        >>> lungs_present(lungs).tolist()
        [[True, False]]
    """
    return _are_large(split_lungs(_likely(lungs)))


def _are_large(pair: torch.Tensor) -> torch.Tensor:
    """Tell which of two lungs, `(B, 2, R, C)`, have the minimum area, `(B, 2)`."""
    return pair.mean(dim=(2, 3)) > MIN_LUNG_AREA


def find_rows(lungs: torch.Tensor, standard: Rows) -> Rows:
    """Find the ends of each lung, and its smoothed edges in each row.

    Args:
        lungs: Probability of lung, `(B, 1, R, C)`.
        standard: Position of healthy lungs, of batch size 1 and `R` rows; it replaces a lung that is missing.

    Returns:
        Ends and edges.

    Example:
        >>> lungs = torch.zeros(1, 1, 50, 50)
        >>> lungs[..., 10:40, 5:20] = lungs[..., 10:40, 30:45] = 1
        >>> rows = find_rows(lungs, standard_rows(50))
        >>> [round(side[0, 1, ...].mean().item(), 2) for side in rows]
        [0.2, 0.8, 0.6, 0.9]
    """
    pair = split_lungs(_likely(lungs))  # (B, 2, R, C)
    present = _are_large(pair)
    row_mass = pair.sum(dim=3)  # (B, 2, R)
    top, bottom = _ends(row_mass)
    left, right = (_smooth_along_rows(edge, row_mass) for edge in _ends(pair))
    left, right = _widen_narrow_rows(left, right, pair)
    ends = zip((top, bottom), standard[:2], strict=True)
    edges = zip((left, right), standard[2:], strict=True)
    return Rows(
        *(torch.where(present, end, default) for end, default in ends),
        *(torch.where(present.unsqueeze(2), edge, default) for edge, default in edges),
    )


def _smooth_along_rows(edges: torch.Tensor, row_mass: torch.Tensor) -> torch.Tensor:
    """Smooth edges along the rows, `(B, 2, R)`; rows without mass take the edges of the nearest rows."""
    count = row_mass.shape[-1]
    rows = pixel_centers(count, row_mass)
    distance = (rows.reshape(-1, 1) - rows.reshape(1, -1)).abs() / EDGE_SIGMA
    kernel = torch.exp(-(distance**2) / 2) + _EPSILON * torch.exp(-distance)  # the tails reach beyond the lung's ends
    weight = (row_mass > 0).to(row_mass.dtype)  # (B, 2, R)
    return ((edges * weight) @ kernel) / (weight @ kernel).clamp(min=_MIN_WEIGHT)


def _widen_narrow_rows(
    left: torch.Tensor, right: torch.Tensor, pair: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Widen rows around their middle to the minimum share of the lung's width."""
    outer_left, outer_right = _ends(pair.sum(dim=2))  # (B, 2)
    min_width = (outer_right - outer_left).reshape(-1, 2, 1) * MIN_ROW_WIDTH
    middle, half = (left + right) / 2, torch.maximum(right - left, min_width) / 2
    return middle - half, middle + half


def standard_rows(count: int) -> Rows:
    """Return upright lungs of usual size and position.

    Args:
        count: Rows of the image.

    Returns:
        Ends and edges, of batch size 1.
    """
    top, bottom = torch.full((1, 2), 0.15), torch.full((1, 2), 0.85)
    left, right = torch.tensor([0.12, 0.55]), torch.tensor([0.45, 0.88])
    return Rows(top, bottom, *(edge.reshape(1, 2, 1).expand(1, 2, count) for edge in (left, right)))
