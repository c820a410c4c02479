"""What the parts of the atlas have in common: they learn from healthy frames, score one, and point at places in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from anomalib_cxr.functional.alignment import MARGIN
from anomalib_cxr.functional.normalisation import normalise_by_lungs, normalise_locally, smooth

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


def inside_of(size: tuple[int, int], like: torch.Tensor | None = None) -> torch.Tensor:
    """Return 1 where a frame of rows shows lung, 0 in the margins around each of them, `(H, W)`.

    Example:
        >>> inside_of((10, 20)).int()[:2, :10].tolist()
        [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1, 1, 1, 1, 0]]
    """
    share = MARGIN / (1 + 2 * MARGIN)
    rows, columns = (round(share * count) for count in (size[0], size[1] // 2))
    lung = torch.ones(size[0] - 2 * rows, size[1] // 2 - 2 * columns)
    one = functional.pad(lung, (columns, columns, rows, rows))
    both = torch.cat([one, one], dim=1)
    return both if like is None else both.to(like)


def apart(frames: torch.Tensor) -> torch.Tensor:
    """Part the two lungs, so that neither reaches into the other: `(B, C, H, W)` to `(2B, C, H, W / 2)`."""
    return torch.cat(frames.chunk(2, dim=3), dim=0)


def together(lungs: torch.Tensor) -> torch.Tensor:
    """Put lungs side by side again, `(2B, C, H, W)` to `(B, C, H, 2W)`; the inverse of :func:`apart`."""
    return torch.cat(lungs.chunk(2, dim=0), dim=3)


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
