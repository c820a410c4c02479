"""Filters that answer to spots and edges."""

from __future__ import annotations

import math

import torch

POOLED = 4
"""Side of the squares, in pixels, over which the energy of an answer is taken."""
SPOTS = (1.0, 2.0, 3.5)
EDGES = (1.5, 3.0)
"""Standard deviations, in pixels, of the spots and across the edges that are looked for."""
N_DIRECTIONS = 6
_REACH = 12  # px: what a filter of the largest standard deviation covers


def texture_filters() -> torch.Tensor:
    """Return 3 differences of Gaussians, for spots, and 12 second derivatives, for lines, `(15, 1, 25, 25)`.

    None answers to a flat field.
    """
    away = torch.arange(-_REACH, _REACH + 1, dtype=torch.float32)
    y, x = torch.meshgrid(away, away, indexing="ij")
    spots = [_gaussian(x, y, sigma) - _gaussian(x, y, 1.6 * sigma) for sigma in SPOTS]
    turns = [math.pi * step / N_DIRECTIONS for step in range(N_DIRECTIONS)]
    lines = [_line(x, y, sigma, turn) for sigma in EDGES for turn in turns]
    return torch.stack([*spots, *lines]).unsqueeze(1)


def _gaussian(x: torch.Tensor, y: torch.Tensor, sigma: float) -> torch.Tensor:
    density = torch.exp(-(x**2 + y**2) / (2 * sigma**2))
    return density / density.sum()


def _line(x: torch.Tensor, y: torch.Tensor, sigma: float, turn: float) -> torch.Tensor:
    """Return a Gaussian twice as long as wide, derived twice across, of absolute sum 1 and mean 0."""
    across, along = math.cos(turn) * x + math.sin(turn) * y, math.cos(turn) * y - math.sin(turn) * x
    line = (across**2 / sigma**4 - 1 / sigma**2) * torch.exp(-(across**2 / sigma**2 + along**2 / (2 * sigma) ** 2) / 2)
    line = line - line.mean()
    return line / line.abs().sum()


def mirrored(images: torch.Tensor, reach: int) -> torch.Tensor:
    """Go on beyond the borders of images, `(B, C, H, W)`, by so many pixels, mirrored at the outermost ones.

    As torch's own padding does, by indices: OpenVINO does not keep a padding in float32.

    Example:
        >>> mirrored(torch.tensor([[[[1.0, 2.0, 3.0]] * 3]]), 2)[0, 0, 0]
        tensor([3., 2., 1., 2., 3., 2., 1.])
    """
    rows, columns = (_mirror(count, reach).to(images.device) for count in images.shape[-2:])
    return images[:, :, rows][..., columns]


def _mirror(count: int, reach: int) -> torch.Tensor:
    from_first = torch.arange(-reach, count + reach).abs()
    return count - 1 - (count - 1 - from_first).abs()
