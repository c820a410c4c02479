"""What of the lungs is not in the subspace of healthy ones: of their grey values, and of their texture."""

from __future__ import annotations

import torch
from torch.nn import functional

from anomalib_cxr.functional.normalisation import normalise_by_lungs

from .parts import FRAME, LEAST, AtlasPart, Finding, Normalise, apart, inside_of, together
from .subspace import HealthySubspace
from .texture import POOLED, texture_filters

CELL = 8
"""Side of the squares, in pixels of the frame, whose mean squared residuals make the map."""


class SubspaceResidual(AtlasPart):
    """Compares lungs with their nearest point in the subspace of healthy lungs, pixel by pixel.

    Args:
        normalise: What is done to frames first.
        n_components: Dimensions of the subspace.
    """

    inside: torch.Tensor

    def __init__(self, normalise: Normalise, n_components: int) -> None:
        super().__init__()
        self.normalise = normalise
        self.grid = (FRAME[0] // CELL, FRAME[1] // CELL)
        self.subspace = HealthySubspace(FRAME[0] * FRAME[1], n_components)
        self.register_buffer("inside", inside_of(FRAME), persistent=False)

    def fit(self, frames: torch.Tensor) -> None:
        """Find the subspace."""
        self.subspace.fit(self._values(frames))

    def forward(self, frames: torch.Tensor) -> Finding:
        """Compare each cell with the nearest healthy lungs."""
        squared = self.subspace.residual(self._values(frames)) ** 2
        places = functional.avg_pool2d(squared.reshape(-1, 1, *FRAME), CELL)
        return Finding((squared.mean(dim=1) + LEAST).log(), places)

    def _values(self, frames: torch.Tensor) -> torch.Tensor:
        return (self.normalise(frames) * self.inside).flatten(1)


class TextureResidual(AtlasPart):
    """Compares the energies of edges and spots of several sizes and directions with those of healthy lungs.

    Args:
        n_components: Dimensions of the subspace of healthy energies.
    """

    filters: torch.Tensor

    def __init__(self, n_components: int) -> None:
        super().__init__()
        filters = texture_filters()
        self.register_buffer("filters", filters, persistent=False)
        self.grid = (FRAME[0] // POOLED, FRAME[1] // POOLED)
        self.subspace = HealthySubspace(len(filters) * self.grid[0] * self.grid[1], n_components)

    def fit(self, frames: torch.Tensor) -> None:
        """Find the subspace of healthy energies."""
        self.subspace.fit(self._energies(frames))

    def forward(self, frames: torch.Tensor) -> Finding:
        """Compare the energies of each place with healthy ones."""
        squared = self.subspace.residual(self._energies(frames)) ** 2
        places = squared.reshape(len(squared), len(self.filters), *self.grid).mean(dim=1, keepdim=True)
        return Finding((squared.mean(dim=1) + LEAST).log(), places)

    def _energies(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the logarithms of the filters' root mean squares in squares of `POOLED` pixels, `(B, n_values)`."""
        reach = self.filters.shape[-1] // 2
        lungs = functional.pad(apart(normalise_by_lungs(frames, inside_of(FRAME, frames))), [reach] * 4, mode="reflect")
        energies = functional.avg_pool2d(functional.conv2d(lungs, self.filters) ** 2, POOLED)
        return together((energies.sqrt() + 1e-3).log()).flatten(1)
