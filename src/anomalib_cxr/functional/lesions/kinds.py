"""Lesions that change what the lung shows without adding tissue: its grain, its course, its place."""

from __future__ import annotations

import math

import torch
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

DIFFUSE = 0.6
"""Opacity of what covers much of the lungs, as against a patch."""
FLUID = 0.3
"""Least opacity of fluid."""


def add_patch(lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator) -> torch.Tensor:
    """Patch: airspaces filled with pus or caseous matter, cloudy and ill-defined: active tuberculosis, pneumonia."""
    texture = fractal_noise(lungs, choose((8, 12, 16, 24), generator), generator)
    cloudy = torch.sigmoid(texture * uniform(lungs, 0, 2.5, generator) + uniform(lungs, 0, 2, generator))
    shape = irregular_blob(inside, (0.06, 0.3), generator) * cloudy
    return add_density(lungs, sample_opacities(lungs, generator) * shape * soften_edges(inside), levels)


def add_diffuse(lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator) -> torch.Tensor:
    """Diffuse: a veil over whole zones, as edema, widespread exudate or a thickened pleura make it."""
    shape = torch.sigmoid(fractal_noise(lungs, 3, generator) * uniform(lungs, 1, 3, generator))
    return add_density(lungs, DIFFUSE * sample_opacities(lungs, generator) * shape * soften_edges(inside), levels)


def add_effusion(lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator) -> torch.Tensor:
    """Effusion: fluid fills the pleural space of one side from the base and climbs the chest wall as a meniscus."""
    y, x = pixel_positions(lungs)
    across = x / (lungs.shape[-1] / lungs.shape[-2])  # from 0 to 1 over both lungs
    on_the_left = across < 0.5  # noqa: PLR2004  # the middle of the frame
    lateral = (across - 0.5).abs() * 2  # 1 at the chest wall
    level = uniform(lungs, 0.6, 0.95, generator) - uniform(lungs, 0, 0.25, generator) * lateral**2
    fluid = torch.sigmoid((y - level) / uniform(lungs, 0.01, 0.05, generator))
    one_side = (bernoulli(lungs, 0.5, generator) == on_the_left).to(lungs)
    down_to_the_wall = functional.max_pool2d(soften_edges(inside), 5, stride=1, padding=2)
    opacity = sample_opacities(lungs, generator).clamp(min=FLUID)
    return add_density(lungs, opacity * fluid * one_side * down_to_the_wall, levels)


def add_lucency(lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator) -> torch.Tensor:
    """Lucency: air where tissue was, as in a thin-walled cavity, a bulla, emphysema or a local pneumothorax."""
    shape = irregular_blob(inside, (0.06, 0.25), generator) * soften_edges(inside)
    return lungs - uniform(lungs, 0.2, 1, generator) * shape * levels.contrast


MANY = 0.6
"""Opacity of one granule among many, as against a single lesion."""
CLUSTERED, CLUSTER = 0.5, 0.3
"""Share of the images whose nodules lie close together, and how much closer."""
SOFT_RIM = 0.25
"""Softness of a nodule's rim, a share of its radius."""
EVERYWHERE = 0.3
"""Share of the images with granules all over the lungs."""


def add_nodules(lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator) -> torch.Tensor:
    """Nodules: one to thirteen round foci: a tuberculoma, or airway spread around a cavity, or metastases."""
    count = choose(range(1, 14), generator)
    close = bernoulli(lungs, CLUSTERED, generator)
    centers = sample_centers(inside, count, generator)
    away = (
        axis - torch.where(close, center[:, :1] + (center - center[:, :1]) * CLUSTER, center)
        for axis, center in zip(pixel_positions(lungs), centers, strict=True)
    )
    radius = uniform(lungs, 0.008, 0.045, generator) * uniform(lungs, 0.6, 1.4, generator, count)
    depth = 1 - torch.hypot(*away) / radius  # (B, count, H, W), in radii
    shape = torch.sigmoid(depth.amax(dim=1, keepdim=True) / SOFT_RIM)
    return add_density(lungs, sample_opacities(lungs, generator) * shape * soften_edges(inside), levels)


def add_miliary(lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator) -> torch.Tensor:
    """Miliary: thousands of 1 to 3 mm granules of hematogenous spread, like millet seeds."""
    grains = choose((32, 48, 64), generator)
    dots = torch.sigmoid(5 * (smooth_noise(lungs, grains, grains, generator) - uniform(lungs, 0.2, 1.2, generator)))
    region = irregular_blob(inside, (0.15, 0.6), generator).masked_fill(bernoulli(lungs, EVERYWHERE, generator), 1)
    return add_density(lungs, MANY * sample_opacities(lungs, generator) * dots * region * soften_edges(inside), levels)


