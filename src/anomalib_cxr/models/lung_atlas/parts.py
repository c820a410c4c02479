"""Parts of the atlas on principal components: normalizations, subspaces of healthy lungs, and residuals from them."""

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

Normalize = Callable[[torch.Tensor], torch.Tensor]
Scores = TypeVar("Scores", bound="tuple[torch.Tensor, ...]")
"""Output of a part for several frames: a named tuple of tensors, each `(B, ...)`."""

FRAME = (64, 80)
"""Rows and columns of the frame of the linear parts."""
CELL = 8
"""Side of the squares, in pixels of the frame, whose mean squared residuals make the map."""
WORST = 1 / 3
"""Share of the places, those that deviate most, that make the score of an image."""
LEAST = 1e-6
"""Added before a logarithm is taken."""
BATCH = 64
"""Frames that are scored together."""
_LOCAL, _BLUR = 8.0, 1.0  # px of the frame: scale of local normalization, and of the blur against noise


class PartScores(NamedTuple):
    """Output of a part for several frames."""

    score: torch.Tensor
    """A logarithm, `(B,)`, the higher the less healthy."""
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


class HealthySubspace(nn.Module):
    """The mean of healthy images and their principal components.

    Args:
        n_values: Values of an image.
        n_components: Components that are kept; images in lesser number span fewer.

    Example:
        >>> line = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
        >>> subspace = HealthySubspace(n_values=2, n_components=1)
        >>> subspace.fit(line)
        >>> subspace.residual(torch.tensor([[3.0, 3.0], [1.0, 0.0]])).round(decimals=3).abs()
        tensor([[0.0000, 0.0000],
                [0.5000, 0.5000]])
    """

    mean: torch.Tensor
    components: torch.Tensor

    def __init__(self, n_values: int, n_components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_values))
        self.register_buffer("components", torch.zeros(n_values, n_components))

    def fit(self, values: torch.Tensor) -> None:
        """Find mean and components.

        Args:
            values: Healthy images, `(N, n_values)`.
        """
        mean = values.double().mean(dim=0)
        directions = _principal_directions(values - mean, self.components.shape[1])
        self.mean.copy_(mean)
        self.components.zero_()
        self.components[:, : directions.shape[1]] = directions

    def residual(self, values: torch.Tensor) -> torch.Tensor:
        """Return the difference between images and their projections onto the subspace.

        Args:
            values: Images, `(B, n_values)`.

        Returns:
            Residuals, `(B, n_values)`.
        """
        centered = values - self.mean
        # A linear layer and no product with the transpose, which an export would store beside the components.
        return centered - functional.linear(centered @ self.components, self.components)


def _principal_directions(centered: torch.Tensor, most: int) -> torch.Tensor:
    """Return the directions of greatest variance, the greatest first, `(n_values, at most as many as asked for)`.

    They are the eigenvectors of the values' products with each other, or found by those of the images' products where
    the images are fewer.

    Args:
        centered: Images without their mean, `(N, n_values)`, in double precision.
        most: Directions that are asked for; those without variance, beyond rounding, are left out.
    """
    few_images = len(centered) < centered.shape[1]
    squares, vectors = torch.linalg.eigh(centered @ centered.T if few_images else centered.T @ centered)  # ascending
    varied = squares > squares[-1] * max(centered.shape) * torch.finfo(centered.dtype).eps
    varied[:-most] = False
    directions: torch.Tensor = vectors[:, varied].flip(1)
    return centered.T @ directions / squares[varied].flip(0).sqrt() if few_images else directions


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


def cell_means(inside: torch.Tensor) -> torch.Tensor:
    """Return weights that take means over the cells of a frame.

    Args:
        inside: 1 in the lungs, `(H, W)`.

    Returns:
        Weights, `(pixels inside, cells)`.

    Example:
        >>> cell_means(torch.ones(8, 16)).shape
        torch.Size([128, 2])
    """
    rows, columns = (torch.arange(count) // CELL for count in inside.shape)
    cell = (rows.reshape(-1, 1) * (inside.shape[1] // CELL) + columns)[inside > 0]
    weights = functional.one_hot(cell, inside.numel() // CELL**2).to(inside.dtype)
    return weights / weights.sum(dim=0).clamp(min=1)
