"""Pixel grid in body coordinates, and the shapes that are drawn on it.

Body coordinates: x from -1 to 1 towards the patient's left (the image's right), y from -1 to 1 downwards. All shapes
are analytic, so that one seed shows the same anatomy at any image size. Path lengths are in cm of water.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

FloatImage = NDArray[np.float32]
RealArray = NDArray[np.floating[Any]]

RIGHT, LEFT = -1, 1  # sides of the patient, as the sign of x
CM = 21.0  # one body unit in cm
BONE = 1.8  # attenuation of bone relative to water
EDGE = 0.008  # softness of an outline, by motion and focal spot


@dataclass(frozen=True)
class PixelGrid:
    """Body coordinates of the pixels.

    Attributes:
        x: Coordinate towards the patient's left, (H, W).
        y: Coordinate downwards, (H, W).
        rotation: Rotation matrix from body to image, (2, 2).
        shift: Position of the body's origin in the image, in [-1, 1], (2,).
        magnification: Factor from body to image coordinates.
    """

    x: FloatImage
    y: FloatImage
    rotation: NDArray[np.float64]
    shift: NDArray[np.float64]
    magnification: float

    @classmethod
    def random(cls, rng: np.random.Generator, size: int) -> PixelGrid:
        """Return the grid of a patient who stands slightly shifted, tilted and magnified before the detector.

        Args:
            rng: Random generator.
            size: Height and width in pixels.

        Returns:
            The grid.
        """
        angle, shift, magnification = rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03, 2), rng.uniform(0.95, 1.02)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        axis = (np.arange(size) + 0.5) * 2 / size - 1
        image = np.stack(np.meshgrid(axis, axis)).reshape(2, -1)
        body = (rotation.T @ (image - shift[:, None]) / magnification).astype(np.float32)
        x, y = body.reshape(2, size, size)
        return cls(x, y, rotation, shift, magnification)

    @property
    def pixels_per_unit(self) -> float:
        """Pixels per body unit."""
        return float(self.x.shape[0] / 2 * self.magnification)

    def neighborhood(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Return the pixels around a point, so that small structures are drawn on a small part of the grid.

        Args:
            x: Coordinate of the point towards the patient's left.
            y: Coordinate of the point downwards.
            reach: Least distance from the point to the border of the neighborhood, in body units.

        Returns:
            Slices of rows and columns.
        """
        column, row = (self.magnification * self.rotation @ (x, y) + self.shift + 1) * self.x.shape[0] / 2
        pixels = reach * self.pixels_per_unit + 1
        return (
            slice(max(int(row - pixels), 0), max(int(row + pixels) + 1, 0)),
            slice(max(int(column - pixels), 0), max(int(column + pixels) + 1, 0)),
        )


def soft_step(distance: RealArray, width: float = EDGE) -> FloatImage:
    """Return a sigmoid of the signed distance from an outline.

    Args:
        distance: Distance, positive inside.
        width: Width of the transition.

    Returns:
        1 well inside and 0 well outside.
    """
    return np.asarray(expit(distance * (2 / width)), np.float32)


def chord(distance: RealArray, radius: float) -> FloatImage:
    """Return the path length through a cylinder or a sphere.

    Args:
        distance: Distance of the ray from the axis or the center.
        radius: Radius, in the same unit.

    Returns:
        Path length, in the same unit.
    """
    return np.asarray(2 * np.sqrt(np.clip(radius**2 - distance**2, 0, None)), np.float32)


def bone(distance: RealArray, radius: float) -> FloatImage:
    """Return the path length through a tubular bone: a dense cortex around a lighter marrow has two bright edges.

    Args:
        distance: Distance of the ray from the axis, in body units.
        radius: Radius of the bone, in body units.

    Returns:
        Path length in cm of water.
    """
    return np.asarray(BONE * CM * (chord(distance, radius) - 0.75 * chord(distance, 0.7 * radius)), np.float32)


def ellipse(
    x: RealArray, y: RealArray, center: tuple[float, float], axes: tuple[float, float], angle: float = 0.0
) -> FloatImage:
    """Return the approximate signed distance from the outline of an ellipse.

    Args:
        x: Coordinates towards the patient's left.
        y: Coordinates downwards.
        center: Center of the ellipse.
        axes: Half axes.
        angle: Rotation in radians.

    Returns:
        Distance, positive inside.
    """
    dx, dy, cos, sin = x - center[0], y - center[1], np.cos(angle), np.sin(angle)
    radius = np.hypot((cos * dx + sin * dy) / axes[0], (cos * dy - sin * dx) / axes[1])
    return np.asarray((1 - radius) * min(axes), np.float32)


def segment_distance(x: RealArray, y: RealArray, start: Sequence[float], end: Sequence[float]) -> FloatImage:
    """Return the distance from a line segment.

    Args:
        x: Coordinates towards the patient's left.
        y: Coordinates downwards.
        start: First end of the segment.
        end: Second end of the segment.

    Returns:
        Distance, not negative.
    """
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx**2 + dy**2), 0, 1)
    return np.asarray(np.hypot(x - start[0] - along * dx, y - start[1] - along * dy), np.float32)


def smooth_union(one: RealArray, other: RealArray, width: float = 0.03) -> FloatImage:
    """Return the signed distance from the union of two shapes, without a notch between them.

    Args:
        one: Signed distance from one outline, positive inside.
        other: Signed distance from the other outline.
        width: Width of the transition.

    Returns:
        Signed distance, positive inside.
    """
    return np.asarray(width * np.logaddexp(one / width, other / width), np.float32)
