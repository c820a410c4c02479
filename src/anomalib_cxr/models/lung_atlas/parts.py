"""What the parts of the atlas have in common: they learn from healthy frames, score one, and point at places in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from anomalib_cxr.functional.frames import frame_lung_mask, stack_lungs, unstack_lungs
from anomalib_cxr.functional.normalization import normalize_by_lungs, normalize_locally, smooth


class HealthySubspace(nn.Module):
    """The mean of healthy images and the directions in which they differ most: principal components.

    Args:
        n_values: Values of an image.
        n_components: Directions that are kept; images in lesser number span fewer.

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
        """Learn from healthy images, `(N, n_values)`."""
        mean = values.double().mean(dim=0)
        found = _principal_directions(values - mean, self.components.shape[1])
        self.mean.copy_(mean)
        self.components.zero_()
        self.components[:, : found.shape[1]] = found

    def residual(self, values: torch.Tensor) -> torch.Tensor:
        """Return what of images is not in the subspace, `(B, n_values)` to `(B, n_values)`."""
        # In this form an export keeps float32, and the components only once: the projection of the opposite is added,
        # as a product from the left.
        opposite = (self.mean - values) @ self.components  # (B, n_components)
        return values - self.mean + (self.components @ opposite.T).T


def _principal_directions(away: torch.Tensor, most: int) -> torch.Tensor:
    """Return the directions of greatest variance, the greatest first, `(n_values, at most as many as asked for)`.

    They are the eigenvectors of the values' products with each other, or found by those of the images' products where
    the images are fewer.

    Args:
        away: What images are away from their mean, `(N, n_values)`, in double precision.
        most: Directions that are asked for; those without variance, beyond rounding, are left out.
    """
    few_images = len(away) < away.shape[1]
    squares, vectors = torch.linalg.eigh(away @ away.T if few_images else away.T @ away)  # ascending
    varied = squares > squares[-1] * max(away.shape) * torch.finfo(away.dtype).eps
    varied[:-most] = False
    found: torch.Tensor = vectors[:, varied].flip(1)
    return away.T @ found / squares[varied].flip(0).sqrt() if few_images else found


Normalize = Callable[[torch.Tensor], torch.Tensor]

FRAME = (64, 80)
"""Rows and columns of the frame that the linear parts see."""
_LOCAL, _BLUR = 8.0, 1.0  # px of the frame: what is local, and what is noise
WORST = 1 / 3
"""Share of the places, those that deviate most, that make the score of an image."""
LEAST = 1e-6
"""Added before a logarithm is taken."""


class Finding(NamedTuple):
    """What a part says of frames."""

    score: torch.Tensor
    """A logarithm, `(B,)`, the higher the less healthy."""
    places: torch.Tensor
    """How much each place deviates, at least 0, `(B, 1, h, w)`, in units of the part's own."""


class AtlasPart(nn.Module, ABC):
    """Learns from healthy frames how the lungs look, and says how far others are from that."""

    grid: tuple[int, int]
    """Rows and columns of the map."""

    @abstractmethod
    def fit(self, frames: torch.Tensor) -> None:
        """Learn from frames of healthy lungs in [0, 1], `(N, 1, H, W)`."""

    @abstractmethod
    def forward(self, frames: torch.Tensor) -> Finding:
        """Score frames in [0, 1], `(B, 1, H, W)`."""


def locally(frames: torch.Tensor) -> torch.Tensor:
    """Normalize by what is near, each lung by itself, `(B, 1, H, W)`."""
    return unstack_lungs(normalize_locally(stack_lungs(frames), _LOCAL))


def by_lungs(frames: torch.Tensor) -> torch.Tensor:
    """Normalize by both lungs, and blur a little, `(B, 1, H, W)`."""
    normalized = normalize_by_lungs(frames, frame_lung_mask(FRAME, frames))
    return unstack_lungs(smooth(stack_lungs(normalized), _BLUR))


def worst_of(places: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the mean of the worst places of each image, `(B, N)` to `(B,)`.

    Example:
        >>> worst_of(torch.tensor([[1.0, 1.0, 5.0]])).exp()
        tensor([5.0000])
    """
    count = max(1, round(WORST * places.shape[1]))
    worst = places.topk(count, dim=1).values
    return (worst.mean(dim=1) + LEAST).log()
