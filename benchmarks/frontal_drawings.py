# ruff: noqa: PLR2004  # shares and sizes of what is drawn
"""Drawings of what is no frontal chest X-ray, to train the input check on, without any patient's image.

Each is a sketch of the gray levels that matter at 64 pixels: limbs, hands and feet, pelvis and abdomen, skull and
spine, lateral chests, slices of CT and MR, text, and patterns.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter

Image = NDArray[np.floating]
_BONE = 1.6


class _Canvas:
    """Square canvas on which path lengths through tissue are added up, in coordinates of [-1, 1]."""

    def __init__(self, rng: np.random.Generator, side: int) -> None:
        self.rng, self.side = rng, side
        self.y, self.x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
        self.path: Image = np.zeros((side, side))

    def clouds(self, grain: float) -> Image:
        """Return smooth noise of standard deviation 1."""
        noise = gaussian_filter(self.rng.standard_normal((self.side, self.side)), self.side * grain)
        return np.asarray(noise / (noise.std() + 1e-9))

    def distance(self, x: float, y: float, a: float, b: float, turn: float = 0.0) -> Image:
        """Return the squared distance from the center of an ellipse; 1 on its outline."""
        dx, dy = self.x - x, self.y - y
        u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        return np.asarray((u / a) ** 2 + (v / b) ** 2)

    def ellipsoid(self, x: float, y: float, a: float, b: float, turn: float = 0.0, amount: float = 1.0) -> None:
        self.path += amount * np.sqrt(np.clip(1 - self.distance(x, y, a, b, turn), 0, None))

    def capsule(
        self, ends: tuple[float, float, float, float], radius: float, amount: float = 1.0, wall: float = 1.0
    ) -> None:
        """Add a cylinder with round ends; a wall below 1 makes it a tube, such as a bone."""
        x0, y0, x1, y1 = ends
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((self.x - x0) * dx + (self.y - y0) * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
        flare = radius * (1 + 0.35 * np.abs(2 * along - 1) ** 3) if wall < 1 else radius
        square = ((self.x - x0 - along * dx) ** 2 + (self.y - y0 - along * dy) ** 2) / flare**2
        chord = np.sqrt(np.clip(1 - square, 0, None))
        self.path += amount * (chord - 0.8 * np.sqrt(np.clip((1 - wall) ** 2 - square, 0, None)))

    def exposed(self) -> Image:
        """Return gray levels in [0, 1] of a random exposure, with grain, collimation and sometimes a marker."""
        rng = self.rng
        path = np.clip(self.path * (1 + 0.1 * rng.random() * self.clouds(0.1)), 0, None)
        image = (1 - np.exp(-rng.uniform(0.7, 2) * path / (np.percentile(path, 97) + 1e-6))) ** rng.uniform(0.6, 1.6)
        image = gaussian_filter(image, rng.uniform(0, 0.8)) + rng.uniform(0, 0.03) * rng.standard_normal(image.shape)
        return np.asarray(image)


def _limb(rng: np.random.Generator, side: int) -> Image:
    canvas = _Canvas(rng, side)
    x, y = rng.uniform(-0.25, 0.25, 2)
    bend, width = rng.uniform(-0.6, 0.6), rng.uniform(0.06, 0.16)
    for heading, start in ((rng.normal(0, 0.15), -1), (bend, 1)):
        far = (x + 1.6 * np.sin(heading), y + start * 1.6 * np.cos(heading))
        canvas.capsule((x, y, *far), width * rng.uniform(2, 3.5), rng.uniform(0.4, 1))
        apart = width * rng.uniform(0.9, 1.3)
        for offset in (-apart, apart) if rng.random() < 0.6 else (0.0,):
            ends = (x + offset, y + start * 0.06, far[0] + offset, far[1])
            canvas.capsule(ends, width * rng.uniform(0.6, 1), _BONE, rng.uniform(0.2, 0.5))
    for _ in range(rng.integers(0, 7)):  # small bones of a joint
        canvas.ellipsoid(x + rng.normal(0, 0.12), y + rng.normal(0, 0.1), *rng.uniform(0.06, 0.16, 2), amount=0.9)
    return canvas.exposed()


def _hand(rng: np.random.Generator, side: int) -> Image:
    canvas = _Canvas(rng, side)
    count, spread, length = rng.integers(3, 6), rng.uniform(0.08, 0.28), rng.uniform(0.25, 0.4)
    x, y = rng.uniform(-0.2, 0.2), rng.uniform(0.2, 0.6)
    thick = rng.uniform(0.05, 0.09)
    canvas.capsule((x, y, x, y - 0.3), rng.uniform(0.25, 0.4), 0.5)
    canvas.capsule((x, y, x + rng.normal(0, 0.2), 1.6), rng.uniform(0.18, 0.32), 0.6)
    for offset in (-0.12, 0.12):
        canvas.capsule((x + offset, y + 0.15, x + offset, 1.6), 0.08, _BONE, 0.4)
    for finger in range(count):
        heading = spread * (finger - (count - 1) / 2) + rng.normal(0, 0.04)
        fx, fy = x + 0.13 * (finger - (count - 1) / 2), y
        for bone in range(4):
            step = length * (1.1, 0.75, 0.55, 0.4)[bone]
            end = (fx + step * np.sin(heading), fy - step * np.cos(heading))
            canvas.capsule((fx, fy, *end), thick * 1.5, 0.4)
            canvas.capsule((fx, fy, *end), thick * (0.75 - 0.08 * bone), _BONE, 0.5)
            fx, fy = end[0], end[1] - 0.02
    for _ in range(7):
        canvas.ellipsoid(x + rng.normal(0, 0.13), y + rng.normal(0, 0.07), 0.08, 0.07, amount=_BONE / 2)
    return canvas.exposed()


def _vertebrae(canvas: _Canvas, x: float, top: float, bottom: float, width: float, bow: float = 0.0) -> None:
    height = canvas.rng.uniform(0.12, 0.24)
    for y in np.arange(top, bottom, height):
        bent = x + bow * np.sin(np.pi * (y - top) / (bottom - top + 1e-9))
        box = np.maximum(np.abs(canvas.x - bent) / width, np.abs(canvas.y - y) / (0.4 * height))
        canvas.path += 0.8 * np.clip(4 * (1.15 - box), 0, 1)


def _abdomen(rng: np.random.Generator, side: int) -> Image:
    canvas = _Canvas(rng, side)
    canvas.ellipsoid(0, 0, rng.uniform(0.8, 1.4), rng.uniform(1, 2), amount=rng.uniform(1, 2.5))
    _vertebrae(canvas, rng.normal(0, 0.05), -1.1, rng.uniform(-0.2, 1), rng.uniform(0.09, 0.16), rng.normal(0, 0.06))
    if rng.random() < 0.8:  # a pelvis
        top = rng.uniform(-0.4, 0.4)
        for sign in (-1, 1):
            wing = canvas.distance(sign * 0.5, top, rng.uniform(0.3, 0.42), rng.uniform(0.3, 0.45), sign * 0.5)
            canvas.path += 0.9 * np.exp(-((np.sqrt(wing) - 1) ** 2) / 0.02) + 0.35 * (wing < 1)
            canvas.ellipsoid(sign * 0.62, top + 0.55, 0.17, 0.17, amount=1.2)
            canvas.capsule((sign * 0.66, top + 0.6, sign * 0.8, 1.7), 0.13, _BONE, 0.4)
        ring = canvas.distance(0, top + 0.55, 0.42, 0.34)
        canvas.path += 0.8 * np.exp(-((np.sqrt(ring) - 1) ** 2) / 0.01)
    for _ in range(rng.integers(0, 14)):  # gas
        x, y = rng.normal(0, 0.4, 2)
        gas = canvas.distance(x, y, *rng.uniform(0.05, 0.25, 2), rng.uniform(0, np.pi))
        canvas.path -= 0.5 * rng.random() * np.clip(1.2 - gas, 0, 1)
    return canvas.exposed()


def _head(rng: np.random.Generator, side: int) -> Image:
    canvas = _Canvas(rng, side)
    x, y, a, b = rng.normal(0, 0.15), rng.uniform(-0.6, 0.1), rng.uniform(0.5, 0.8), rng.uniform(0.55, 0.85)
    vault = np.sqrt(canvas.distance(x, y, a, b))
    canvas.path += 1.2 * np.exp(-((vault - 1) ** 2) / rng.uniform(0.003, 0.02)) + rng.uniform(0.4, 1) * (vault < 1)
    for _ in range(rng.integers(2, 9)):
        dx, dy = rng.normal(0, 0.3, 2)
        amount = rng.choice([-0.5, 0.7]) * rng.random()
        canvas.path += amount * np.clip(1.3 - canvas.distance(x + dx, y + 0.3 + dy, *rng.uniform(0.08, 0.3, 2)), 0, 1)
    canvas.capsule((x, y + 0.3, x + rng.normal(0, 0.2), 1.6), rng.uniform(0.2, 0.45), 0.9)
    _vertebrae(canvas, x + rng.normal(0, 0.15), y + 0.4, 1.2, rng.uniform(0.08, 0.15), rng.normal(0, 0.15))
    return canvas.exposed()


def _lateral_chest(rng: np.random.Generator, side: int) -> Image:
    canvas = _Canvas(rng, side)
    lean = rng.normal(0, 0.12)
    canvas.x = canvas.x + lean * canvas.y
    wide = rng.uniform(0.5, 0.9)
    body = canvas.distance(rng.normal(0, 0.08), 0.3, wide, 1.7)
    body = np.minimum(body, canvas.distance(rng.normal(0, 0.1), -1, 0.7 * wide, 0.8))
    canvas.path += 1.6 * np.sqrt(np.clip(1.05 - body, 0, None))
    lung = np.clip(
        4 * (1 - canvas.distance(0.02, -0.05, 0.72 * wide, rng.uniform(0.75, 0.95), rng.normal(0, 0.15))), 0, 1
    )
    dome = (
        rng.uniform(0.2, 0.55)
        + rng.uniform(0.2, 0.7) * (canvas.x + rng.normal(0, 0.2)) ** 2
        - 0.4 * canvas.x * rng.random()
    )
    lung = lung * np.clip(8 * (dome - canvas.y), 0, 1)
    canvas.path -= rng.uniform(0.5, 0.9) * lung
    _vertebrae(canvas, 0.62 * wide, -1, 1, rng.uniform(0.08, 0.13), rng.uniform(-0.1, 0.1))
    canvas.ellipsoid(-0.25 * wide, 0.25, rng.uniform(0.2, 0.4), rng.uniform(0.25, 0.4), 0.6, rng.uniform(0.3, 0.8))
    canvas.capsule((-0.72 * wide, -0.5, -0.85 * wide, 0.4), 0.05, 0.5)
    slope, pitch = rng.uniform(0.2, 0.8), rng.uniform(14, 26)
    ribs = np.clip(np.sin(pitch * (canvas.y - slope * canvas.x + 0.3 * canvas.x**2)), 0, 1) ** 2
    canvas.path += rng.uniform(0.05, 0.25) * ribs * (body < 1)
    canvas.path += rng.uniform(0, 0.12) * canvas.clouds(0.03) * lung
    if rng.random() < 0.6:  # arms
        canvas.capsule((-0.1, -0.75, rng.uniform(-1.3, -0.5), -1.3), 0.25, 0.8)
    image = canvas.exposed()
    return image[:, ::-1] if rng.random() < 0.5 else image


def _slice(rng: np.random.Generator, side: int) -> Image:
    """Draw a slice of CT or MR: an outline on black, and organs of even gray, some of them in two sides."""
    canvas = _Canvas(rng, side)
    x, y, a, b = *rng.normal(0, 0.06, 2), rng.uniform(0.6, 0.98), rng.uniform(0.5, 0.98)
    body = canvas.distance(x, y, a, b) + 0.08 * canvas.clouds(0.15)
    image = np.where(body < 1, rng.uniform(0.25, 0.7), 0.0)
    image[(body > rng.uniform(0.75, 0.95)) & (body < 1)] = rng.uniform(0, 1)  # a wall: fat, or the skull
    sharp = rng.uniform(3, 30)
    for _ in range(rng.integers(3, 14)):
        dx, dy = rng.uniform(-0.6, 0.6, 2) * (a, b)
        size, level, turn = rng.uniform(0.05, 0.45, 2) * min(a, b), rng.uniform(0, 1), rng.uniform(0, np.pi)
        for sign in (-1, 1) if rng.random() < 0.5 else (1,):
            organ = canvas.distance(x + sign * dx, y + dy, *size, sign * turn) + 0.1 * canvas.clouds(0.08)
            weight = np.clip(sharp * (1 - organ), 0, 1) * (body < 1)
            image = image * (1 - weight) + level * weight
    if rng.random() < 0.4:  # lungs in an axial slice
        for sign in (-1, 1):
            lung = canvas.distance(x + sign * 0.5 * a, y, 0.36 * a, rng.uniform(0.4, 0.75) * b, sign * 0.2)
            image = np.where(lung < 1, rng.uniform(0, 0.15) + 0.02 * canvas.clouds(0.02), image)
    image = image * (1 + rng.uniform(0, 0.1) * canvas.clouds(0.2)) + rng.uniform(0, 0.05) * canvas.clouds(0.01)
    if rng.random() < 0.3:  # the table
        table = np.sqrt(canvas.distance(0, 0.2, 1.1, 0.85))
        image = np.maximum(image, 0.6 * ((np.abs(table - 1) < 0.03) & (canvas.y > 0.4)))
    if rng.random() < 0.4:
        image = gaussian_filter(image, rng.uniform(0.4, 1.2))
    return np.asarray(image)


def _text(rng: np.random.Generator, side: int) -> Image:
    image = np.full((side, side), rng.uniform(0.6, 1))
    for top in np.arange(rng.integers(2, 8), side - 3, rng.integers(4, 9)):
        letters = rng.random(side) < rng.uniform(0.4, 0.8)
        letters[: rng.integers(1, 12)] = letters[side - rng.integers(1, side // 2) :] = False
        image[top : top + 2, letters] = rng.uniform(0, 0.3)
    return image if rng.random() < 0.5 else 1 - image


def _pattern(rng: np.random.Generator, side: int) -> Image:
    return np.asarray(draw_patterns(4, side, int(rng.integers(1 << 30)))[rng.integers(4), 0].numpy())


_OTHERS: tuple[Callable[[np.random.Generator, int], Image], ...] = (
    *(_limb, _limb, _hand, _hand, _abdomen, _abdomen, _head, _slice, _slice, _slice, _text, _pattern),
)


def draw_others(count: int, side: int, seed: int) -> torch.Tensor:
    """Draw images without a chest.

    Args:
        count: Number of images.
        side: Side in pixels.
        seed: Seed of the drawings.

    Returns:
        Images in [0, 1], `(count, 1, side, side)`.
    """
    return _draw(_OTHERS, count, side, seed)


def draw_lateral_chests(count: int, side: int, seed: int) -> torch.Tensor:
    """Draw lateral chest X-rays; see :func:`draw_others`."""
    return _draw((_lateral_chest,), count, side, seed)


def _draw(
    kinds: tuple[Callable[[np.random.Generator, int], Image], ...], count: int, side: int, seed: int
) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    images = []
    for index in range(count):
        image = kinds[index % len(kinds)](rng, side)
        if kinds is _OTHERS and rng.random() < 0.5:  # at any angle and size
            turn, scale = rng.normal(0, 0.5), np.exp(rng.uniform(-0.3, 0.4))
            matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            center = (side - 1) / 2
            image = affine_transform(image, matrix, center - matrix @ (center, center), order=1)
        low, high = np.percentile(image, [0.2, 99.8])
        images.append(np.clip((image - low) / (high - low + 1e-6), 0, 1))
    return torch.from_numpy(np.stack(images)[:, None].astype(np.float32))


def draw_patterns(count: int, side: int, seed: int) -> torch.Tensor:
    """Draw synthetic patterns: noise, clouds, blocks and waves in turn.

    Args:
        count: Number of patterns.
        side: Side in pixels.
        seed: Seed of the random numbers.

    Returns:
        Patterns that span [0, 1], `(count, 1, side, side)`.
    """
    rng = np.random.default_rng(seed)
    kinds = (_noise, _clouds, _blocks, _waves)
    patterns = [_stretch(kinds[index % len(kinds)](rng, side), rng) for index in range(count)]
    return torch.from_numpy(np.stack(patterns)[:, None].astype(np.float32))


def _noise(rng: np.random.Generator, side: int) -> np.ndarray:
    return rng.standard_normal((side, side))


def _clouds(rng: np.random.Generator, side: int) -> np.ndarray:
    return np.asarray(gaussian_filter(_noise(rng, side), side * rng.uniform(0.02, 0.16)))


def _blocks(rng: np.random.Generator, side: int) -> np.ndarray:
    pattern = np.zeros((side, side))
    for _ in range(rng.integers(2, 12)):
        top, left = rng.integers(0, side, 2)
        height, width = rng.integers(side // 16, side // 2, 2) + 1
        pattern[top : top + height, left : left + width] += rng.normal()
    return pattern


def _waves(rng: np.random.Generator, side: int) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    turn, phase = rng.uniform(0, 2 * np.pi, 2)
    return np.asarray(np.sin((x * np.cos(turn) + y * np.sin(turn)) * rng.uniform(0.5, 15) + phase))


def _stretch(pattern: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise, and stretch to [0, 1]."""
    noisy = pattern + rng.uniform(0, 0.5) * pattern.std() * rng.standard_normal(pattern.shape)
    return np.asarray((noisy - noisy.min()) / (np.ptp(noisy) + 1e-6))
