"""What lesions are drawn of: random numbers, smooth noise, places in the lungs, and blots with frayed edges.

Lengths and places are shares of the frame's height. Random numbers are drawn on the CPU, so that the same seed gives
the same lesions on every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch.nn import functional

TISSUE, DARK, BRIGHT = 0.97, 0.1, 0.9
"""Quantiles: of the frame that counts as dense tissue, and of the lungs between which their gray values spread."""
LEAST_CONTRAST = 0.02
"""Added to the spread, so that lesions in a flat picture are seen."""
FAINTEST, DENSEST = 0.12, 0.9
"""Range of opacities, 1 being as bright as dense tissue."""
EDGE = 1 / 32
"""How far the lungs' edge is softened for lesions, a share of the frame's height."""
_EVERY = 3  # a ninth of the pixels gives the same quantiles


class Levels(NamedTuple):
    """Gray values that lesions are measured in, each `(B, 1, 1, 1)`."""

    tissue: torch.Tensor
    """Brightness of dense tissue, in [0, 1]."""
    contrast: torch.Tensor
    """Spread of the gray values in the lungs, above 0."""


def gray_levels(lungs: torch.Tensor, inside: torch.Tensor) -> Levels:
    """Measure the gray values of frames, on every third row and column.

    Args:
        lungs: Gray values in [0, 1], `(B, 1, H, W)`.
        inside: Lung, from 0 to 1, `(B, 1, H, W)`; where no lung is found, the whole frame counts as lung.

    Returns:
        The levels of each image.

    Example:
        >>> frame = torch.linspace(0, 1, 301).expand(1, 1, 301, 301)
        >>> [round(level.item(), 2) for level in gray_levels(frame, torch.ones(1, 1, 301, 301))]  # 0.9 - 0.1 + 0.02
        [0.97, 0.82]
    """
    values, lung = (each[..., ::_EVERY, ::_EVERY].flatten(1) for each in (lungs, inside > 0.5))  # noqa: PLR2004  # mostly lung
    lung = lung | ~lung.any(dim=1, keepdim=True)
    shares = torch.tensor([DARK, BRIGHT]).to(values)
    low, high = torch.where(lung, values, math.nan).nanquantile(shares, dim=1)
    tissue = values.quantile(TISSUE, dim=1)
    return Levels(tissue.reshape(-1, 1, 1, 1), (high - low + LEAST_CONTRAST).reshape(-1, 1, 1, 1))


def sample_opacities(lungs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw the opacity of each image's lesion, faint ones as often as dense ones by their logarithm, `(B, 1, 1, 1)`."""
    return uniform(lungs, math.log(FAINTEST), math.log(DENSEST), generator).exp()


def soften_edges(inside: torch.Tensor) -> torch.Tensor:
    """Soften the edge of the lungs, `(B, 1, H, W)`, so that a lesion does not end as if cut out."""
    reach = max(1, round(EDGE * inside.shape[-2]))
    return functional.avg_pool2d(inside, 2 * reach + 1, stride=1, padding=reach)


def add_density(lungs: torch.Tensor, density: torch.Tensor, levels: Levels) -> torch.Tensor:
    """Lay a veil on lungs: density 0 leaves them, 1 shows dense tissue; what is brighter than that stays.

    Example:
        >>> levels = Levels(tissue=torch.tensor(0.8), contrast=torch.tensor(0.3))
        >>> add_density(torch.tensor([0.2, 0.9]), torch.tensor(0.5), levels)
        tensor([0.5000, 0.9000])
    """
    return lungs + density * (levels.tissue - lungs).clamp(min=0)


UPPER = 0.5
"""Share of the images whose lesions prefer the upper parts of the lungs, as tuberculosis does."""
APEX, BASE = 1.6, 0.2
"""How strongly these prefer the apex, and the base; in between it falls evenly."""
_CELL = 4  # px between the places that a center is drawn from
_ANYWHERE = 1e-6  # weight of places outside the lungs: for frames without lungs
_OCTAVES, _FINER = 3, 0.6  # of fractal noise, and the weight of each octave as against the coarser one

T = TypeVar("T")


def uniform(lungs: torch.Tensor, low: float, high: float, generator: torch.Generator, count: int = 1) -> torch.Tensor:
    """Draw numbers of [low, high) for each image, `(B, count, 1, 1)`."""
    return (torch.rand(len(lungs), count, 1, 1, generator=generator) * (high - low) + low).to(lungs)


