"""Augmentation of healthy lungs: affine transforms in the frame."""

from __future__ import annotations

import torch
from torch.nn import functional

from anomalib_cxr.functional.frames import stack_lungs, unstack_lungs

SCALE, TURN, SHIFT = 0.1, 0.07, 0.06
"""Greatest change of a side, greatest turn in radians, greatest shift in shares of half the frame."""

ENOUGH, MOST_COPIES, STRENGTH, _SEED = 2500, 9, 0.5, 0
"""Images from which on moved copies add nothing to a subspace of healthy lungs, copies of each at most, their strength,
and the seed of the transforms."""


def moved_copies(frames: torch.Tensor) -> torch.Tensor:
    """Add copies to few frames, each lung moved a little, so that a subspace covers the positions of lungs.

    Args:
        frames: Healthy lungs, `(N, 1, H, W)`.

    Returns:
        The frames, and at most 9 copies of each after them, of other places, sizes and turns each time; fewer where
        there would be more than 2500 copies in all.

    Example:
        >>> moved_copies(torch.rand(3, 1, 8, 8)).shape
        torch.Size([30, 1, 8, 8])
    """
    draw = torch.Generator().manual_seed(_SEED)
    copies = min(MOST_COPIES, ENOUGH // len(frames))
    return torch.cat([frames, *(unstack_lungs(move(stack_lungs(frames), STRENGTH, draw)) for _ in range(copies))])


def uniform(count: int, low: float, high: float, draw: torch.Generator) -> torch.Tensor:
    """Draw one number for each image.

    Args:
        count: Number of images.
        low: Lower bound.
        high: Upper bound.
        draw: Source of random numbers.

    Returns:
        `(B, 1, 1, 1)`.
    """
    return torch.rand(count, 1, 1, 1, generator=draw) * (high - low) + low


def move(images: torch.Tensor, strength: float, draw: torch.Generator) -> torch.Tensor:
    """Scale, turn and shift images, all channels alike; pixels beyond the border repeat it.

    Args:
        images: Images of any range, `(B, C, H, W)`.
        strength: 1 for the full range of the draws, 0 for none.
        draw: Source of random numbers.

    Returns:
        Moved images, `(B, C, H, W)`.
    """

    def vary(width: float) -> torch.Tensor:
        return uniform(len(images), -strength * width, strength * width, draw).flatten()

    scale_x, scale_y, turn, shift_x, shift_y = 1 + vary(SCALE), 1 + vary(SCALE), vary(TURN), vary(SHIFT), vary(SHIFT)
    rows = [turn.cos() * scale_x, -turn.sin() * scale_x, shift_x, turn.sin() * scale_y, turn.cos() * scale_y, shift_y]
    theta = torch.stack(rows, dim=1).reshape(-1, 2, 3).to(images)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False, padding_mode="border")
