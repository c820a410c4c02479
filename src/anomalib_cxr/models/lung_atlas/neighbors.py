"""Part of the atlas on patches: distance from the nearest healthy patches of the same place."""

from __future__ import annotations

import torch
from torch.nn import functional

from anomalib_cxr.functional.frames import stack_lungs, unstack_lungs

from .parts import FRAME, AtlasPart, Normalize, PartScores, worst_of

PATCH, STEP, SHIFT = 10, 6, 3
"""Side of a patch, distance of neighboring places, and how far a healthy patch may lie beside its place; px."""
N_NEAREST = 3
"""Nearest healthy patches whose distances are averaged."""
_SEED = 0  # of the sample of the bank: any will do, and a part fitted twice is the same


class PatchNeighbors(AtlasPart):
    """Compares patches with the healthy ones of the same place, and with those shifted by a few pixels.

    Patches are compared by their leading principal components, common to all places, so that the features of a whole
    frame are one convolution; and the bank of each place is a random sample, so that it does not grow with the number
    of images.

    Args:
        normalize: Normalization of the frames.
        n_dims: Dimensions of a patch's description, at most 100.
        n_bank: Healthy patches that are kept for each place, at least 3; each frame gives 49, and of fewer than are
            kept some are there more than once.

    Example:
        >>> frames = torch.rand(4, 1, 64, 80)
        >>> part = PatchNeighbors(torch.clone, n_dims=8, n_bank=16)
        >>> part.fit(frames)
        >>> scores = part(frames)
        >>> scores.score.shape, scores.map.shape
        (torch.Size([4]), torch.Size([4, 1, 9, 10]))
    """

    basis: torch.Tensor
    bank: torch.Tensor

    def __init__(self, normalize: Normalize, n_dims: int, n_bank: int) -> None:
        super().__init__()
        self.normalize = normalize
        rows, columns = ((side - 2 * SHIFT - PATCH) // STEP + 1 for side in (FRAME[0], FRAME[1] // 2))
        self.grid = (rows, 2 * columns)
        self.register_buffer("basis", torch.zeros(n_dims, 1, PATCH, PATCH))
        self.register_buffer("bank", torch.zeros(rows * 2 * columns, n_bank, n_dims))

    def fit(self, frames: torch.Tensor) -> None:
        """Find the basis of patches, and sample the bank of each place; see :meth:`AtlasPart.fit`."""
        draw = torch.Generator().manual_seed(_SEED)
        lungs = stack_lungs(self.normalize(frames))
        self.basis.copy_(_principal_patches(lungs, len(self.basis)))
        described = functional.conv2d(lungs, self.basis)  # (2N, n_dims, H - 9, W / 2 - 9), each pixel a patch
        for place in range(len(self.bank)):
            near = self._near(described, place)
            order = torch.randperm(len(near), generator=draw)
            self.bank[place] = near[order.repeat(-(-self.bank.shape[1] // len(order)))[: self.bank.shape[1]]]

    def _near(self, described: torch.Tensor, place: int) -> torch.Tensor:
        """Return the patches at a place and around it, of all images, `(N * 49, n_dims)`."""
        row, column = divmod(place, self.grid[1])
        lung, column = divmod(column, self.grid[1] // 2)
        rows, columns = (slice(first * STEP, first * STEP + 2 * SHIFT + 1) for first in (row, column))
        return described.chunk(2)[lung][..., rows, columns].permute(0, 2, 3, 1).flatten(0, 2)

    def forward(self, frames: torch.Tensor) -> PartScores:
        """Return the distance of each patch from healthy ones of its place; see :meth:`AtlasPart.forward`."""
        lungs = stack_lungs(self.normalize(frames))[..., SHIFT : FRAME[0] - SHIFT, SHIFT : FRAME[1] // 2 - SHIFT]
        described = unstack_lungs(functional.conv2d(lungs, self.basis, stride=STEP))  # (B, n_dims, rows, 2 columns)
        patches = described.flatten(2).permute(2, 0, 1)  # (places, B, n_dims)
        products = (patches * -2) @ self.bank.transpose(1, 2)  # (places, B, n_bank)
        lengths = (patches**2).sum(dim=2, keepdim=True) + (self.bank**2).sum(dim=2).unsqueeze(1)
        nearest = (products + lengths).topk(N_NEAREST, dim=2, largest=False).values
        distances = nearest.clamp(min=0).sqrt().mean(dim=2).T  # (B, places)
        return PartScores(worst_of(distances), distances.reshape(-1, 1, *self.grid))


def _principal_patches(lungs: torch.Tensor, count: int) -> torch.Tensor:
    """Return the leading principal components of all patches, each `STEP` pixels, as filters, `(count, 1, 10, 10)`."""
    patches = functional.unfold(lungs, PATCH, stride=STEP).transpose(1, 2).flatten(0, 1)  # (patches, 100)
    centered = (patches - patches.mean(dim=0)).double()
    directions = torch.linalg.eigh(centered.T @ centered).eigenvectors.flip(1)[:, :count]
    filters: torch.Tensor = directions.T.reshape(-1, 1, PATCH, PATCH).to(lungs)
    return filters
