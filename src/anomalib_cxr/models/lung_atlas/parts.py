"""What the parts of the atlas have in common: they learn from healthy frames, score one, and point at places in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from anomalib_cxr.functional.normalisation import normalise_by_lungs, normalise_locally, smooth
from anomalib_cxr.functional.row_frames import apart, inside_of, together

Normalise = Callable[[torch.Tensor], torch.Tensor]

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
    """Normalise by what is near, each lung by itself, `(B, 1, H, W)`."""
    return together(normalise_locally(apart(frames), _LOCAL))


def by_lungs(frames: torch.Tensor) -> torch.Tensor:
    """Normalise by both lungs, and blur a little, `(B, 1, H, W)`."""
    normalised = normalise_by_lungs(frames, inside_of(FRAME, frames))
    return together(smooth(apart(normalised), _BLUR))


def worst_of(places: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the mean of the worst places of each image, `(B, N)` to `(B,)`.

    Example:
        >>> worst_of(torch.tensor([[1.0, 1.0, 5.0]])).exp()
        tensor([5.0000])
    """
    count = max(1, round(WORST * places.shape[1]))
    worst = places.topk(count, dim=1).values
    return (worst.mean(dim=1) + LEAST).log()
