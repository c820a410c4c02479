"""Lesions that add tissue to a part of the lungs, or take it away."""

from __future__ import annotations

import torch
from torch.nn import functional

from .drawing import blot, clouds, one_of, positions, some, uniform
from .levels import Levels, brighten, opacities, soften

DIFFUSE = 0.6
"""Opacity of what covers much of the lungs, as against a patch."""
FLUID = 0.3
"""Least opacity of fluid."""


def paint_patch(lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator) -> torch.Tensor:
    """Patch: airspaces filled with pus or caseous matter, cloudy and ill-defined: active tuberculosis, pneumonia."""
    texture = clouds(lungs, one_of((8, 12, 16, 24), generator), generator)
    cloudy = torch.sigmoid(texture * uniform(lungs, 0, 2.5, generator) + uniform(lungs, 0, 2, generator))
    shape = blot(inside, (0.06, 0.3), generator) * cloudy
    return brighten(lungs, opacities(lungs, generator) * shape * soften(inside), levels)


def paint_diffuse(
    lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator
) -> torch.Tensor:
    """Diffuse: a veil over whole zones, as oedema, widespread exudate or a thickened pleura make it."""
    shape = torch.sigmoid(clouds(lungs, 3, generator) * uniform(lungs, 1, 3, generator))
    return brighten(lungs, DIFFUSE * opacities(lungs, generator) * shape * soften(inside), levels)


def paint_effusion(
    lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator
) -> torch.Tensor:
    """Effusion: fluid fills the pleural space of one side from the base and climbs the chest wall as a meniscus."""
    y, x = positions(lungs)
    across = x / (lungs.shape[-1] / lungs.shape[-2])  # from 0 to 1 over both lungs
    on_the_left = across < 0.5  # noqa: PLR2004  # the middle of the frame
    lateral = (across - 0.5).abs() * 2  # 1 at the chest wall
    level = uniform(lungs, 0.6, 0.95, generator) - uniform(lungs, 0, 0.25, generator) * lateral**2
    fluid = torch.sigmoid((y - level) / uniform(lungs, 0.01, 0.05, generator))
    one_side = (some(lungs, 0.5, generator) == on_the_left).to(lungs)
    down_to_the_wall = functional.max_pool2d(soften(inside), 5, stride=1, padding=2)
    opacity = opacities(lungs, generator).clamp(min=FLUID)
    return brighten(lungs, opacity * fluid * one_side * down_to_the_wall, levels)


def paint_lucency(
    lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator
) -> torch.Tensor:
    """Lucency: air where tissue was, as in a thin-walled cavity, a bulla, emphysema or a local pneumothorax."""
    shape = blot(inside, (0.06, 0.25), generator) * soften(inside)
    return lungs - uniform(lungs, 0.2, 1, generator) * shape * levels.contrast