def bernoulli(lungs: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Choose a share of the images by chance, `(B, 1, 1, 1)`: True where chosen."""
    return uniform(lungs, 0, 1, generator) < share


def choose(choices: Sequence[T], generator: torch.Generator) -> T:
    """Choose one of several values by chance."""
    return choices[int(torch.randint(len(choices), (1,), generator=generator))]


def pixel_positions(lungs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the pixels of frames are, y as `(1, 1, H, 1)` and x as `(1, 1, 1, W)`.

    Example:
        >>> y, x = pixel_positions(torch.zeros(1, 1, 2, 4))
        >>> y.flatten().tolist(), x.flatten().tolist()
        ([0.25, 0.75], [0.25, 0.75, 1.25, 1.75])
    """
    height, width = lungs.shape[-2:]
    y, x = ((torch.arange(count).to(lungs) + 0.5) / height for count in (height, width))
    return y.reshape(1, 1, -1, 1), x.reshape(1, 1, 1, -1)


def resample(images: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Fetch each pixel from another position, `(B, C, H, W)`; beyond the border the image is mirrored.

    Args:
        images: `(B, C, H, W)`.
        y: Where it is fetched from, `(B, 1, H, W)`.
        x: The same along the width.
    """
    height, width = images.shape[-2:]
    grid = torch.cat([x * height / width, y], dim=1).permute(0, 2, 3, 1) * 2 - 1
    return functional.grid_sample(images, grid, align_corners=False, padding_mode="reflection")


def smooth_noise(lungs: torch.Tensor, down: int, across: int, generator: torch.Generator) -> torch.Tensor:
    """Draw smooth noise of unit variance at its grains, `(B, 1, H, W)`.

    Args:
        lungs: Frames that it is to fit, `(B, 1, H, W)`.
        down: Grains along the height.
        across: Grains along the same length across.
        generator: Source of the draws.
    """
    height, width = lungs.shape[-2:]
    columns = max(1, round(across * width / height))
    grains = torch.randn(len(lungs), 1, min(down, height), min(columns, width), generator=generator).to(lungs)
    vertical, horizontal = (_spread(*sides, lungs) for sides in zip(grains.shape[-2:], lungs.shape[-2:], strict=True))
    return vertical @ grains @ horizontal.T


def _spread(count: int, size: int, like: torch.Tensor) -> torch.Tensor:
    """Return bicubic interpolation of so many grains to so many pixels as a matrix, `(size, count)`: faster."""
    each = torch.eye(count).to(like).reshape(1, 1, count, count)
    return functional.interpolate(each, size=(size, count), mode="bicubic", align_corners=False)[0, 0]


def fractal_noise(lungs: torch.Tensor, grains: int, generator: torch.Generator) -> torch.Tensor:
    """Draw fractal noise of unit variance, the coarsest of so many grains along the height, `(B, 1, H, W)`."""
    octaves = (smooth_noise(lungs, grains * 2**octave, grains * 2**octave, generator) for octave in range(_OCTAVES))
    total = torch.stack([_FINER**octave * each for octave, each in enumerate(octaves)]).sum(dim=0)
    return total / total.std(dim=(1, 2, 3), keepdim=True)


def sample_centers(inside: torch.Tensor, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw places in the lungs, in half of the images rather in their upper parts.

    Args:
        inside: Lung, from 0 to 1, `(B, 1, H, W)`.
        count: Places to each image.
        generator: Source of the draws.

    Returns:
        Their y and x, each `(B, count, 1, 1)`.

    Example:
        >>> inside = torch.zeros(1, 1, 96, 96)
        >>> inside[..., 48:, 48:] = 1  # lung at the lower right
        >>> y, x = sample_centers(inside, 100, torch.Generator().manual_seed(0))
        >>> bool((y > 0.5).all() and (x > 0.5).all())
        True
    """
    lung = (inside[..., ::_CELL, ::_CELL] > 0.5).float().cpu()  # noqa: PLR2004  # mostly lung
    rows, columns = lung.shape[-2:]
    prefer = torch.linspace(APEX, BASE, rows).reshape(1, 1, -1, 1)
    weights = lung * torch.where(bernoulli(lung, UPPER, generator), prefer, 1.0) + _ANYWHERE
    drawn = torch.multinomial(weights.flatten(1), count, replacement=True, generator=generator)
    cells = (drawn // columns, drawn % columns)  # (B, count)
    beside = (uniform(inside, 0, 1, generator, count) for _ in cells)
    y, x = ((cell.to(inside).reshape(-1, count, 1, 1) + shift) for cell, shift in zip(cells, beside, strict=True))
    return y * _CELL / inside.shape[-2], x * _CELL / inside.shape[-2]


def ellipse_distance(inside: torch.Tensor, radius: tuple[float, float], generator: torch.Generator) -> torch.Tensor:
    """Lay an ellipse of any direction into the lungs.

    Args:
        inside: Lung, from 0 to 1, `(B, 1, H, W)`.
        radius: Range of the mean radius.
        generator: Source of the draws.

    Returns:
        Distance from its center, 1 on its line, `(B, 1, H, W)`.
    """
    (y, x), (center_y, center_x) = pixel_positions(inside), sample_centers(inside, 1, generator)
    turn, stretch = uniform(inside, 0, math.pi, generator), uniform(inside, 0.6, 1.7, generator)
    down, across = y - center_y, x - center_x
    along = (turn.cos() * across + turn.sin() * down) / stretch
    beside = (turn.cos() * down - turn.sin() * across) * stretch
    return torch.hypot(along, beside) / uniform(inside, *radius, generator)


def irregular_blob(
    inside: torch.Tensor,
    radius: tuple[float, float],
    generator: torch.Generator,
    sharpness: tuple[float, float] = (2, 7),
) -> torch.Tensor:
    """Draw a blot with a frayed, more or less soft edge around a place in the lungs.

    Args:
        inside: Lung, from 0 to 1, `(B, 1, H, W)`.
        radius: Range of the mean radius.
        generator: Source of the draws.
        sharpness: Range of the edge's steepness.

    Returns:
        From 0 to 1, `(B, 1, H, W)`; not bounded to the lungs.
    """
    depth = 2 * (1 - ellipse_distance(inside, radius, generator)) + 0.7 * fractal_noise(inside, 5, generator)
    return torch.sigmoid(depth * uniform(inside, *sharpness, generator))
