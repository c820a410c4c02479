"""Canonical frames of the lungs: sampling grids, warps into a frame and back, and its layout.

All steps are sums, products and comparisons, so that an exported graph computes the same.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from .alignment import Box, Rows, pixel_centers

MARGIN = 0.06
"""Margin of a frame beyond the lungs on each side (share of their extent)."""


def box_grid(box: Box, size: tuple[int, int]) -> torch.Tensor:
    """Return the sampling grid of a frame that shows the box of both lungs, with a margin.

    Args:
        box: Box of each image.
        size: Rows and columns of the frame.

    Returns:
        Positions x and y in the image, in [-1, 1], `(B, H, W, 2)`, for :func:`to_frame`.
    """
    down, across = (_lung_positions(count, box.top) for count in size)
    y = box.top.unsqueeze(1) + (box.bottom - box.top).unsqueeze(1) * down  # (B, H)
    x = box.left.unsqueeze(1) + (box.right - box.left).unsqueeze(1) * across  # (B, W)
    return _grid(x.unsqueeze(1), y.unsqueeze(2))


def rows_grid(rows: Rows, size: tuple[int, int]) -> torch.Tensor:
    """Return the sampling grid of a frame that shows both lungs side by side, each stretched to a rectangle.

    A lung is stretched from end to end, and in each row from edge to edge; a margin is added on all sides.

    Args:
        rows: Ends and edges of the lungs.
        size: Rows and columns of the frame; half of the columns for each lung.

    Returns:
        Positions x and y in the image, in [-1, 1], `(B, H, W, 2)`, for :func:`to_frame`.

    Example:
        >>> from anomalib_cxr.functional.alignment import standard_rows
        >>> rows_grid(standard_rows(10), (4, 6)).shape
        torch.Size([1, 4, 6, 2])
    """
    down, across = _lung_positions(size[0], rows.top), _lung_positions(size[1] // 2, rows.top)
    y = rows.top.unsqueeze(2) + (rows.bottom - rows.top).unsqueeze(2) * down  # (B, 2, H)
    left, right = _interpolate(rows.left, y), _interpolate(rows.right, y)  # (B, 2, H)
    x = left.unsqueeze(3) + (right - left).unsqueeze(3) * across  # (B, 2, H, W / 2)
    grids = _grid(x, y.unsqueeze(3))
    return torch.cat([grids[:, 0], grids[:, 1]], dim=2)


def to_frame(images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Sample images at a grid; the border is continued beyond the image.

    Args:
        images: Images, `(B, C, h, w)`.
        grid: Grid of :func:`box_grid` or :func:`rows_grid`, `(B, H, W, 2)`.

    Returns:
        Frames, `(B, C, H, W)`.
    """
    return functional.grid_sample(images, grid, align_corners=False, padding_mode="border")


def from_box(frames: torch.Tensor, box: Box, size: tuple[int, int]) -> torch.Tensor:
    """Warp maps in the frame of a box back onto the image: the inverse of :func:`to_frame`.

    Args:
        frames: Maps in the frame, `(B, C, H, W)`.
        box: Box of each image.
        size: Height and width of the image.

    Returns:
        Maps on the image, `(B, C, *size)`; 0 outside the frame.
    """
    y, x = (pixel_centers(count, frames).reshape(1, -1) for count in size)
    y = (y - box.top.unsqueeze(1)) / (box.bottom - box.top).unsqueeze(1)  # (B, h)
    x = (x - box.left.unsqueeze(1)) / (box.right - box.left).unsqueeze(1)  # (B, w)
    return _sample_inside(frames, _grid(_frame_positions(x).unsqueeze(1), _frame_positions(y).unsqueeze(2)))


