"""Parts of the atlas on principal components: normalizations, and residuals from the subspace of healthy lungs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn
from torch.nn import functional

from anomalib_cxr.functional.frames import frame_lung_mask, stack_lungs, unstack_lungs
from anomalib_cxr.functional.normalization import normalize_by_lungs, normalize_locally, smooth

from .augmentation import moved_copies
from .subspace import HealthySubspace

Normalize = Callable[[torch.Tensor], torch.Tensor]
Scores = TypeVar("Scores", bound="tuple[torch.Tensor, ...]")
"""Output of a part for several frames: a named tuple of tensors, each `(B, ...)`."""

FRAME = (64, 80)
"""Rows and columns of the frame of the linear parts."""
CELL = 4
"""Side of the squares, in pixels of the frame, whose mean squared residuals make the map."""
WORST = 1 / 3
"""Share of the places, those that deviate most, that make the score of an image."""
SPOT_BLUR, SPOT_SHARE = 1.0, 0.01
"""Blur of a residual in which spots are looked for, in pixels, and share of its pixels that make them."""
LEAST = 1e-6
"""Added before a logarithm is taken."""
BATCH = 64
"""Frames that are scored together."""
_LUNG_ROWS = int(frame_lung_mask(FRAME, torch.zeros(())).any(dim=1).sum())  # of the frame, without the margins
_LOCAL, _BLUR = 8.0, 1.0  # px of the frame: scale of local normalization, and of the blur against noise


class PartScores(NamedTuple):
    """Output of a part for several frames."""

    score: torch.Tensor
    """A logarithm, `(B,)`, the higher the less healthy; `(B, n)` of a part with `n` scores."""
    map: torch.Tensor
    """Deviation of each place, at least 0, `(B, 1, h, w)`, in units of the part's own."""


class AtlasPart(nn.Module, ABC):
    """Measures the deviation of frames from healthy ones."""

    grid: tuple[int, int]
    """Rows and columns of the map."""

    @abstractmethod
    def fit(self, frames: torch.Tensor) -> None:
        """Learn from healthy lungs.

        Args:
            frames: Frames in [0, 1], `(N, 1, H, W)`.
        """

    @abstractmethod
    def forward(self, frames: torch.Tensor) -> PartScores:
        """Score frames.

        Args:
            frames: Frames in [0, 1], `(B, 1, H, W)`.

        Returns:
            Scores and maps.
        """


def concatenate(batches: Sequence[Scores]) -> Scores:
    """Concatenate the output of several batches, tensor by tensor.

    Args:
        batches: Named tuples of one kind.

    Returns:
        A named tuple of that kind.
    """
    kind: Any = type(batches[0])
    scores: Scores = kind(*(torch.cat(tensors) for tensors in zip(*batches, strict=True)))
    return scores


