"""What of the lungs is not in the subspace of healthy ones: of their gray values, and of their texture."""

from __future__ import annotations

import torch
from torch.nn import functional

from anomalib_cxr.functional.frames import frame_lung_mask, stack_lungs, unstack_lungs
from anomalib_cxr.functional.normalization import normalize_by_lungs

from .augmentation import moved_copies
from .parts import FRAME, LEAST, AtlasPart, Finding, HealthySubspace, Normalize
from .texture import POOLED, mirrored, texture_filters

CELL = 8
"""Side of the squares, in pixels of the frame, whose mean squared residuals make the map."""


class SubspaceResidual(AtlasPart):
    """Compares lungs with their nearest point in the subspace of healthy lungs, pixel by pixel.

    Args:
        normalize: What is done to frames first.
        n_components: Dimensions of the subspace.

    Example:
        >>> frames = torch.rand(4, 1, 64, 80)
        >>> part = SubspaceResidual(torch.clone, n_components=2)
        >>> part.fit(frames)
        >>> finding = part(frames)
        >>> finding.score.shape, finding.places.shape
        (torch.Size([4]), torch.Size([4, 1, 8, 10]))
    """

    pixels: torch.Tensor
    cells: torch.Tensor

    def __init__(self, normalize: Normalize, n_components: int) -> None:
        super().__init__()
        self.normalize = normalize
        self.grid = (FRAME[0] // CELL, FRAME[1] // CELL)
        inside = frame_lung_mask(FRAME, torch.zeros(()))
        self.register_buffer("pixels", inside.flatten().nonzero().squeeze(1), persistent=False)
        self.register_buffer("cells", cells_of(inside), persistent=False)
        self.subspace = HealthySubspace(len(self.pixels), n_components)

    def fit(self, frames: torch.Tensor) -> None:
        """Find the subspace."""
        self.subspace.fit(self._values(moved_copies(frames)))

    def forward(self, frames: torch.Tensor) -> Finding:
        """Compare each cell with the nearest healthy lungs."""
        squared = self.subspace.residual(self._values(frames)) ** 2
        return Finding((squared.mean(dim=1) + LEAST).log(), (squared @ self.cells).reshape(-1, 1, *self.grid))

    def _values(self, frames: torch.Tensor) -> torch.Tensor:
        return self.normalize(frames).flatten(1)[:, self.pixels]


def cells_of(inside: torch.Tensor) -> torch.Tensor:
    """Return weights that take means over cells, `(pixels inside, cells)`, of a frame in which 1 is inside, `(H, W)`.

    Example:
        >>> cells_of(torch.ones(8, 16)).shape
        torch.Size([128, 2])
    """
    rows, columns = (torch.arange(count) // CELL for count in inside.shape)
    cell = (rows.reshape(-1, 1) * (inside.shape[1] // CELL) + columns)[inside > 0]
    member = functional.one_hot(cell, inside.numel() // CELL**2).to(inside.dtype)
    return member / member.sum(dim=0).clamp(min=1)


class TextureResidual(AtlasPart):
    """Compares the energies of edges and spots of several sizes and directions with those of healthy lungs.

    Args:
        n_components: Dimensions of the subspace of healthy energies.

    Example:
        >>> frames = torch.rand(4, 1, 64, 80)
        >>> part = TextureResidual(n_components=2)
        >>> part.fit(frames)
        >>> finding = part(frames)
        >>> finding.score.shape, finding.places.shape
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
        """Find the subspace of healthy energies."""
        self.subspace.fit(self._energies(moved_copies(frames)))

    def forward(self, frames: torch.Tensor) -> Finding:
        """Compare the energies of each place with healthy ones."""
        squared = self.subspace.residual(self._energies(frames)) ** 2
        places = torch.unflatten(squared, 1, (len(self.filters), *self.grid)).mean(dim=1, keepdim=True)
        return Finding((squared.mean(dim=1) + LEAST).log(), places)

    def _energies(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the logarithms of the filters' root mean squares in squares of `POOLED` pixels, `(B, n_values)`."""
        reach = self.filters.shape[-1] // 2
        lungs = mirrored(stack_lungs(normalize_by_lungs(frames, frame_lung_mask(FRAME, frames))), reach)
        energies = functional.avg_pool2d(functional.conv2d(lungs, self.filters) ** 2, POOLED)
        return unstack_lungs((energies.sqrt() + 1e-3).log()).flatten(1)
