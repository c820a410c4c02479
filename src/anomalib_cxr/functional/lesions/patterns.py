"""Lesions with a shape of their own: dots, rings and lines."""

from __future__ import annotations

import math

import torch

from .drawing import blot, clouds, ellipse, noise, one_of, places, positions, resample, some, uniform
from .levels import Levels, brighten, opacities, soften

MANY = 0.6
"""Opacity of one granule among many, as against a single lesion."""
CLUSTERED, CLUSTER = 0.5, 0.3
"""Share of the images whose nodules lie close together, and how much closer."""
SOFT_RIM = 0.25
"""Softness of a nodule's rim, a share of its radius."""
EVERYWHERE = 0.3
"""Share of the images with granules all over the lungs."""


def paint_nodules(
    lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator
) -> torch.Tensor:
    """Nodules: one to thirteen round foci: a tuberculoma, or airway spread around a cavity, or metastases."""
    count = one_of(range(1, 14), generator)
    close = some(lungs, CLUSTERED, generator)
    centres = places(inside, count, generator)
    away = (
        axis - torch.where(close, centre[:, :1] + (centre - centre[:, :1]) * CLUSTER, centre)
        for axis, centre in zip(positions(lungs), centres, strict=True)
    )
    radius = uniform(lungs, 0.008, 0.045, generator) * uniform(lungs, 0.6, 1.4, generator, count)
    depth = 1 - torch.hypot(*away) / radius  # (B, count, H, W), in radii
    shape = torch.sigmoid(depth.amax(dim=1, keepdim=True) / SOFT_RIM)
    return brighten(lungs, opacities(lungs, generator) * shape * soften(inside), levels)


def paint_miliary(
    lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator
) -> torch.Tensor:
    """Miliary: thousands of 1 to 3 mm granules of haematogenous spread, like millet seeds."""
    grains = one_of((32, 48, 64), generator)
    dots = torch.sigmoid(5 * (noise(lungs, grains, grains, generator) - uniform(lungs, 0.2, 1.2, generator)))
    region = blot(inside, (0.15, 0.6), generator).masked_fill(some(lungs, EVERYWHERE, generator), 1)
    return brighten(lungs, MANY * opacities(lungs, generator) * dots * region * soften(inside), levels)


def paint_ring(lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator) -> torch.Tensor:
    """Ring: the wall of a cavity around air, where caseation was coughed up: the sign of infectious tuberculosis."""
    distance = ellipse(inside, (0.04, 0.12), generator) + 0.1 * clouds(lungs, 8, generator)
    wall = torch.exp(-(((distance - 1) / uniform(lungs, 0.1, 0.35, generator)) ** 2))
    lumen = torch.sigmoid((1 - distance) / 0.1)
    darker = uniform(lungs, 0, 1, generator) * uniform(lungs, 0, 0.7, generator) * levels.contrast
    soft = soften(inside)
    return brighten(lungs - darker * lumen * soft, opacities(lungs, generator) * wall * soft, levels)


def paint_streak(lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator) -> torch.Tensor:
    """Streak: strands of scar, thickened septa or plates of collapse, side by side in any direction."""
    strands = noise(lungs, *one_of(((64, 6), (48, 4)), generator), generator)
    turn = uniform(lungs, 0, math.pi, generator)
    cos, sin = 0.7 * turn.cos(), 0.7 * turn.sin()  # enlarged a little
    (y, x), middle = positions(lungs), 0.5 * lungs.shape[-1] / lungs.shape[-2]
    down, across = y - 0.5, x - middle
    turned = resample(strands, sin * across + cos * down + 0.5, cos * across - sin * down + middle)
    lines = torch.sigmoid(5 * (turned - uniform(lungs, 0.2, 1.2, generator)))
    shape = lines * blot(inside, (0.08, 0.3), generator) * soften(inside)
    return brighten(lungs, opacities(lungs, generator) * shape, levels)
