"""Anatomy of a healthy person: individual dimensions, lungs and mediastinum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .geometry import LEFT, RIGHT, FloatImage, PixelGrid, ellipse, smooth_union, soft_step

_LUNG_CENTER = 0.33  # distance of the middle of a lung from the midline
_EXPONENT = 2.15  # of the superellipse that outlines the rib cage; 2 would be an ellipse
_WIDEST = 0.15  # height below which the chest wall is vertical


@dataclass(frozen=True)
class Anatomy:
    """Individual dimensions of a healthy person, in body units unless stated otherwise."""

    sex: str
    age: int  # years
    depth: float  # of the chest from front to back, cm
    width: float  # half width of the rib cage
    apex: float
    domes: dict[int, float]  # height of the diaphragm on each side; the liver lifts the right one
    heart: float  # scale factor
    knob: float  # radius of the aortic knob
    rib_spacing: float
    rib_start: float
    rib_drop: float
    clavicle_tilt: float
    breast: float  # cm
    gas: float  # of the stomach, cm

    @classmethod
    def random(cls, rng: np.random.Generator) -> Anatomy:
        """Return a random healthy adult in deep inspiration.

        Args:
            rng: Random generator.

        Returns:
            The anatomy.
        """
        sex = "F" if rng.random() < 0.5 else "M"  # noqa: PLR2004
        age = int(rng.integers(18, 76))
        dome = rng.uniform(0.38, 0.46)
        return cls(
            sex=sex,
            age=age,
            depth=rng.uniform(19.0, 21.0),
            width=rng.uniform(0.64, 0.70),
            apex=rng.uniform(-0.78, -0.72),
            domes={RIGHT: dome, LEFT: dome + rng.uniform(0.03, 0.07)},
            heart=rng.uniform(0.92, 1.08),
            knob=rng.uniform(0.085, 0.095) + 0.0003 * (age - 18),  # the aorta unfolds with age
            rib_spacing=rng.uniform(0.122, 0.132),
            rib_start=rng.uniform(-0.76, -0.72),
            rib_drop=rng.uniform(0.20, 0.26),
            clavicle_tilt=rng.uniform(0.12, 0.22),
            breast=rng.uniform(2.0, 3.2) if sex == "F" else 0.0,
            gas=rng.uniform(2.0, 6.0),
        )

    def lateral(self, y: FloatImage | float, margin: float = 0.0) -> FloatImage:
        """Return the distance of the inner chest wall from the midline.

        Args:
            y: Height.
            margin: Distance outside the wall of a parallel line whose distance is returned instead.

        Returns:
            Distance in body units.
        """
        up = np.clip((_WIDEST - np.asarray(y, np.float32)) / (_WIDEST - self.apex + margin), 0, 1)
        half = self.width + margin - _LUNG_CENTER
        return np.asarray(_LUNG_CENTER + half * (1 - up**_EXPONENT) ** (1 / _EXPONENT), np.float32)

    def point(self, side: int, across: float, down: float) -> tuple[float, float]:
        """Return a point in a lung.

        Args:
            side: `RIGHT` or `LEFT`.
            across: Position from 0 at the mediastinum to 1 at the ribs.
            down: Position from 0 at the apex to 1 at the diaphragm.

        Returns:
            Body coordinates.
        """
        y = self.apex + down * (self.domes[side] - self.apex)
        edges = {RIGHT: [0.13, 0.20, 0.20, 0.24], LEFT: [0.13, 0.22, 0.22, 0.42]}
        medial = float(np.interp(y, [-0.6, -0.25, 0.0, 0.35], edges[side]))
        return side * (medial + across * (float(self.lateral(y)) - medial)), y


@dataclass(frozen=True)
class Lungs:
    """Lungs of a person on a pixel grid.

    Attributes:
        air: Path length through air instead of tissue, cm, (H, W).
        cage: Share of each pixel inside the rib cage, (H, W).
        fields: Share of each pixel inside the visible lung fields, as radiologists outline them, (H, W).
    """

    air: FloatImage
    cage: FloatImage
    fields: FloatImage


def draw_lungs(grid: PixelGrid, anatomy: Anatomy) -> Lungs:
    """Draw the lungs: the rib cage above the diaphragm, without the mediastinum.

    Args:
        grid: Pixel grid.
        anatomy: Anatomy of the person.

    Returns:
        Air, rib cage and lung fields.
    """
    u = np.abs(grid.x)
    half = np.where(u < _LUNG_CENTER, _LUNG_CENTER - 0.03, anatomy.width - _LUNG_CENTER)
    up = np.clip((_WIDEST - grid.y) / (_WIDEST - anatomy.apex), 0, None)
    radius = (np.abs((u - _LUNG_CENTER) / half) ** _EXPONENT + up**_EXPONENT) ** (1 / _EXPONENT)
    inside = (1 - radius) * (anatomy.width - _LUNG_CENTER)
    dome = np.where(grid.x < 0, anatomy.domes[RIGHT], anatomy.domes[LEFT])
    outwards, inwards = np.clip(u - _LUNG_CENTER, 0, None) / 0.33, np.clip(_LUNG_CENTER - u, 0, None) / 0.3
    slope = 0.21 * outwards**2.6 + 0.06 * inwards**2
    above = dome + slope - grid.y
    # The lung extends behind the dome, where it darkens the upper liver.
    cover = soft_step(above) + (1 - soft_step(above)) * 0.2 * np.exp(np.minimum(above, 0) / 0.06)
    full = 11.5 * np.sqrt(np.clip(1 - radius**3, 0, 1)) * soft_step(inside)
    middle = _mediastinum(grid, anatomy)
    return Lungs(
        air=np.asarray(full * cover * (1 - middle), np.float32),
        cage=soft_step(inside + 0.02, 0.015),
        fields=soft_step(inside) * soft_step(above) * (1 - np.minimum(1, 2 * middle)),
    )


def _mediastinum(grid: PixelGrid, anatomy: Anatomy) -> FloatImage:
    """Return the share of the chest's depth that heart, great vessels and spine occupy, in [0, 1]."""
    x, y, h = grid.x, grid.y, anatomy.heart
    column = 0.125 + 0.02 * np.clip(y + 0.3, 0, None) - np.abs(x)
    heart = smooth_union(
        ellipse(x, y, (-0.04, 0.28), (0.19 * h, 0.30 * h)),  # right atrium
        ellipse(x, y, (0.11, 0.27), (0.36 * h, 0.24 * h), 0.62),  # left ventricle, with its apex down and to the left
    )
    vessels = smooth_union(
        ellipse(x, y, (0.12, -0.32), (anatomy.knob, 1.1 * anatomy.knob)),
        ellipse(x, y, (0.085, -0.08), (0.115 * h, 0.17 * h)),  # pulmonary trunk
        0.015,
    )
    outline = smooth_union(smooth_union(heart, vessels), column, 0.015)
    thick = 0.5 + 0.42 * np.clip(outline / 0.16, 0, 1) ** 0.6
    return np.asarray(thick * soft_step(outline, 0.014), np.float32)
