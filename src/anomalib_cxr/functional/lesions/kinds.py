"""Kinds of synthetic lesions: opacities, foci with a shape of their own, and changes of structure or position."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Generator, Tensor
from torch.nn import functional

from .drawing import (
    Levels,
    add_density,
    bernoulli,
    choose,
    ellipse_distance,
    fractal_noise,
    irregular_blob,
    pixel_positions,
    resample,
    sample_centers,
    sample_opacities,
    smooth_noise,
    soften_edges,
    uniform,
)

AddLesion = Callable[[Tensor, Tensor, Levels, Generator], Tensor]
"""Function that adds one kind of lesion to each frame.

Its arguments are frames in [0, 1], `(B, 1, H, W)`, the lung mask, 0 to 1, of the same shape, the gray levels of the
frames, and the source of the draws; it returns frames that are not clamped to [0, 1].
"""

DIFFUSE = 0.6
"""Opacity of lesions that cover much of the lungs, relative to a patch."""
FLUID = 0.3
"""Minimum opacity of fluid."""
MILIARY_OPACITY = 0.6
"""Opacity of a granule among many, relative to a single lesion."""
CLUSTERED, CLUSTER = 0.5, 0.3
"""Share of the images with clustered nodules, and factor of the distances between these."""
SOFT_RIM = 0.25
"""Softness of a nodule's rim (share of its radius)."""
DISSEMINATED = 0.3
"""Share of the images with granules all over the lungs."""
_MIN_WEIGHT, _MIN_DEVIATION = 1e-3, 0.01  # lower bounds of divisors


def _add_patch(frames: Tensor, lung_mask: Tensor, levels: Levels, generator: Generator) -> Tensor:
    """Add a cloudy, ill-defined opacity: airspaces filled with pus or caseous matter (tuberculosis, pneumonia)."""
    texture = fractal_noise(frames, choose((8, 12, 16, 24), generator), generator)
    cloudy = torch.sigmoid(texture * uniform(frames, 0, 2.5, generator) + uniform(frames, 0, 2, generator))
    shape = irregular_blob(lung_mask, (0.06, 0.3), generator) * cloudy
    return add_density(frames, sample_opacities(frames, generator) * shape * soften_edges(lung_mask), levels)


def _add_diffuse(frames: Tensor, lung_mask: Tensor, levels: Levels, generator: Generator) -> Tensor:
    """Add an opacity of whole zones, as of edema, widespread exudate or a thickened pleura."""
    shape = torch.sigmoid(fractal_noise(frames, 3, generator) * uniform(frames, 1, 3, generator))
    return add_density(frames, DIFFUSE * sample_opacities(frames, generator) * shape * soften_edges(lung_mask), levels)


def _add_effusion(frames: Tensor, lung_mask: Tensor, levels: Levels, generator: Generator) -> Tensor:
    """Add fluid that fills the pleural space of one side from the base, with a meniscus at the chest wall."""
    y, x = pixel_positions(frames)
    across = x / (frames.shape[-1] / frames.shape[-2])  # from 0 to 1 over both lungs
    on_the_left = across < 0.5  # noqa: PLR2004  # the middle of the frame
    lateral = (across - 0.5).abs() * 2  # 1 at the chest wall
    level = uniform(frames, 0.6, 0.95, generator) - uniform(frames, 0, 0.25, generator) * lateral**2
    fluid = torch.sigmoid((y - level) / uniform(frames, 0.01, 0.05, generator))
    one_side = (bernoulli(frames, 0.5, generator) == on_the_left).to(frames)
    lung_and_wall = functional.max_pool2d(soften_edges(lung_mask), 5, stride=1, padding=2)
    opacity = sample_opacities(frames, generator).clamp(min=FLUID)
    return add_density(frames, opacity * fluid * one_side * lung_and_wall, levels)