def add_ring(lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator) -> torch.Tensor:
    """Ring: the wall of a cavity around air, where caseation was coughed up: the sign of infectious tuberculosis."""
    distance = ellipse_distance(inside, (0.04, 0.12), generator) + 0.1 * fractal_noise(lungs, 8, generator)
    wall = torch.exp(-(((distance - 1) / uniform(lungs, 0.1, 0.35, generator)) ** 2))
    lumen = torch.sigmoid((1 - distance) / 0.1)
    darker = uniform(lungs, 0, 1, generator) * uniform(lungs, 0, 0.7, generator) * levels.contrast
    soft = soften_edges(inside)
    return add_density(lungs - darker * lumen * soft, sample_opacities(lungs, generator) * wall * soft, levels)


def add_streak(lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator) -> torch.Tensor:
    """Streak: strands of scar, thickened septa or plates of collapse, side by side in any direction."""
    strands = smooth_noise(lungs, *choose(((64, 6), (48, 4)), generator), generator)
    turn = uniform(lungs, 0, math.pi, generator)
    cos, sin = 0.7 * turn.cos(), 0.7 * turn.sin()  # enlarged a little
    (y, x), middle = pixel_positions(lungs), 0.5 * lungs.shape[-1] / lungs.shape[-2]
    down, across = y - 0.5, x - middle
    turned = resample(strands, sin * across + cos * down + 0.5, cos * across - sin * down + middle)
    lines = torch.sigmoid(5 * (turned - uniform(lungs, 0.2, 1.2, generator)))
    shape = lines * irregular_blob(inside, (0.08, 0.3), generator) * soften_edges(inside)
    return add_density(lungs, sample_opacities(lungs, generator) * shape, levels)


_TINY, _FLAT = 1e-3, 0.01  # divisors' least weight and least standard deviation


def add_texture(lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator) -> torch.Tensor:
    """Texture: vessels blurred by ground glass, or an interstitium that stands out more than in the healthy."""
    del levels  # only what is there is blurred or sharpened
    reach = choose((1, 2, 4), generator)
    blurred = functional.avg_pool2d(functional.pad(lungs, [reach] * 4, mode="reflect"), 2 * reach + 1, stride=1)
    amount = uniform(lungs, -1, 2, generator)  # below 0 it blurs, above 0 it sharpens
    return lungs + amount * irregular_blob(inside, (0.1, 0.35), generator) * soften_edges(inside) * (lungs - blurred)


def add_warp(lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator) -> torch.Tensor:
    """Warp: fissures, vessels and hilum pulled out of place by scars and loss of volume."""
    del levels  # only what is there is moved
    amount = uniform(lungs, 0.01, 0.05, generator) * irregular_blob(inside, (0.1, 0.3), generator)
    y, x = (axis + amount * smooth_noise(lungs, 6, 6, generator) for axis in pixel_positions(lungs))
    return resample(lungs, y, x)


def add_cut_paste(
    lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator
) -> torch.Tensor:
    """Cut and paste: anatomy where it does not belong, which stands for any disease that nobody thought of.

    The piece comes from the next image of the batch (a single image gives to itself), matched in mean and contrast and
    then changed in both.
    """
    piece = _elsewhere(lungs.roll(1, 0), generator)
    shape = irregular_blob(inside, (0.05, 0.2), generator, sharpness=(3, 10)) * soften_edges(inside)
    mean, spread = _moments(lungs, shape)
    piece_mean, piece_spread = _moments(piece, shape)
    contrast = uniform(lungs, -0.4, 0.7, generator).exp() * spread / piece_spread
    brightness = mean + uniform(lungs, -0.2, 1.2, generator) * levels.contrast
    pasted = (piece - piece_mean) * contrast + brightness
    return lungs + uniform(lungs, 0.4, 1, generator) * shape * (pasted - lungs)


def _elsewhere(lungs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift, shear and scale images at random, and mirror half of them."""
    (y, x), middle = pixel_positions(lungs), 0.5 * lungs.shape[-1] / lungs.shape[-2]
    down, across = y - 0.5, torch.where(bernoulli(lungs, 0.5, generator), -1, 1) * (x - middle)
    mixed = (
        uniform(lungs, 0.5, 1.3, generator) * main + uniform(lungs, -0.4, 0.4, generator) * other
        for main, other in ((down, across), (across, down))
    )
    to_y, to_x = (each + uniform(lungs, -0.2, 0.2, generator) for each in mixed)
    return resample(lungs, to_y + 0.5, to_x + middle)


def _moments(images: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted mean and standard deviation of each image, `(B, 1, 1, 1)`; the latter above 0."""
    share = weights / (weights.sum(dim=(2, 3), keepdim=True) + _TINY)
    mean = (images * share).sum(dim=(2, 3), keepdim=True)
    return mean, ((images - mean) ** 2 * share).sum(dim=(2, 3), keepdim=True).sqrt() + _FLAT
