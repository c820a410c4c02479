"""How bright lesions are: between the lung that is there and the dense tissue of the same image."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.nn import functional

from .drawing import uniform

TISSUE, DARK, BRIGHT = 0.97, 0.1, 0.9
"""Quantiles: of the frame that counts as dense tissue, and of the lungs between which their grey values spread."""
LEAST_CONTRAST = 0.02
"""Added to the spread, so that lesions in a flat picture are seen."""
FAINTEST, DENSEST = 0.12, 0.9
"""Range of opacities, 1 being as bright as dense tissue."""
EDGE = 1 / 32
"""How far the lungs' edge is softened for lesions, a share of the frame's height."""
_EVERY = 3  # a ninth of the pixels gives the same quantiles


class Levels(NamedTuple):
    """Grey values that lesions are measured in, each `(B, 1, 1, 1)`."""

    tissue: torch.Tensor
    """Brightness of dense tissue, in [0, 1]."""
    contrast: torch.Tensor
    """Spread of the grey values in the lungs, above 0."""


def grey_levels(lungs: torch.Tensor, inside: torch.Tensor) -> Levels:
    """Measure the grey values of frames, on every third row and column.

    Args:
        lungs: Grey values in [0, 1], `(B, 1, H, W)`.
        inside: Lung, from 0 to 1, `(B, 1, H, W)`; where no lung is found, the whole frame counts as lung.

    Returns:
        The levels of each image.

    Example:
        >>> frame = torch.linspace(0, 1, 301).expand(1, 1, 301, 301)
        >>> [round(level.item(), 2) for level in grey_levels(frame, torch.ones(1, 1, 301, 301))]  # 0.9 - 0.1 + 0.02
        [0.97, 0.82]
    """
    values, lung = (each[..., ::_EVERY, ::_EVERY].flatten(1) for each in (lungs, inside > 0.5))  # noqa: PLR2004  # mostly lung
    lung = lung | ~lung.any(dim=1, keepdim=True)
    shares = torch.tensor([DARK, BRIGHT]).to(values)
    low, high = torch.where(lung, values, math.nan).nanquantile(shares, dim=1)
    tissue = values.quantile(TISSUE, dim=1)
    return Levels(tissue.reshape(-1, 1, 1, 1), (high - low + LEAST_CONTRAST).reshape(-1, 1, 1, 1))


def opacities(lungs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw the opacity of each image's lesion, faint ones as often as dense ones by their logarithm, `(B, 1, 1, 1)`."""
    return uniform(lungs, math.log(FAINTEST), math.log(DENSEST), generator).exp()


def soften(inside: torch.Tensor) -> torch.Tensor:
    """Soften the edge of the lungs, `(B, 1, H, W)`, so that a lesion does not end as if cut out."""
    reach = max(1, round(EDGE * inside.shape[-2]))
    return functional.avg_pool2d(inside, 2 * reach + 1, stride=1, padding=reach)


def brighten(lungs: torch.Tensor, density: torch.Tensor, levels: Levels) -> torch.Tensor:
    """Lay a veil on lungs: density 0 leaves them, 1 shows dense tissue; what is brighter than that stays.

    Example:
        >>> levels = Levels(tissue=torch.tensor(0.8), contrast=torch.tensor(0.3))
        >>> brighten(torch.tensor([0.2, 0.9]), torch.tensor(0.5), levels)
        tensor([0.5000, 0.9000])
    """
    return lungs + density * (levels.tissue - lungs).clamp(min=0)