def _add_lucency(frames: Tensor, lung_mask: Tensor, levels: Levels, generator: Generator) -> Tensor:
    """Add air in place of tissue: a thin-walled cavity, a bulla, emphysema or a local pneumothorax."""
    shape = irregular_blob(lung_mask, (0.06, 0.25), generator) * soften_edges(lung_mask)
    return frames - uniform(frames, 0.2, 1, generator) * shape * levels.contrast


def _add_nodules(frames: Tensor, lung_mask: Tensor, levels: Levels, generator: Generator) -> Tensor:
    """Add one to thirteen round foci: a tuberculoma, airway spread around a cavity, or metastases."""
    count = choose(range(1, 14), generator)
    close = bernoulli(frames, CLUSTERED, generator)
    centers = sample_centers(lung_mask, count, generator)
    away = (
        axis - torch.where(close, center[:, :1] + (center - center[:, :1]) * CLUSTER, center)
        for axis, center in zip(pixel_positions(frames), centers, strict=True)
    )
    radius = uniform(frames, 0.008, 0.045, generator) * uniform(frames, 0.6, 1.4, generator, count)
    depth = 1 - torch.hypot(*away) / radius  # (B, count, H, W), in radii
    shape = torch.sigmoid(depth.amax(dim=1, keepdim=True) / SOFT_RIM)
    return add_density(frames, sample_opacities(frames, generator) * shape * soften_edges(lung_mask), levels)


def _add_miliary(frames: Tensor, lung_mask: Tensor, levels: Levels, generator: Generator) -> Tensor:
    """Add a miliary pattern: thousands of granules of 1 to 3 mm, of hematogenous spread."""
    grains = choose((32, 48, 64), generator)
    dots = torch.sigmoid(5 * (smooth_noise(frames, grains, grains, generator) - uniform(frames, 0.2, 1.2, generator)))
    region = irregular_blob(lung_mask, (0.15, 0.6), generator).masked_fill(
        bernoulli(frames, DISSEMINATED, generator), 1
    )
    return add_density(
        frames, MILIARY_OPACITY * sample_opacities(frames, generator) * dots * region * soften_edges(lung_mask), levels
    )


def _add_ring(frames: Tensor, lung_mask: Tensor, levels: Levels, generator: Generator) -> Tensor:
    """Add a ring: the wall of a cavity around air, the sign of infectious tuberculosis."""
    distance = ellipse_distance(lung_mask, (0.04, 0.12), generator) + 0.1 * fractal_noise(frames, 8, generator)
    wall = torch.exp(-(((distance - 1) / uniform(frames, 0.1, 0.35, generator)) ** 2))
    lumen = torch.sigmoid((1 - distance) / 0.1)
    darker = uniform(frames, 0, 1, generator) * uniform(frames, 0, 0.7, generator) * levels.contrast
    soft = soften_edges(lung_mask)
    return add_density(frames - darker * lumen * soft, sample_opacities(frames, generator) * wall * soft, levels)


def _add_streak(frames: Tensor, lung_mask: Tensor, levels: Levels, generator: Generator) -> Tensor:
    """Add parallel strands of any direction: scars, thickened septa or plates of collapsed lung."""
    strands = smooth_noise(frames, *choose(((64, 6), (48, 4)), generator), generator)
    turn = uniform(frames, 0, math.pi, generator)
    cos, sin = 0.7 * turn.cos(), 0.7 * turn.sin()  # enlarged a little
    (y, x), middle = pixel_positions(frames), 0.5 * frames.shape[-1] / frames.shape[-2]
    down, across = y - 0.5, x - middle
    turned = resample(strands, sin * across + cos * down + 0.5, cos * across - sin * down + middle)
    lines = torch.sigmoid(5 * (turned - uniform(frames, 0.2, 1.2, generator)))
    shape = lines * irregular_blob(lung_mask, (0.08, 0.3), generator) * soften_edges(lung_mask)
    return add_density(frames, sample_opacities(frames, generator) * shape, levels)


