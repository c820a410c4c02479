"""Diseases of the phantoms: each function returns the tissue that a disease adds along the ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np

from .anatomy import CM, LEFT, RIGHT, Field, View, chord, ellipse, soft
from .thorax import Thorax, draw_branches, grow_branches

Finding = Literal["consolidation", "nodules", "cavity", "effusion", "miliary"]


def draw_consolidation(rng: np.random.Generator, thorax: Thorax) -> Field:
    """Airspace disease of one lobe: patchy, with air-filled bronchi, and cut off by the fissure above or below it."""
    view, build = thorax.view, thorax.build
    side, upper = _side(rng), rng.random() < 0.5  # noqa: PLR2004
    x, y = build.point(side, rng.uniform(0.45, 0.6), rng.uniform(0.28, 0.38) if upper else rng.uniform(0.68, 0.8))
    shape = ellipse(view.x, view.y, (x, y), (rng.uniform(0.20, 0.27), rng.uniform(0.18, 0.24)), rng.uniform(-0.5, 0.5))
    patchy = soft(shape + 0.035 * _texture(rng, view, 14.0), 0.09)
    fissure = build.point(side, 0.5, 0.52)[1] + 0.06 * (np.abs(view.x) - 0.4)
    lobe = soft(fissure - view.y if upper else view.y - fissure, 0.015)
    hilum = build.point(side, 0.0, 0.55)
    heading = float(np.arctan2(y - hilum[1], x - hilum[0]))
    bronchi = draw_branches(view, grow_branches(rng, hilum, heading, length=0.16, radius=0.014, generations=4))
    return np.asarray((0.95 * thorax.lungs.air - CM * bronchi) * patchy * lobe * thorax.lungs.fields, np.float32)


def draw_nodules(rng: np.random.Generator, thorax: Thorax) -> Field:
    """Five to nine round, well-defined nodules of different size in both lungs."""
    path = np.zeros_like(thorax.view.x)
    for number in range(int(rng.integers(5, 10))):
        side = (RIGHT, LEFT)[number % 2]
        center = thorax.build.point(side, rng.uniform(0.25, 0.8), rng.uniform(0.2, 0.85))
        _add_ball(path, thorax.view, center, rng.uniform(0.05, 0.095), density=1.8)
    return path * thorax.lungs.fields


def draw_cavity(rng: np.random.Generator, thorax: Thorax) -> Field:
    """A thick-walled ring with a lucent center in an upper lobe, among some infiltrate."""
    view = thorax.view
    x, y = thorax.build.point(_side(rng), rng.uniform(0.4, 0.6), rng.uniform(0.25, 0.38))
    outer, angle = rng.uniform(0.15, 0.20), rng.uniform(0, np.pi)
    inner = outer * rng.uniform(0.6, 0.7)
    distance = outer - ellipse(view.x, view.y, (x, y), (outer, 0.85 * outer), angle)
    ragged = distance * (1 + 0.08 * _texture(rng, view, 14.0))
    wall = 1.4 * CM * (chord(ragged, outer) - chord(ragged, inner))
    patchy = np.clip(0.8 + 0.5 * _texture(rng, view, 22.0), 0, None)
    infiltrate = 3.4 * patchy * np.exp(-((distance / (1.7 * outer)) ** 2)) * soft(ragged - inner, 0.02)
    lumen = -1.0 * soft(inner - ragged, 0.02)
    return np.asarray((wall + infiltrate + lumen) * thorax.lungs.fields, np.float32)


def draw_effusion(rng: np.random.Generator, thorax: Thorax) -> Field:
    """Fluid in one costophrenic angle: it takes the lung's place and climbs the chest wall as a meniscus."""
    view, build, side = thorax.view, thorax.build, _side(rng)
    level = build.dome(side) - rng.uniform(0.15, 0.45)
    across = np.clip(side * view.x / build.lateral(view.y), 0, 1)
    meniscus = level + 0.06 - rng.uniform(0.28, 0.38) * across**5
    fluid = soft(view.y - meniscus, 0.035) * (side * view.x > 0)
    return np.asarray(0.95 * thorax.lungs.air * fluid, np.float32)


def draw_miliary(rng: np.random.Generator, thorax: Thorax) -> Field:
    """Hundreds of seed-like nodules, evenly in both lungs."""
    build = thorax.build
    path = np.zeros_like(thorax.view.x)
    count = int(rng.integers(800, 1100))
    places = rng.uniform((-build.width, build.apex), (build.width, build.dome_left + 0.2), (count, 2))
    for (x, y), radius in zip(places, rng.uniform(0.012, 0.02, count), strict=True):
        _add_ball(path, thorax.view, (x, y), radius, density=4.6)
    return path * thorax.lungs.fields


FINDINGS: Mapping[Finding, Callable[[np.random.Generator, Thorax], Field]] = MappingProxyType(
    {
        "consolidation": draw_consolidation,
        "nodules": draw_nodules,
        "cavity": draw_cavity,
        "effusion": draw_effusion,
        "miliary": draw_miliary,
    }
)


def _side(rng: np.random.Generator) -> int:
    return (RIGHT, LEFT)[int(rng.integers(2))]


def _texture(rng: np.random.Generator, view: View, frequency: float) -> Field:
    """Sum waves of random direction: unit variance, the same pattern at any image size."""
    waves = 16
    angle, phase = rng.uniform(0, 2 * np.pi, (2, waves))
    pace = frequency * rng.uniform(0.5, 1.5, waves)
    total = np.zeros_like(view.x)
    for along_x, along_y, offset in zip(pace * np.cos(angle), pace * np.sin(angle), phase, strict=True):
        total += np.cos(np.float32(along_x) * view.x + np.float32(along_y) * view.y + np.float32(offset))
    return np.asarray(np.sqrt(2 / waves) * total, np.float32)


def _add_ball(path: Field, view: View, center: tuple[float, float], radius: float, density: float = 1.4) -> None:
    """Add the path through a ball with a soft rim, in cm of water, in place."""
    at = view.window(*center, 2 * radius)
    if path[at].size:
        distance = np.hypot(view.x[at] - center[0], view.y[at] - center[1])
        path[at] += density * CM * 2 * radius * np.exp(-((distance / radius) ** 3))
