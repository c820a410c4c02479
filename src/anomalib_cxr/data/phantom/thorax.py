"""Healthy thorax: path lengths through soft tissue, lungs, vessels and bones, summed along each ray."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .anatomy import Anatomy, Lungs, draw_lungs
from .geometry import (
    BONE,
    CM,
    LEFT,
    RIGHT,
    FloatImage,
    PixelGrid,
    RealArray,
    bone,
    chord,
    ellipse,
    segment_distance,
    smooth_union,
    soft_step,
)

Segment = tuple[float, float, float, float, float]  # start x and y, end x and y, radius


@dataclass(frozen=True)
class Thorax:
    """Thorax of a healthy person on a pixel grid.

    Attributes:
        grid: Pixel grid in body coordinates.
        anatomy: Anatomy of the person.
        lungs: Lungs of the person.
        path: Path length through tissue, in cm of water, (H, W).
    """

    grid: PixelGrid
    anatomy: Anatomy
    lungs: Lungs
    path: FloatImage


def draw_thorax(rng: np.random.Generator, size: int) -> Thorax:
    """Draw the thorax of a random healthy person.

    Args:
        rng: Random generator; the same state gives the same anatomy at any size.
        size: Height and width in pixels.

    Returns:
        The thorax.
    """
    grid, anatomy = PixelGrid.random(rng, size), Anatomy.random(rng)
    lungs = draw_lungs(grid, anatomy)
    parts = [
        _body(grid, anatomy),
        -lungs.air,
        _airways(grid),
        _vessels(rng, grid, lungs),
        _ribs(grid, anatomy, lungs),
        _spine(grid),
        _shoulders(grid, anatomy),
        _breasts(grid, anatomy),
        _stomach(grid, anatomy),
    ]
    return Thorax(grid, anatomy, lungs, np.maximum(np.sum(parts, axis=0), 0))


def _body(grid: PixelGrid, anatomy: Anatomy) -> FloatImage:
    """Return the path through neck, shoulders, arms and trunk, without air."""
    x, y, u = grid.x, grid.y, np.abs(grid.x)
    wall = anatomy.width + 0.14 - 0.05 * np.clip(y, 0, None)
    shoulder_line = -0.95 + 0.34 * np.clip(u - 0.15, 0, None)
    trunk = np.minimum(wall - u, y - shoulder_line)
    arm = 0.25 - segment_distance(u, y, (0.74, -0.48), (1.35, 0.15))
    neck = 0.2 - segment_distance(x, y, (0, -1.6), (0, -0.6))
    inside = smooth_union(smooth_union(trunk, arm, 0.05), neck, 0.04)
    trunk_depth = anatomy.depth + 1.5 * np.clip(y, -0.5, 1) - 10 * np.clip(-0.45 - y, 0, 0.5)
    depth = np.minimum(trunk_depth, 11 + 10 * soft_step(0.78 - u + 0.1 * y, 0.25))
    rounding = np.sqrt(1 - (1 - np.clip(inside / 0.30, 0, 1)) ** 2)
    return np.asarray(depth * rounding, np.float32)


def _airways(grid: PixelGrid) -> FloatImage:
    """Return the negative path through the air of trachea and main bronchi."""
    x, y = grid.x, grid.y
    trachea = chord(segment_distance(x, y, (0, -1.2), (0, -0.24)), 0.04)
    right = chord(segment_distance(x, y, (0, -0.24), (-0.13, -0.10)), 0.03)
    left = chord(segment_distance(x, y, (0, -0.24), (0.17, -0.12)), 0.028)
    return np.asarray(-CM * np.maximum.reduce([trachea, right, left]), np.float32)


def grow_branches(
    rng: np.random.Generator,
    start: tuple[float, float],
    heading: float,
    *,
    length: float,
    radius: float,
    generations: int,
) -> list[Segment]:
    """Return a random tree of vessels or bronchi, whose branches get thinner and shorter at each fork.

    Args:
        rng: Random generator.
        start: Body coordinates of the root.
        heading: Direction of the first branch in radians.
        length: Length of the first branch.
        radius: Radius of the first branch.
        generations: Number of generations of branches.

    Returns:
        The branches.
    """
    segments: list[Segment] = []
    tips = [(start, heading, length, radius)]
    for _ in range(generations):
        forks = []
        for (x, y), angle, reach, thick in tips:
            end = (x + reach * np.cos(angle), y + reach * np.sin(angle))
            segments.append((x, y, *end, thick))
            turns = angle + np.array([-1, 1]) * rng.uniform(0.05, 0.6, 2)
            forks += [(end, turn, reach * rng.uniform(0.7, 0.9), thick * 0.74) for turn in turns]
        tips = forks
    return segments


def draw_branches(grid: PixelGrid, segments: list[Segment]) -> FloatImage:
    """Return the path through thin branches; where two cross, the longer path counts.

    Args:
        grid: Pixel grid.
        segments: The branches.

    Returns:
        Path in body units, (H, W).
    """
    path = np.zeros_like(grid.x)
    for x0, y0, x1, y1, radius in segments:
        reach = np.hypot(x1 - x0, y1 - y0) / 2 + 2.5 * radius
        at = grid.neighborhood((x0 + x1) / 2, (y0 + y1) / 2, reach)
        if path[at].size:
            distance = segment_distance(grid.x[at], grid.y[at], (x0, y0), (x1, y1))
            path[at] = np.maximum(path[at], 2 * radius * np.exp(-((distance / radius) ** 2)))
    return path


def _vessels(rng: np.random.Generator, grid: PixelGrid, lungs: Lungs) -> FloatImage:
    """Return the path through the hila and their vessels; the left hilum is higher."""
    segments: list[Segment] = []
    hila = np.zeros_like(grid.x)
    for side, x, y in ((RIGHT, 0.18, -0.04), (LEFT, 0.21, -0.08)):
        for steer in np.linspace(-1.25, 1.35, 7) + rng.uniform(-0.12, 0.12, 7):
            angle = steer if side == LEFT else np.pi - steer
            length, thick = rng.uniform(0.11, 0.16), rng.uniform(0.018, 0.025)
            segments += grow_branches(rng, (side * x, y), angle, length=length, radius=thick, generations=5)
        hila += soft_step(ellipse(grid.x, grid.y, (side * x, y + 0.03), (0.06, 0.13), side * -0.2), 0.05)
    return np.asarray(
        (1.9 * CM * draw_branches(grid, segments) + 2.6 * hila) * np.clip(lungs.air / 6, 0, 1), np.float32
    )


def _ribs(grid: PixelGrid, anatomy: Anatomy, lungs: Lungs) -> FloatImage:
    """Return the path through the posterior ribs and, fainter, the anterior ribs."""
    across = np.clip(np.abs(grid.x) / anatomy.lateral(grid.y, 0.06), 0, 1.1)
    posterior = grid.y - anatomy.rib_start - anatomy.rib_drop * across**2.2 + 0.04 * np.sin(np.pi * across)
    anterior = grid.y - anatomy.rib_start - anatomy.rib_drop - 0.34 * (1 - across)

    def ribs(height: RealArray, last: int, radius: float) -> FloatImage:
        """Return the path through ribs 0 to `last`, at multiples of the rib spacing."""
        number = height / anatomy.rib_spacing
        slope = np.hypot(*np.gradient(height)) * grid.pixels_per_unit
        distance = (number - np.clip(np.rint(number), 0, last)) * anatomy.rib_spacing / np.maximum(slope, 0.5)
        return bone(distance, radius)

    cartilage = soft_step(across - 0.45, 0.2)
    return np.asarray(
        lungs.cage * (ribs(posterior, 9, 0.026) + 0.45 * cartilage * ribs(anterior, 6, 0.032)), np.float32
    )


def _spine(grid: PixelGrid) -> FloatImage:
    """Return the path through vertebral bodies, the lighter discs between them, and spinous processes."""
    column = soft_step(0.075 - np.abs(grid.x), 0.015)
    discs = 1 - 0.35 * np.exp(-((np.sin(np.pi * grid.y / 0.11) / 0.3) ** 2))
    process = np.exp(-((grid.x / 0.014) ** 2) - (np.cos(np.pi * grid.y / 0.11) / 0.45) ** 2)
    return np.asarray(BONE * (1.6 * column * discs + 0.6 * process), np.float32)


def _shoulders(grid: PixelGrid, anatomy: Anatomy) -> FloatImage:
    """Return the path through clavicles, shoulder blades and humeri."""
    u, y = np.abs(grid.x), grid.y
    run = np.clip((u - 0.06) / 0.74, 0, 1)
    curve = -0.48 - anatomy.clavicle_tilt * run - 0.04 * np.sin(2 * np.pi * run)
    ends = soft_step(0.37 - np.abs(u - 0.43), 0.02)
    clavicle = 1.3 * bone((y - curve) * 0.93, 0.03) * ends
    blade = np.minimum.reduce([(u - 0.60) - 0.10 * (y + 0.1), 0.04 - (u - 0.72) - 0.30 * (y + 0.2), y + 0.58, 0.12 - y])
    humerus = bone(segment_distance(u, y, (0.86, -0.46), (1.3, 0.10)), 0.05)
    head = 12 * chord(np.hypot(u - 0.83, y + 0.50), 0.09)
    return np.asarray(clavicle + 1.6 * soft_step(blade, 0.015) + np.maximum(humerus, head), np.float32)


def _breasts(grid: PixelGrid, anatomy: Anatomy) -> FloatImage:
    """Return the path through the breasts, which have a sharp lower edge and fade upwards."""
    inside = ellipse(np.abs(grid.x), grid.y, (0.38, 0.22), (0.30, 0.27))
    fade = soft_step(grid.y - 0.15, 0.2)
    return np.asarray(anatomy.breast * np.sqrt(np.clip(inside / 0.27, 0, 1)) * fade, np.float32)


def _stomach(grid: PixelGrid, anatomy: Anatomy) -> FloatImage:
    """Return the negative path through the gas bubble under the left dome, above a fluid level."""
    top = anatomy.domes[LEFT] + 0.05
    bubble = soft_step(ellipse(grid.x, grid.y, (0.33, top + 0.07), (0.13, 0.07)), 0.02)
    return np.asarray(-anatomy.gas * bubble * soft_step(top + 0.09 - grid.y, 0.01), np.float32)
