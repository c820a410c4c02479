"""The healthy thorax of the phantoms: where its organs lie and how much tissue a ray crosses.

Everything is analytic in body coordinates: x from -1 to 1 towards the patient's left (the image's right), y from -1
to 1 downwards, so that one seed shows the same anatomy at any image size. Path lengths are in cm of water.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Field = NDArray[np.float32]
Real = NDArray[np.floating[Any]]

RIGHT, LEFT = -1, 1  # the patient's sides, as the sign of x
CM = 21.0  # one body unit in cm
BONE = 1.8  # attenuation of bone in water
EDGE = 0.008  # softness of an outline, by motion and focal spot
LUNG_CENTER = 0.33
ROUND = 2.15  # exponent of the cage's outline; 2 would be an ellipse
WIDEST = 0.15  # height below which the chest wall runs straight down


@dataclass(frozen=True)
class View:
    """The pixel grid as seen from the body.

    Attributes:
        x: Body coordinate of each pixel towards the patient's left, (H, W).
        y: Body coordinate of each pixel downwards, (H, W).
        turn: Rotation matrix from body to image, (2, 2).
        shift: Place of the body's origin in the image, in [-1, 1], (2,).
        zoom: Magnification of the body.
    """

    x: Field
    y: Field
    turn: NDArray[np.float64]
    shift: NDArray[np.float64]
    zoom: float

    @classmethod
    def random(cls, rng: np.random.Generator, size: int) -> View:
        """Stand a patient before the detector, a little shifted, tilted and magnified."""
        angle, shift, zoom = rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03, 2), rng.uniform(0.95, 1.02)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        axis = (np.arange(size) + 0.5) * 2 / size - 1
        image = np.stack(np.meshgrid(axis, axis)).reshape(2, -1)
        x, y = (turn.T @ (image - shift[:, None]) / zoom).astype(np.float32).reshape(2, size, size)
        return cls(x, y, turn, shift, zoom)

    @property
    def pixels_per_unit(self) -> float:
        """Pixels to one body unit."""
        return float(self.x.shape[0] / 2 * self.zoom)

    def window(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Return rows and columns of the pixels within `reach` of a body point, so that small things cost little."""
        column, row = (self.zoom * self.turn @ (x, y) + self.shift + 1) * self.x.shape[0] / 2
        pixels = reach * self.pixels_per_unit + 1
        return (
            slice(max(int(row - pixels), 0), max(int(row + pixels) + 1, 0)),
            slice(max(int(column - pixels), 0), max(int(column + pixels) + 1, 0)),
        )


@dataclass(frozen=True)
class Build:
    """What differs from one healthy person to the next, in body units unless said otherwise."""

    sex: str
    age: int  # years
    depth: float  # of the chest from front to back, cm
    width: float  # half width of the lungs' cage
    apex: float
    dome_right: float
    dome_left: float
    heart: float  # factor
    knob: float  # radius of the aortic knob
    rib_spacing: float
    rib_start: float
    rib_drop: float
    clavicle_tilt: float
    breast: float  # cm
    gas: float  # of the stomach, cm

    @classmethod
    def random(cls, rng: np.random.Generator) -> Build:
        """Draw a person; the ranges are those of a healthy adult who breathes in deeply."""
        sex = "F" if rng.random() < 0.5 else "M"  # noqa: PLR2004
        age = int(rng.integers(18, 76))
        dome = rng.uniform(0.38, 0.46)
        return cls(
            sex=sex,
            age=age,
            depth=rng.uniform(19.0, 21.0),
            width=rng.uniform(0.64, 0.70),
            apex=rng.uniform(-0.78, -0.72),
            dome_right=dome,
            dome_left=dome + rng.uniform(0.03, 0.07),
            heart=rng.uniform(0.92, 1.08),
            knob=rng.uniform(0.085, 0.095) + 0.0003 * (age - 18),  # the aorta unfolds with age
            rib_spacing=rng.uniform(0.122, 0.132),
            rib_start=rng.uniform(-0.76, -0.72),
            rib_drop=rng.uniform(0.20, 0.26),
            clavicle_tilt=rng.uniform(0.12, 0.22),
            breast=rng.uniform(2.0, 3.2) if sex == "F" else 0.0,
            gas=rng.uniform(2.0, 6.0),
        )

    def dome(self, side: int) -> float:
        """Height of a hemidiaphragm; the liver lifts the right one."""
        return self.dome_right if side == RIGHT else self.dome_left

    def lateral(self, y: Field | float, margin: float = 0.0) -> Field:
        """Distance from the midline at the height y of the inner chest wall, or of a line that far outside it."""
        up = np.clip((WIDEST - np.asarray(y, np.float32)) / (WIDEST - self.apex + margin), 0, 1)
        half = self.width + margin - LUNG_CENTER
        return np.asarray(LUNG_CENTER + half * (1 - up**ROUND) ** (1 / ROUND), np.float32)

    def point(self, side: int, across: float, down: float) -> tuple[float, float]:
        """Return a place in a lung: `across` 0 at the mediastinum to 1 at the ribs, `down` 0 at the apex to 1."""
        y = self.apex + down * (self.dome(side) - self.apex)
        edge = [0.13, 0.20, 0.20, 0.24] if side == RIGHT else [0.13, 0.22, 0.22, 0.42]
        medial = float(np.interp(y, [-0.6, -0.25, 0.0, 0.35], edge))
        return side * (medial + across * (float(self.lateral(y)) - medial)), y