def join_scores(scores: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join the scores of several parts.

    Args:
        scores: Scores of each, `(B,)` or `(B, n)`.

    Returns:
        One column for each score, in their order.

    Example:
        >>> join_scores([torch.zeros(2), torch.ones(2, 2)])
        tensor([[0., 1., 1.],
                [0., 1., 1.]])
    """
    return torch.cat([score.unsqueeze(1) if score.ndim == 1 else score for score in scores], dim=1)


@torch.no_grad()
def score_in_batches(part: Callable[[torch.Tensor], Scores], frames: torch.Tensor) -> Scores:
    """Score frames, :data:`BATCH` at a time, without gradients.

    Args:
        part: Part of the atlas, or a lesion detector.
        frames: Frames, `(N, 1, H, W)`.

    Returns:
        Its output for all of them.
    """
    return concatenate([part(some) for some in torch.split(frames, BATCH)])


def locally(frames: torch.Tensor) -> torch.Tensor:
    """Normalize by the surroundings of each pixel, each lung by itself.

    Args:
        frames: Frames in [0, 1], `(B, 1, H, W)`.

    Returns:
        Normalized frames, alike in shape.
    """
    return unstack_lungs(normalize_locally(stack_lungs(frames), _LOCAL))


def by_lungs(frames: torch.Tensor) -> torch.Tensor:
    """Normalize by both lungs, and blur a little.

    Args:
        frames: Frames in [0, 1], `(B, 1, H, W)`.

    Returns:
        Normalized frames, alike in shape.
    """
    normalized = normalize_by_lungs(frames, frame_lung_mask(FRAME, frames))
    return unstack_lungs(smooth(stack_lungs(normalized), _BLUR))


def worst_of(places: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the mean of the worst places of each image.

    Args:
        places: Deviations, `(B, N)`.

    Returns:
        `(B,)`.

    Example:
        >>> worst_of(torch.tensor([[1.0, 1.0, 5.0]])).exp()
        tensor([5.0000])
    """
    count = max(1, round(WORST * places.shape[1]))
    worst = places.topk(count, dim=1).values
    return (worst.mean(dim=1) + LEAST).log()


class SubspaceResidual(AtlasPart):
    """PCA reconstruction error of the gray values of lungs.

    Args:
        normalize: Normalization of the frames.
        n_components: Dimensions of the subspace.

    Example:
        >>> frames = torch.rand(4, 1, 64, 80)
        >>> part = SubspaceResidual(torch.clone, n_components=2)
        >>> part.fit(frames)
        >>> scores = part(frames)
        >>> scores.score.shape, scores.map.shape
        (torch.Size([4]), torch.Size([4, 1, 16, 20]))
    """

    pixels: torch.Tensor
    cells: torch.Tensor

    def __init__(self, normalize: Normalize, n_components: int) -> None:
        super().__init__()
        self.normalize = normalize
        self.grid = (FRAME[0] // CELL, FRAME[1] // CELL)
        inside = frame_lung_mask(FRAME, torch.zeros(()))
        self.register_buffer("pixels", inside.flatten().nonzero().squeeze(1), persistent=False)
        self.register_buffer("cells", cell_means(inside), persistent=False)
        self.subspace = HealthySubspace(len(self.pixels), n_components)

    def fit(self, frames: torch.Tensor) -> None:
        """Find the subspace of healthy lungs; see :meth:`AtlasPart.fit`."""
        self.subspace.fit(self._values(moved_copies(frames)))

    def forward(self, frames: torch.Tensor) -> PartScores:
        """Return the mean squared residual of each cell; see :meth:`AtlasPart.forward`."""
        squared = self.subspace.residual(self._values(frames)) ** 2  # (B, pixels inside)
        return PartScores((squared.mean(dim=1) + LEAST).log(), (squared @ self.cells).reshape(-1, 1, *self.grid))

    def _values(self, frames: torch.Tensor) -> torch.Tensor:
        return self.normalize(frames).flatten(1)[:, self.pixels]


class FocalResidual(SubspaceResidual):
    """PCA reconstruction error, and the contrast of its brightest spots.

    The second score is the logarithm of the mean of the brightest 1 % of the residual, blurred a little, in its own
    standard deviations: a nodule stands out against the rest of the same lungs, however well these are reconstructed.

    Args:
        normalize: Normalization of the frames.
        n_components: Dimensions of the subspace.

    Example:
        >>> part = FocalResidual(torch.clone, n_components=2)
        >>> part.fit(torch.rand(4, 1, 64, 80))
        >>> part(torch.rand(3, 1, 64, 80)).score.shape
        torch.Size([3, 2])
    """

    def forward(self, frames: torch.Tensor) -> PartScores:
        """Return both scores and the mean squared residual of each cell; see :meth:`AtlasPart.forward`."""
        residual = self.subspace.residual(self._values(frames))  # (B, pixels inside)
        squared = residual**2
        scores = torch.stack([(squared.mean(dim=1) + LEAST).log(), spot_contrast(residual)], dim=1)
        return PartScores(scores, (squared @ self.cells).reshape(-1, 1, *self.grid))


def spot_contrast(residual: torch.Tensor) -> torch.Tensor:
    """Return how much the brightest spots of lungs stand out.

    Args:
        residual: Residuals of the pixels in both lungs, row by row, `(B, pixels inside)`.

    Returns:
        Logarithms, `(B,)`.

    Example:
        >>> inside = int(frame_lung_mask(FRAME, torch.zeros(())).sum())
        >>> residual = torch.randn(2, inside, generator=torch.Generator().manual_seed(0))
        >>> residual[1, 1000:1004] += 9
        >>> contrast = spot_contrast(residual)
        >>> bool(contrast[1] > contrast[0])
        True
    """
    lungs = torch.unflatten(residual, 1, (1, _LUNG_ROWS, -1))  # without the margins
    blurred = unstack_lungs(smooth(stack_lungs(lungs), SPOT_BLUR)).flatten(1)
    count = max(1, round(SPOT_SHARE * blurred.shape[1]))
    brightest = blurred.topk(count, dim=1).values.mean(dim=1)
    spread = (blurred - blurred.mean(dim=1, keepdim=True)).square().mean(dim=1).sqrt()
    return (brightest.clamp(min=0) + LEAST).log() - (spread + LEAST).log()


def cell_means(inside: torch.Tensor) -> torch.Tensor:
    """Return weights that take means over the cells of a frame.

    Args:
        inside: 1 in the lungs, `(H, W)`.

    Returns:
        Weights, `(pixels inside, cells)`.

    Example:
        >>> cell_means(torch.ones(8, 16)).shape
        torch.Size([128, 8])
    """
    rows, columns = (torch.arange(count) // CELL for count in inside.shape)
    cell = (rows.reshape(-1, 1) * (inside.shape[1] // CELL) + columns)[inside > 0]
    weights = functional.one_hot(cell, inside.numel() // CELL**2).to(inside.dtype)
    return weights / weights.sum(dim=0).clamp(min=1)
