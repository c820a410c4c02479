"""Findings of the phantoms: the path length through tissue, in cm of water, that a disease adds along each ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np

from .geometry import CM, LEFT, RIGHT, FloatImage, PixelGrid, chord, ellipse, soft_step
from .thorax import Thorax, draw_branches, grow_branches

FindingName = Literal["consolidation", "nodules", "cavity", "effusion", "miliary"]


def _consolidation(rng: np.random.Generator, thorax: Thorax) -> FloatImage:
    """Airspace disease of one lobe: patchy, with air bronchograms, and bounded by a fissure."""
    grid, anatomy = thorax.grid, thorax.anatomy
    side, upper = _side(rng), rng.random() < 0.5  # noqa: PLR2004
    x, y = anatomy.point(side, rng.uniform(0.45, 0.6), rng.uniform(0.28, 0.38) if upper else rng.uniform(0.68, 0.8))
    shape = ellipse(grid.x, grid.y, (x, y), (rng.uniform(0.20, 0.27), rng.uniform(0.18, 0.24)), rng.uniform(-0.5, 0.5))
    patchy = soft_step(shape + 0.035 * _texture(rng, grid, 14.0), 0.09)
    fissure = anatomy.point(side, 0.5, 0.52)[1] + 0.06 * (np.abs(grid.x) - 0.4)
    lobe = soft_step(fissure - grid.y if upper else grid.y - fissure, 0.015)
    hilum = anatomy.point(side, 0.0, 0.55)
    heading = float(np.arctan2(y - hilum[1], x - hilum[0]))
    bronchi = draw_branches(grid, grow_branches(rng, hilum, heading, length=0.16, radius=0.014, generations=4))
    return np.asarray((0.95 * thorax.lungs.air - CM * bronchi) * patchy * lobe * thorax.lungs.fields, np.float32)


def _nodules(rng: np.random.Generator, thorax: Thorax) -> FloatImage:
    """Five to nine round, well-defined nodules of different sizes in both lungs."""
    path = np.zeros_like(thorax.grid.x)
    for number in range(int(rng.integers(5, 10))):
        side = (RIGHT, LEFT)[number % 2]
        center = thorax.anatomy.point(side, rng.uniform(0.25, 0.8), rng.uniform(0.2, 0.85))
        _add_ball(path, thorax.grid, center, rng.uniform(0.05, 0.095), density=1.8)
    return path * thorax.lungs.fields


def _cavity(rng: np.random.Generator, thorax: Thorax) -> FloatImage:
    """Thick-walled ring with a lucent center in an upper lobe, surrounded by an infiltrate."""
    grid = thorax.grid
    x, y = thorax.anatomy.point(_side(rng), rng.uniform(0.4, 0.6), rng.uniform(0.25, 0.38))
    outer, angle = rng.uniform(0.15, 0.20), rng.uniform(0, np.pi)
    inner = outer * rng.uniform(0.6, 0.7)
    distance = outer - ellipse(grid.x, grid.y, (x, y), (outer, 0.85 * outer), angle)
    ragged = distance * (1 + 0.08 * _texture(rng, grid, 14.0))
    wall = 1.4 * CM * (chord(ragged, outer) - chord(ragged, inner))
    patchy = np.clip(0.8 + 0.5 * _texture(rng, grid, 22.0), 0, None)
    infiltrate = 3.4 * patchy * np.exp(-((distance / (1.7 * outer)) ** 2)) * soft_step(ragged - inner, 0.02)
    lumen = -1.0 * soft_step(inner - ragged, 0.02)
    return np.asarray((wall + infiltrate + lumen) * thorax.lungs.fields, np.float32)


def _effusion(rng: np.random.Generator, thorax: Thorax) -> FloatImage:
    """Fluid in one costophrenic angle, which replaces lung and rises along the chest wall as a meniscus."""
    grid, anatomy, side = thorax.grid, thorax.anatomy, _side(rng)
    level = anatomy.domes[side] - rng.uniform(0.15, 0.45)
    across = np.clip(side * grid.x / anatomy.lateral(grid.y), 0, 1)
    meniscus = level + 0.06 - rng.uniform(0.28, 0.38) * across**5
    fluid = soft_step(grid.y - meniscus, 0.035) * (side * grid.x > 0)
    return np.asarray(0.95 * thorax.lungs.air * fluid, np.float32)


def _miliary(rng: np.random.Generator, thorax: Thorax) -> FloatImage:
    """Hundreds of small nodules, spread evenly over both lungs."""
    anatomy = thorax.anatomy
    path = np.zeros_like(thorax.grid.x)
    count = int(rng.integers(800, 1100))
    places = rng.uniform((-anatomy.width, anatomy.apex), (anatomy.width, anatomy.domes[LEFT] + 0.2), (count, 2))
    for (x, y), radius in zip(places, rng.uniform(0.012, 0.02, count), strict=True):
        _add_ball(path, thorax.grid, (x, y), radius, density=4.6)
    return path * thorax.lungs.fields


FINDINGS: Mapping[FindingName, Callable[[np.random.Generator, Thorax], FloatImage]] = MappingProxyType(
    {
        "consolidation": _consolidation,
        "nodules": _nodules,
        "cavity": _cavity,
        "effusion": _effusion,
        "miliary": _miliary,
    }
)
"""Functions that draw a finding into a thorax, by the name of the finding."""


def _side(rng: np.random.Generator) -> int:
    return (RIGHT, LEFT)[int(rng.integers(2))]


def _texture(rng: np.random.Generator, grid: PixelGrid, frequency: float) -> FloatImage:
    """Return a sum of waves with random directions: unit variance, the same pattern at any image size."""
    waves = 16
    angle, phase = rng.uniform(0, 2 * np.pi, (2, waves))
    pace = frequency * rng.uniform(0.5, 1.5, waves)
    total = np.zeros_like(grid.x)
    for along_x, along_y, offset in zip(pace * np.cos(angle), pace * np.sin(angle), phase, strict=True):
        total += np.cos(np.float32(along_x) * grid.x + np.float32(along_y) * grid.y + np.float32(offset))
    return np.asarray(np.sqrt(2 / waves) * total, np.float32)


def _add_ball(
    path: FloatImage, grid: PixelGrid, center: tuple[float, float], radius: float, density: float = 1.4
) -> None:
    """Add the path through a ball with a soft edge, in cm of water, in place."""
    at = grid.neighborhood(*center, 2 * radius)
    if path[at].size:
        distance = np.hypot(grid.x[at] - center[0], grid.y[at] - center[1])
        path[at] += density * CM * 2 * radius * np.exp(-((distance / radius) ** 3))