def _add_texture(frames: Tensor, lung_mask: Tensor, levels: Levels, generator: Generator) -> Tensor:
    """Blur or sharpen a region: vessels lost in ground glass, or a prominent interstitium."""
    del levels
    reach = choose((1, 2, 4), generator)
    blurred = functional.avg_pool2d(functional.pad(frames, [reach] * 4, mode="reflect"), 2 * reach + 1, stride=1)
    amount = uniform(frames, -1, 2, generator)  # below 0 it blurs, above 0 it sharpens
    return frames + amount * irregular_blob(lung_mask, (0.1, 0.35), generator) * soften_edges(lung_mask) * (
        frames - blurred
    )


def _add_warp(frames: Tensor, lung_mask: Tensor, levels: Levels, generator: Generator) -> Tensor:
    """Distort a region: fissures, vessels and hilum displaced by scars and loss of volume."""
    del levels
    amount = uniform(frames, 0.01, 0.05, generator) * irregular_blob(lung_mask, (0.1, 0.3), generator)
    y, x = (axis + amount * smooth_noise(frames, 6, 6, generator) for axis in pixel_positions(frames))
    return resample(frames, y, x)


def _add_cut_paste(frames: Tensor, lung_mask: Tensor, levels: Levels, generator: Generator) -> Tensor:
    """Paste a piece of another image: misplaced anatomy, in place of diseases that are not modeled.

    The piece comes from the next image of the batch (for a single image, from itself). It is matched in mean and
    contrast, and both are then varied.
    """
    piece = _transform(frames.roll(1, 0), generator)
    shape = irregular_blob(lung_mask, (0.05, 0.2), generator, sharpness=(3, 10)) * soften_edges(lung_mask)
    mean, spread = _moments(frames, shape)
    piece_mean, piece_spread = _moments(piece, shape)
    contrast = uniform(frames, -0.4, 0.7, generator).exp() * spread / piece_spread
    brightness = mean + uniform(frames, -0.2, 1.2, generator) * levels.contrast
    pasted = (piece - piece_mean) * contrast + brightness
    return frames + uniform(frames, 0.4, 1, generator) * shape * (pasted - frames)


def _transform(frames: Tensor, generator: Generator) -> Tensor:
    """Shift, shear and scale images at random, and mirror half of them."""
    (y, x), middle = pixel_positions(frames), 0.5 * frames.shape[-1] / frames.shape[-2]
    down, across = y - 0.5, torch.where(bernoulli(frames, 0.5, generator), -1, 1) * (x - middle)
    mixed = (
        uniform(frames, 0.5, 1.3, generator) * main + uniform(frames, -0.4, 0.4, generator) * other
        for main, other in ((down, across), (across, down))
    )
    to_y, to_x = (each + uniform(frames, -0.2, 0.2, generator) for each in mixed)
    return resample(frames, to_y + 0.5, to_x + middle)


def _moments(images: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted mean and standard deviation of each image, `(B, 1, 1, 1)`; the latter is above 0."""
    share = weights / (weights.sum(dim=(2, 3), keepdim=True) + _MIN_WEIGHT)
    mean = (images * share).sum(dim=(2, 3), keepdim=True)
    return mean, ((images - mean) ** 2 * share).sum(dim=(2, 3), keepdim=True).sqrt() + _MIN_DEVIATION


KINDS: Mapping[str, AddLesion] = MappingProxyType(
    {
        "patch": _add_patch,
        "nodules": _add_nodules,
        "ring": _add_ring,
        "miliary": _add_miliary,
        "effusion": _add_effusion,
        "streak": _add_streak,
        "cut_paste": _add_cut_paste,
        "texture": _add_texture,
        "warp": _add_warp,
        "lucency": _add_lucency,
        "diffuse": _add_diffuse,
    }
)
"""Functions by the name of their kind."""
WEIGHTS: Mapping[str, float] = MappingProxyType({kind: 2.0 if kind == "patch" else 1.0 for kind in KINDS})
"""Relative frequency of each kind."""
