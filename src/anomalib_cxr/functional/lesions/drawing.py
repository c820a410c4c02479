"""Building blocks of synthetic lesions: gray levels, random draws, smooth noise, positions and irregular shapes.

Lengths and positions are shares of the frame's height. Random numbers are drawn on the CPU, so that a seed gives the
same lesions on every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch.nn import functional

TISSUE, DARK, BRIGHT = 0.97, 0.1, 0.9
"""Quantiles: of the frame, for the level of dense tissue, and of the lungs, for the two ends of their contrast."""
MIN_CONTRAST = 0.02
"""Added to the contrast, so that lesions are visible in uniform images."""
MIN_OPACITY, MAX_OPACITY = 0.12, 0.9
"""Range of opacities; 1 is as bright as dense tissue."""
EDGE = 1 / 32
"""Half-width of the softened edge of the lungs (share of the frame's height)."""
_STRIDE = 3  # a ninth of the pixels gives the same quantiles


class Levels(NamedTuple):
    """Gray values to which lesions are scaled, `(B, 1, 1, 1)` each."""

    tissue: torch.Tensor
    """Brightness of dense tissue, in [0, 1]."""
    contrast: torch.Tensor
    """Range of the gray values in the lungs, above 0."""


def gray_levels(frames: torch.Tensor, lung_mask: torch.Tensor) -> Levels:
    """Measure the gray levels of frames, on every third row and column.

    Args:
        frames: Gray values in [0, 1], `(B, 1, H, W)`.
        lung_mask: Lung mask, 0 to 1, `(B, 1, H, W)`; of an empty one, the whole frame is used.

    Returns:
        Levels of each image.

    Example:
        >>> frame = torch.linspace(0, 1, 301).expand(1, 1, 301, 301)
        >>> [round(level.item(), 2) for level in gray_levels(frame, torch.ones(1, 1, 301, 301))]  # 0.9 - 0.1 + 0.02
        [0.97, 0.82]
    """
    pixels = (..., slice(None, None, _STRIDE), slice(None, None, _STRIDE))
    values, lung = frames[pixels].flatten(1), lung_mask[pixels].flatten(1) > 0.5  # noqa: PLR2004  # mostly lung
    lung = lung | ~lung.any(dim=1, keepdim=True)
    shares = torch.tensor([DARK, BRIGHT]).to(values)
    low, high = torch.where(lung, values, math.nan).nanquantile(shares, dim=1)
    tissue = values.quantile(TISSUE, dim=1)
    return Levels(tissue.reshape(-1, 1, 1, 1), (high - low + MIN_CONTRAST).reshape(-1, 1, 1, 1))


def sample_opacities(frames: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw an opacity for each image, uniform in its logarithm.

    Args:
        frames: Frames, `(B, 1, H, W)`.
        generator: Source of the draws.

    Returns:
        Opacities, `(B, 1, 1, 1)`.
    """
    return uniform(frames, math.log(MIN_OPACITY), math.log(MAX_OPACITY), generator).exp()


def soften_edges(lung_mask: torch.Tensor) -> torch.Tensor:
    """Soften the edge of a lung mask, so that lesions do not end abruptly.

    Args:
        lung_mask: Lung mask, 0 to 1, `(B, 1, H, W)`.

    Returns:
        Mask with soft edges, `(B, 1, H, W)`.
    """
    reach = max(1, round(EDGE * lung_mask.shape[-2]))
    return functional.avg_pool2d(lung_mask, 2 * reach + 1, stride=1, padding=reach)


def add_density(frames: torch.Tensor, density: torch.Tensor, levels: Levels) -> torch.Tensor:
    """Move gray values towards dense tissue: 0 leaves them, 1 gives dense tissue; brighter pixels are unchanged.

    Args:
        frames: Gray values in [0, 1], `(B, 1, H, W)`.
        density: Density, 0 to 1, broadcastable to the frames.
        levels: Gray levels of the frames.

    Returns:
        Frames, `(B, 1, H, W)`.

    Example:
        >>> levels = Levels(tissue=torch.tensor(0.8), contrast=torch.tensor(0.3))
        >>> add_density(torch.tensor([0.2, 0.9]), torch.tensor(0.5), levels)
        tensor([0.5000, 0.9000])
    """
    return frames + density * (levels.tissue - frames).clamp(min=0)


UPPER = 0.5
"""Share of the images whose lesions prefer the upper parts of the lungs, as tuberculosis does."""
APEX, BASE = 1.6, 0.2
"""Relative density of their lesions at the apex and at the base; linear in between."""
_CELL = 4  # px between candidate centers
_OUTSIDE_WEIGHT = 1e-6  # of centers outside the lungs, for frames without lungs
_OCTAVES, _PERSISTENCE = 3, 0.6  # of fractal noise: number, and weight of each relative to the coarser one

T = TypeVar("T")


def uniform(frames: torch.Tensor, low: float, high: float, generator: torch.Generator, count: int = 1) -> torch.Tensor:
    """Draw uniform numbers for each image.

    Args:
        frames: Frames, `(B, 1, H, W)`.
        low: Lower bound.
        high: Upper bound, exclusive.
        generator: Source of the draws.
        count: Numbers per image.

    Returns:
        Numbers, `(B, count, 1, 1)`.
    """
    return (torch.rand(len(frames), count, 1, 1, generator=generator) * (high - low) + low).to(frames)


def bernoulli(frames: torch.Tensor, probability: float, generator: torch.Generator) -> torch.Tensor:
    """Select each image with a probability.

    Args:
        frames: Frames, `(B, 1, H, W)`.
        probability: Probability of selection.
        generator: Source of the draws.

    Returns:
        True where selected, `(B, 1, 1, 1)`.
    """
    return uniform(frames, 0, 1, generator) < probability


def choose(choices: Sequence[T], generator: torch.Generator) -> T:
    """Return a random one of several values.

    Args:
        choices: Values.
        generator: Source of the draw.
    """
    return choices[int(torch.randint(len(choices), (1,), generator=generator))]


def pixel_positions(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the positions of pixel centers.

    Args:
        frames: Frames, `(B, 1, H, W)`.

    Returns:
        y, `(1, 1, H, 1)`, and x, `(1, 1, 1, W)`.

    Example:
        >>> y, x = pixel_positions(torch.zeros(1, 1, 2, 4))
        >>> y.flatten().tolist(), x.flatten().tolist()
        ([0.25, 0.75], [0.25, 0.75, 1.25, 1.75])
    """
    height, width = frames.shape[-2:]
    y, x = ((torch.arange(count).to(frames) + 0.5) / height for count in (height, width))
    return y.reshape(1, 1, -1, 1), x.reshape(1, 1, 1, -1)


def resample(images: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Sample images at given positions; beyond the border they are mirrored.

    Args:
        images: Images, `(B, C, H, W)`.
        y: Vertical position of each pixel's source, `(B, 1, H, W)`.
        x: Horizontal position of each pixel's source, `(B, 1, H, W)`.

    Returns:
        Sampled images, `(B, C, H, W)`.
    """
    height, width = images.shape[-2:]
    grid = torch.cat([x * height / width, y], dim=1).permute(0, 2, 3, 1) * 2 - 1
    return functional.grid_sample(images, grid, align_corners=False, padding_mode="reflection")


def smooth_noise(frames: torch.Tensor, down: int, across: int, generator: torch.Generator) -> torch.Tensor:
    """Draw Gaussian noise on a coarse grid, interpolated to the size of frames.

    Args:
        frames: Frames, `(B, 1, H, W)`.
        down: Grid points along the height.
        across: Grid points along the same length across.
        generator: Source of the draws.

    Returns:
        Noise of unit variance at the grid points, `(B, 1, H, W)`.
    """
    height, width = frames.shape[-2:]
    columns = max(1, round(across * width / height))
    grains = torch.randn(len(frames), 1, min(down, height), min(columns, width), generator=generator).to(frames)
    vertical, horizontal = (_spread(*sides, frames) for sides in zip(grains.shape[-2:], frames.shape[-2:], strict=True))
    return vertical @ grains @ horizontal.T


def _spread(count: int, size: int, like: torch.Tensor) -> torch.Tensor:
    """Return the matrix of bicubic interpolation from `count` to `size` points, `(size, count)`: a faster way."""
    identity = torch.eye(count).to(like).reshape(1, 1, count, count)
    return functional.interpolate(identity, size=(size, count), mode="bicubic", align_corners=False)[0, 0]


def fractal_noise(frames: torch.Tensor, grains: int, generator: torch.Generator) -> torch.Tensor:
    """Draw fractal noise of three octaves.

    Args:
        frames: Frames, `(B, 1, H, W)`.
        grains: Grid points of the coarsest octave along the height.
        generator: Source of the draws.

    Returns:
        Noise of unit variance, `(B, 1, H, W)`.
    """
    octaves = (smooth_noise(frames, grains * 2**octave, grains * 2**octave, generator) for octave in range(_OCTAVES))
    total = torch.stack([_PERSISTENCE**octave * layer for octave, layer in enumerate(octaves)]).sum(dim=0)
    return total / total.std(dim=(1, 2, 3), keepdim=True)


def sample_centers(
    lung_mask: torch.Tensor, count: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw centers of lesions in the lungs, in half of the images preferably in the upper parts.

    Args:
        lung_mask: Lung mask, 0 to 1, `(B, 1, H, W)`.
        count: Centers per image.
        generator: Source of the draws.

    Returns:
        y and x, `(B, count, 1, 1)` each.

    Example:
        >>> lung_mask = torch.zeros(1, 1, 96, 96)
        >>> lung_mask[..., 48:, 48:] = 1  # lung at the lower right
        >>> y, x = sample_centers(lung_mask, 100, torch.Generator().manual_seed(0))
        >>> bool((y > 0.5).all() and (x > 0.5).all())
        True
    """
    lung = (lung_mask[..., ::_CELL, ::_CELL] > 0.5).float().cpu()  # noqa: PLR2004  # mostly lung
    rows, columns = lung.shape[-2:]
    preference = torch.linspace(APEX, BASE, rows).reshape(1, 1, -1, 1)
    weights = lung * torch.where(bernoulli(lung, UPPER, generator), preference, 1.0) + _OUTSIDE_WEIGHT
    drawn = torch.multinomial(weights.flatten(1), count, replacement=True, generator=generator)
    cells = (drawn // columns, drawn % columns)  # (B, count)
    shifts = (uniform(lung_mask, 0, 1, generator, count) for _ in cells)
    y, x = ((cell.to(lung_mask).reshape(-1, count, 1, 1) + shift) for cell, shift in zip(cells, shifts, strict=True))
    return y * _CELL / lung_mask.shape[-2], x * _CELL / lung_mask.shape[-2]


def ellipse_distance(lung_mask: torch.Tensor, radius: tuple[float, float], generator: torch.Generator) -> torch.Tensor:
    """Draw an ellipse of random direction and axes in the lungs.

    Args:
        lung_mask: Lung mask, 0 to 1, `(B, 1, H, W)`.
        radius: Range of the mean radius.
        generator: Source of the draws.

    Returns:
        Elliptic distance of each pixel from the center, 1 on the ellipse, `(B, 1, H, W)`.
    """
    (y, x), (center_y, center_x) = pixel_positions(lung_mask), sample_centers(lung_mask, 1, generator)
    turn, stretch = uniform(lung_mask, 0, math.pi, generator), uniform(lung_mask, 0.6, 1.7, generator)
    down, across = y - center_y, x - center_x
    major = (turn.cos() * across + turn.sin() * down) / stretch
    minor = (turn.cos() * down - turn.sin() * across) * stretch
    return torch.hypot(major, minor) / uniform(lung_mask, *radius, generator)


def irregular_blob(
    lung_mask: torch.Tensor,
    radius: tuple[float, float],
    generator: torch.Generator,
    sharpness: tuple[float, float] = (2, 7),
) -> torch.Tensor:
    """Draw a blob with an irregular edge around a center in the lungs.

    Args:
        lung_mask: Lung mask, 0 to 1, `(B, 1, H, W)`.
        radius: Range of the mean radius.
        generator: Source of the draws.
        sharpness: Range of the edge's steepness.

    Returns:
        Density, 0 to 1, `(B, 1, H, W)`; not limited to the lungs.
    """
    depth = 2 * (1 - ellipse_distance(lung_mask, radius, generator)) + 0.7 * fractal_noise(lung_mask, 5, generator)
    return torch.sigmoid(depth * uniform(lung_mask, *sharpness, generator))