def soft(distance: Real, width: float = EDGE) -> Field:
    """Return 1 well inside an outline and 0 well outside, for a distance that is positive inside."""
    return np.asarray(expit(distance * (2 / width)), np.float32)


def chord(distance: Real, radius: float) -> Field:
    """Path through a cylinder or a sphere at a distance from its axis, in the unit of the radius."""
    return np.asarray(2 * np.sqrt(np.clip(radius**2 - distance**2, 0, None)), np.float32)


def tube(distance: Real, radius: float) -> Field:
    """Path in cm of water through a bone: a dense cortex around a lighter marrow, which draws two bright edges."""
    return np.asarray(BONE * CM * (chord(distance, radius) - 0.75 * chord(distance, 0.7 * radius)), np.float32)


def ellipse(x: Real, y: Real, center: tuple[float, float], axes: tuple[float, float], angle: float = 0.0) -> Field:
    """Signed distance, about, from the outline of a rotated ellipse: positive inside."""
    dx, dy, cos, sin = x - center[0], y - center[1], np.cos(angle), np.sin(angle)
    radius = np.hypot((cos * dx + sin * dy) / axes[0], (cos * dy - sin * dx) / axes[1])
    return np.asarray((1 - radius) * min(axes), np.float32)


def to_segment(x: Real, y: Real, start: Sequence[float], end: Sequence[float]) -> Field:
    """Distance from a line segment."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx**2 + dy**2), 0, 1)
    return np.asarray(np.hypot(x - start[0] - along * dx, y - start[1] - along * dy), np.float32)


def blend(one: Real, other: Real, width: float = 0.03) -> Field:
    """Join two outlines, given as distances, without a notch."""
    return np.asarray(width * np.logaddexp(one / width, other / width), np.float32)


@dataclass(frozen=True)
class Lungs:
    """The air of both lungs.

    Attributes:
        air: Air that takes the place of tissue along the ray, cm, (H, W).
        cage: Share of each pixel within the rib cage, down to the last rib, (H, W).
        fields: The visible lung fields, as radiologists outline them, in [0, 1], (H, W).
    """

    air: Field
    cage: Field
    fields: Field


def draw_lungs(view: View, build: Build) -> Lungs:
    """Fill the cage with air, above the diaphragm and beside the mediastinum."""
    side_of = np.where(view.x < 0, RIGHT, LEFT)
    u = np.abs(view.x)
    half = np.where(u < LUNG_CENTER, LUNG_CENTER - 0.03, build.width - LUNG_CENTER)
    up = np.clip((WIDEST - view.y) / (WIDEST - build.apex), 0, None)
    radius = (np.abs((u - LUNG_CENTER) / half) ** ROUND + up**ROUND) ** (1 / ROUND)
    inside = (1 - radius) * (build.width - LUNG_CENTER)
    dome = np.where(side_of == RIGHT, build.dome_right, build.dome_left)
    outwards, inwards = np.clip(u - LUNG_CENTER, 0, None) / 0.33, np.clip(LUNG_CENTER - u, 0, None) / 0.3
    slope = 0.21 * outwards**2.6 + 0.06 * inwards**2
    above = dome + slope - view.y
    # Behind the dome the lung reaches deeper, which shades the upper liver.
    cover = soft(above) + (1 - soft(above)) * 0.2 * np.exp(np.minimum(above, 0) / 0.06)
    full = 11.5 * np.sqrt(np.clip(1 - radius**3, 0, 1)) * soft(inside)
    middle = draw_mediastinum(view, build)
    return Lungs(
        air=np.asarray(full * cover * (1 - middle), np.float32),
        cage=soft(inside + 0.02, 0.015),
        fields=soft(inside) * soft(above) * (1 - np.minimum(1, 2 * middle)),
    )


def draw_mediastinum(view: View, build: Build) -> Field:
    """Return the share of the lung's depth that heart, great vessels and spine take, in [0, 1]."""
    x, y, h = view.x, view.y, build.heart
    column = 0.125 + 0.02 * np.clip(y + 0.3, 0, None) - np.abs(x)
    heart = blend(
        ellipse(x, y, (-0.04, 0.28), (0.19 * h, 0.30 * h)),  # right atrium
        ellipse(x, y, (0.11, 0.27), (0.36 * h, 0.24 * h), 0.62),  # left ventricle, its apex down and to the left
    )
    vessels = blend(
        ellipse(x, y, (0.12, -0.32), (build.knob, 1.1 * build.knob)),
        ellipse(x, y, (0.085, -0.08), (0.115 * h, 0.17 * h)),  # pulmonary trunk
        0.015,
    )
    outline = blend(blend(heart, vessels), column, 0.015)
    thick = 0.5 + 0.42 * np.clip(outline / 0.16, 0, 1) ** 0.6
    return np.asarray(thick * soft(outline, 0.014), np.float32)
