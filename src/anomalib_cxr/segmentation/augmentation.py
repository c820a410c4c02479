"""What a batch of X-rays and lung masks goes through before the segmenter sees it."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

TURN = math.radians(10)
SCALE = 0.15
SHIFT = 0.1  # of half the side
GAMMA = 0.5  # of the exponent's logarithm
OPAQUE_SHARE = 0.5
"""Share of the images that get an opacity."""
_GRAIN = 6  # independent values along a side of an opacity


def augment(images: torch.Tensor, masks: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Move, mirror, expose and veil a batch at random.

    The veils are smooth opacities in the lungs; the target stays the whole lung, so that disease does not shrink the
    lung that is found.

    Args:
        images: X-rays in [-1, 1], `(B, 1, H, W)`.
        masks: Their lungs, from 0 to 1, `(B, 1, H, W)`.
        generator: Source of the draws, on the CPU, so that they are the same on every device.

    Returns:
        Images in [-1, 1] and masks, moved alike, of the same shapes.

    Example:
        >>> images, masks = torch.zeros(2, 1, 32, 32), torch.ones(2, 1, 32, 32)
        >>> image, mask = augment(images, masks, torch.Generator().manual_seed(0))
        >>> image.shape, mask.shape, bool((mask < 1).any())  # what came in from beyond the edge is no lung
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 1, 32, 32]), True)
    """
    light = (images + 1) / 2  # [0, 1]
    moved = _move(torch.cat([light, masks], dim=1), generator)
    light, masks = moved[:, :1].clamp(0, 1), moved[:, 1:]
    light = _veil(light, masks, generator) ** _uniform(len(images), GAMMA, generator, light).exp()
    return 2 * light - 1, masks


def _uniform(count: int, width: float, generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    """Draw one number of [-width, width] for each image, `(B, 1, 1, 1)`."""
    return (torch.rand(count, 1, 1, 1, generator=generator) * 2 - 1).mul(width).to(like)


def _move(both: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn, scale each side by itself, shift and mirror; black comes in from beyond the edge."""

    def draw(width: float) -> torch.Tensor:
        return _uniform(len(both), width, generator, both).flatten()

    turn, shift_x, shift_y = draw(TURN), draw(SHIFT), draw(SHIFT)
    scale_x, scale_y = draw(SCALE).exp().copysign(draw(1)), draw(SCALE).exp()
    rows = [turn.cos() * scale_x, -turn.sin() * scale_y, shift_x, turn.sin() * scale_x, turn.cos() * scale_y, shift_y]
    theta = torch.stack(rows, dim=1).reshape(-1, 2, 3)
    grid = functional.affine_grid(theta, list(both.shape), align_corners=False)
    return functional.grid_sample(both, grid, align_corners=False)


def _veil(light: torch.Tensor, masks: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Let a smooth field of clouds, denser towards the bottom in some, hide part of the lungs of some images."""
    count, side = len(light), light.shape[-2:]
    field = torch.randn(count, 1, _GRAIN, _GRAIN, generator=generator).to(light)
    slope = torch.linspace(-1, 1, _GRAIN).to(light).reshape(-1, 1) * _uniform(count, 2, generator, light)
    clouds = functional.interpolate(field + slope, size=side, mode="bicubic", align_corners=False)
    sharpness, threshold = _uniform(count, 1, generator, light).exp() * 3, _uniform(count, 1, generator, light)
    density = torch.rand(count, 1, 1, 1, generator=generator).to(light)
    chosen = (torch.rand(count, 1, 1, 1, generator=generator) < OPAQUE_SHARE).to(light)
    white = torch.rand(count, 1, 1, 1, generator=generator).to(light) * 0.5 + 0.5
    opacity = chosen * density * masks * torch.sigmoid(sharpness * (clouds - threshold))
    return light + opacity * (white - light)
