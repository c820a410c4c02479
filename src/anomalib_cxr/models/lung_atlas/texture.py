"""Part of the atlas on textures: filters for spots and edges, and the residual of their energies."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from anomalib_cxr.functional.frames import frame_lung_mask, stack_lungs, unstack_lungs
from anomalib_cxr.functional.normalization import normalize_by_lungs

from .augmentation import moved_copies
from .parts import FRAME, LEAST, AtlasPart, PartScores
from .subspace import HealthySubspace

POOLED = 4
"""Side of the squares, in pixels, over which the energy of a filter is taken."""
SPOTS = (1.0, 2.0, 3.5)
EDGES = (1.5, 3.0)
"""Standard deviations, in pixels, of the spots and across the edges."""
N_DIRECTIONS = 6
_REACH = 12  # px: half the side of the largest filter


def texture_filters() -> torch.Tensor:
    """Return 3 differences of Gaussians, for spots, and 12 second derivatives, for lines.

    Returns:
        Filters of mean 0, `(15, 1, 25, 25)`.
    """
    offsets = torch.arange(-_REACH, _REACH + 1, dtype=torch.float32)
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
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


class TextureResidual(AtlasPart):
    """PCA reconstruction error of the energies of edges and spots of several sizes and directions.

    Args:
        n_components: Dimensions of the subspace of healthy energies.

    Example:
        >>> frames = torch.rand(4, 1, 64, 80)
        >>> part = TextureResidual(n_components=2)
        >>> part.fit(frames)
        >>> scores = part(frames)
        >>> scores.score.shape, scores.map.shape
        (torch.Size([4]), torch.Size([4, 1, 16, 20]))
    """

    filters: torch.Tensor

    def __init__(self, n_components: int) -> None:
        super().__init__()
        filters = texture_filters()
        self.register_buffer("filters", filters, persistent=False)
        self.grid = (FRAME[0] // POOLED, FRAME[1] // POOLED)
        self.subspace = HealthySubspace(len(filters) * self.grid[0] * self.grid[1], n_components)

    def fit(self, frames: torch.Tensor) -> None:
        """Find the subspace of healthy energies; see :meth:`AtlasPart.fit`."""
        self.subspace.fit(self._energies(moved_copies(frames)))

    def forward(self, frames: torch.Tensor) -> PartScores:
        """Return the mean squared residual of each place; see :meth:`AtlasPart.forward`."""
        squared = self.subspace.residual(self._energies(frames)) ** 2
        maps = torch.unflatten(squared, 1, (len(self.filters), *self.grid)).mean(dim=1, keepdim=True)
        return PartScores((squared.mean(dim=1) + LEAST).log(), maps)

    def _energies(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the logarithms of the filters' root mean squares in squares of `POOLED` pixels, `(B, n_values)`."""
        reach = self.filters.shape[-1] // 2
        lungs = stack_lungs(normalize_by_lungs(frames, frame_lung_mask(FRAME, frames)))
        lungs = functional.pad(lungs, [reach] * 4, mode="reflect")
        energies = functional.avg_pool2d(functional.conv2d(lungs, self.filters) ** 2, POOLED)
        return unstack_lungs((energies.sqrt() + 1e-3).log()).flatten(1)
