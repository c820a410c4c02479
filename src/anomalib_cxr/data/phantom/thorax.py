"""A healthy thorax in the beam: soft tissue, lungs, vessels and bones added up along each ray."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .anatomy import (
    BONE,
    CM,
    LEFT,
    RIGHT,
    Build,
    Field,
    Lungs,
    Real,
    View,
    blend,
    chord,
    draw_lungs,
    ellipse,
    soft,
    to_segment,
    tube,
)

Segment = tuple[float, float, float, float, float]  # start x and y, end x and y, radius


@dataclass(frozen=True)
class Thorax:
    """A healthy person before the detector.

    Attributes:
        view: The pixel grid in body coordinates.
        build: The person.
        lungs: The air of the lungs.
        path: Tissue along each ray, in cm of water, (H, W).
    """

    view: View
    build: Build
    lungs: Lungs
    path: Field


def draw_thorax(rng: np.random.Generator, size: int) -> Thorax:
    """Draw a healthy person; the same generator gives the same anatomy at any size."""
    view, build = View.random(rng, size), Build.random(rng)
    lungs = draw_lungs(view, build)
    parts = [
        draw_body(view, build),
        -lungs.air,
        draw_airways(view),
        draw_vessels(rng, view, lungs),
        draw_ribs(view, build, lungs),
        draw_spine(view),
        draw_shoulders(view, build),
        draw_breasts(view, build),
        draw_stomach(view, build),
    ]
    return Thorax(view, build, lungs, np.maximum(np.sum(parts, axis=0), 0))


def draw_body(view: View, build: Build) -> Field:
    """Soft tissue of neck, shoulders, arms and trunk, without any air."""
    x, y, u = view.x, view.y, np.abs(view.x)
    wall = build.width + 0.14 - 0.05 * np.clip(y, 0, None)
    shoulder_line = -0.95 + 0.34 * np.clip(u - 0.15, 0, None)
    trunk = np.minimum(wall - u, y - shoulder_line)
    arm = 0.25 - to_segment(u, y, (0.74, -0.48), (1.35, 0.15))
    neck = 0.2 - to_segment(x, y, (0, -1.6), (0, -0.6))
    inside = blend(blend(trunk, arm, 0.05), neck, 0.04)
    trunk_depth = build.depth + 1.5 * np.clip(y, -0.5, 1) - 10 * np.clip(-0.45 - y, 0, 0.5)
    depth = np.minimum(trunk_depth, 11 + 10 * soft(0.78 - u + 0.1 * y, 0.25))
    rounding = np.sqrt(1 - (1 - np.clip(inside / 0.30, 0, 1)) ** 2)
    return np.asarray(depth * rounding, np.float32)


def draw_airways(view: View) -> Field:
    """Trachea and main bronchi, which are lucent."""
    x, y = view.x, view.y
    trachea = chord(to_segment(x, y, (0, -1.2), (0, -0.24)), 0.04)
    right = chord(to_segment(x, y, (0, -0.24), (-0.13, -0.10)), 0.03)
    left = chord(to_segment(x, y, (0, -0.24), (0.17, -0.12)), 0.028)
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
    """Grow a tree that forks, thins and shortens at each generation, as vessels and bronchi do."""
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


def draw_branches(view: View, segments: list[Segment]) -> Field:
    """Path through thin vessels, in body units; where two cross, the thicker one counts."""
    path = np.zeros_like(view.x)
    for x0, y0, x1, y1, radius in segments:
        reach = np.hypot(x1 - x0, y1 - y0) / 2 + 2.5 * radius
        at = view.window((x0 + x1) / 2, (y0 + y1) / 2, reach)
        if path[at].size:
            distance = to_segment(view.x[at], view.y[at], (x0, y0), (x1, y1))
            path[at] = np.maximum(path[at], 2 * radius * np.exp(-((distance / radius) ** 2)))
    return path


def draw_vessels(rng: np.random.Generator, view: View, lungs: Lungs) -> Field:
    """Hila and the vessels that fan out from them; the left hilum is the higher one."""
    segments: list[Segment] = []
    hila = np.zeros_like(view.x)
    for side, x, y in ((RIGHT, 0.18, -0.04), (LEFT, 0.21, -0.08)):
        for steer in np.linspace(-1.25, 1.35, 7) + rng.uniform(-0.12, 0.12, 7):
            angle = steer if side == LEFT else np.pi - steer
            length, thick = rng.uniform(0.11, 0.16), rng.uniform(0.018, 0.025)
            segments += grow_branches(rng, (side * x, y), angle, length=length, radius=thick, generations=5)
        hila += soft(ellipse(view.x, view.y, (side * x, y + 0.03), (0.06, 0.13), side * -0.2), 0.05)
    return np.asarray(
        (1.9 * CM * draw_branches(view, segments) + 2.6 * hila) * np.clip(lungs.air / 6, 0, 1), np.float32
    )


def draw_ribs(view: View, build: Build, lungs: Lungs) -> Field:
    """Posterior ribs fall towards the side; anterior ribs, fainter, fall from there towards the middle."""
    across = np.clip(np.abs(view.x) / build.lateral(view.y, 0.06), 0, 1.1)
    behind = view.y - build.rib_start - build.rib_drop * across**2.2 + 0.04 * np.sin(np.pi * across)
    before = view.y - build.rib_start - build.rib_drop - 0.34 * (1 - across)

    def family(height: Real, last: int, radius: float) -> Field:
        """Draw ribs 0 to `last`, each where the height is a multiple of the spacing."""
        number = height / build.rib_spacing
        slope = np.hypot(*np.gradient(height)) * view.pixels_per_unit
        distance = (number - np.clip(np.rint(number), 0, last)) * build.rib_spacing / np.maximum(slope, 0.5)
        return tube(distance, radius)

    cartilage = soft(across - 0.45, 0.2)
    return np.asarray(lungs.cage * (family(behind, 9, 0.026) + 0.45 * cartilage * family(before, 6, 0.032)), np.float32)


def draw_spine(view: View) -> Field:
    """Vertebral bodies with lighter discs between them and their spinous processes, behind everything else."""
    column = soft(0.075 - np.abs(view.x), 0.015)
    discs = 1 - 0.35 * np.exp(-((np.sin(np.pi * view.y / 0.11) / 0.3) ** 2))
    process = np.exp(-((view.x / 0.014) ** 2) - (np.cos(np.pi * view.y / 0.11) / 0.45) ** 2)
    return np.asarray(BONE * (1.6 * column * discs + 0.6 * process), np.float32)


def draw_shoulders(view: View, build: Build) -> Field:
    """Clavicles, shoulder blades, and the heads and shafts of the upper arms."""
    u, y = np.abs(view.x), view.y
    run = np.clip((u - 0.06) / 0.74, 0, 1)
    curve = -0.48 - build.clavicle_tilt * run - 0.04 * np.sin(2 * np.pi * run)
    ends = soft(0.37 - np.abs(u - 0.43), 0.02)
    clavicle = 1.3 * tube((y - curve) * 0.93, 0.03) * ends
    blade = np.minimum.reduce([(u - 0.60) - 0.10 * (y + 0.1), 0.04 - (u - 0.72) - 0.30 * (y + 0.2), y + 0.58, 0.12 - y])
    humerus = tube(to_segment(u, y, (0.86, -0.46), (1.3, 0.10)), 0.05)
    head = 12 * chord(np.hypot(u - 0.83, y + 0.50), 0.09)
    return np.asarray(clavicle + 1.6 * soft(blade, 0.015) + np.maximum(humerus, head), np.float32)


def draw_breasts(view: View, build: Build) -> Field:
    """Soft shadows over the lower lungs, with a clear lower edge that fades upwards."""
    inside = ellipse(np.abs(view.x), view.y, (0.38, 0.22), (0.30, 0.27))
    fade = soft(view.y - 0.15, 0.2)
    return np.asarray(build.breast * np.sqrt(np.clip(inside / 0.27, 0, 1)) * fade, np.float32)


def draw_stomach(view: View, build: Build) -> Field:
    """Gas under the left dome, with a fluid level."""
    top = build.dome_left + 0.05
    bubble = soft(ellipse(view.x, view.y, (0.33, top + 0.07), (0.13, 0.07)), 0.02)
    return np.asarray(-build.gas * bubble * soft(top + 0.09 - view.y, 0.01), np.float32)