def from_rows(frames: torch.Tensor, rows: Rows, size: tuple[int, int]) -> torch.Tensor:
    """Warp maps in the frame of rows back onto the image: the inverse of :func:`to_frame`.

    Args:
        frames: Non-negative maps in the frame, `(B, C, H, W)`.
        rows: Ends and edges of the lungs of each image.
        size: Height and width of the image.

    Returns:
        Maps on the image, `(B, C, *size)`; 0 outside both lungs, the maximum where their margins overlap.
    """
    y, x = (pixel_centers(count, frames) for count in size)
    y = y.reshape(1, 1, -1).expand(*rows.top.shape, -1)  # (B, 2, h)
    left, right = _interpolate(rows.left, y).unsqueeze(3), _interpolate(rows.right, y).unsqueeze(3)  # (B, 2, h, 1)
    down = (y - rows.top.unsqueeze(2)) / (rows.bottom - rows.top).unsqueeze(2)
    across = (x - left) / (right - left)  # (B, 2, h, w)
    grids = _grid(_frame_positions(across), _frame_positions(down).unsqueeze(3))  # (B, 2, h, w, 2)
    one, other = (_sample_inside(half, grids[:, lung]) for lung, half in enumerate(frames.chunk(2, dim=3)))
    return torch.maximum(one, other)


def _lung_positions(count: int, like: torch.Tensor) -> torch.Tensor:
    """Return the positions of a frame's pixel centers in the lungs, `(count,)`: 0 to 1, and the margins beyond."""
    return pixel_centers(count, like) * (1 + 2 * MARGIN) - MARGIN


def _frame_positions(positions: torch.Tensor) -> torch.Tensor:
    """Convert positions in the lungs to positions in the frame, 0 to 1."""
    return (positions + MARGIN) / (1 + 2 * MARGIN)


def _interpolate(edges: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Interpolate edges, `(B, 2, R)`, at heights, `(B, 2, H)`; the first and last row are continued."""
    count = edges.shape[-1]
    row = (y * count - 0.5).clamp(0, count - 1)
    distance = row.unsqueeze(2) - torch.arange(count, device=y.device, dtype=y.dtype).reshape(1, 1, -1, 1)
    return (edges.unsqueeze(2) @ (1 - distance.abs()).clamp(min=0)).squeeze(2)


def _grid(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Combine positions in 0 to 1 that broadcast against each other into a grid, `(..., 2)`."""
    return torch.stack(torch.broadcast_tensors(x, y), dim=-1) * 2 - 1  # type: ignore[no-untyped-call]


def _sample_inside(frames: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Sample frames at a grid; 0 outside them."""
    inside = (grid.abs() <= 1).all(dim=-1).unsqueeze(1).to(frames.dtype)  # (B, 1, h, w)
    return to_frame(frames, grid) * inside


def frame_lung_mask(size: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
    """Return the mask of both lungs in a frame of rows.

    Args:
        size: Rows and columns of the frame; half of the columns for each lung.
        like: Tensor of the wanted type, on the wanted device.

    Returns:
        1 in the lungs, 0 in the margin around each of them, `(H, W)`.

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
    """Stack the lungs of frames along the batch, so that filters do not reach from one to the other.

    Args:
        frames: Frames of rows, `(B, C, H, W)`.

    Returns:
        The left halves of all frames, then the right ones, `(2B, C, H, W / 2)`.

    Example:
        >>> stack_lungs(torch.tensor([[[[1.0, 2.0]]]])).flatten().tolist()
        [1.0, 2.0]
    """
    return torch.cat(frames.chunk(2, dim=3))


def unstack_lungs(lungs: torch.Tensor) -> torch.Tensor:
    """Put stacked lungs side by side again: the inverse of :func:`stack_lungs`.

    Args:
        lungs: Stacked lungs, `(2B, C, H, W)`.

    Returns:
        Frames, `(B, C, H, 2W)`.

    Example:
        >>> frames = torch.rand(3, 1, 4, 6)
        >>> torch.equal(unstack_lungs(stack_lungs(frames)), frames)
        True
    """
    left, right = torch.unflatten(lungs, 0, (2, -1))  # a chunk would fix the batch size of an export
    return torch.cat([left, right], dim=3)
