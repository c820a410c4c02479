"""Explanation of a score: a sentence, and the heatmap over the X-ray."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from anomalib_cxr.data.reading.downsampling import downsample
from anomalib_cxr.data.reading.written import png_mark
from anomalib_cxr.screening.heat_colors import heat_levels, heat_palette
from anomalib_cxr.utils.files import atomic_path

_ZONES = ("upper", "middle", "lower")


def describe(p_value: float | None, heat: np.ndarray, lungs: np.ndarray) -> str:
    """Describe how unusual an X-ray is, and the most unusual place.

    Args:
        p_value: Share of healthy images that score as high, in (0, 1]; None if the score is no finite number.
        heat: Anomaly map, `(S, S)`.
        lungs: Lung probability of the same image, `(T, T)`.

    Returns:
        Two sentences. Left and right are the patient's: a frontal X-ray shows the right lung on the left.

    Example:
        >>> lungs = np.zeros((12, 12))
        >>> lungs[1:11, [2, 3, 4, 7, 8, 9]] = 1
        >>> heat = np.zeros((12, 12))
        >>> heat[2, 3] = 1
        >>> describe(0.03, heat, lungs)
        '3 % of healthy images score as high. Most unusual: right lung, upper zone (left in the image).'
    """
    if p_value is None:
        return "The score is no finite number."
    return f"{_percent(p_value)} of healthy images score as high. Most unusual: {_place(heat, lungs)}."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.01 else f"{100 * share:.0f} %"  # noqa: PLR2004  # at least one digit


def _place(heat: np.ndarray, lungs: np.ndarray) -> str:
    inside = lungs > 0.5  # noqa: PLR2004  # more likely than not
    if not inside.any():
        return "no lungs found"
    factors = [to / of for to, of in zip(lungs.shape, heat.shape, strict=True)]
    smooth = gaussian_filter(zoom(heat, factors, order=1), lungs.shape[0] / 32)
    row, column = np.unravel_index(np.where(inside, smooth, -np.inf).argmax(), inside.shape)
    rows = np.flatnonzero(inside.any(axis=1))
    part = (row - rows[0]) / (rows[-1] - rows[0] + 1)
    middle = np.average(np.arange(inside.shape[1]), weights=inside.sum(axis=0))
    side, shown = ("right", "left") if column < middle else ("left", "right")
    return f"{side} lung, {_ZONES[int(part * len(_ZONES))]} zone ({shown} in the image)"


_OUTLINE = np.array([89, 217, 242], np.uint8)  # a blue that no X-ray and no heat has


def draw_heatmap(xray: np.ndarray, heat: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """Draw the heatmap, in the colors of :mod:`anomalib_cxr.screening.heat_colors`, and the outline of the lungs.

    Args:
        xray: X-ray in [0, 1], `(h, w)`.
        heat: Anomaly map in [0, 1], `(S, S)`; the X-ray stays as it is where it is 0.
        lungs: Lung probability, `(T, T)`.

    Returns:
        RGB image, `(h, w, 3)`, uint8.

    Example:
        >>> draw_heatmap(np.zeros((40, 30)), np.ones((8, 8)), np.zeros((16, 16)))[0, 0].tolist()
        [168, 174, 23]
    """
    size = (xray.shape[0], xray.shape[1])
    drawn = np.repeat(_levels(xray).reshape(-1, 1), 3, axis=1)
    levels = heat_levels(_resize(heat, size)).ravel()
    warm = levels.nonzero()[0]  # the X-ray stays as it is elsewhere, most often in most of the image
    kept, added = _mixing()
    levels = levels[warm]
    drawn[warm] = np.rint(xray.reshape(-1, 1)[warm] * kept[levels] + added[levels])
    drawn = drawn.reshape(*size, 3)
    drawn[_outline(_resize(lungs, size) > 0.5)] = _OUTLINE  # noqa: PLR2004  # more likely than not
    return drawn


@cache
def _mixing() -> tuple[np.ndarray, np.ndarray]:
    """Return what each level of heat keeps of an X-ray in [0, 1], `(256, 1)`, and adds to it, `(256, 3)`, of 255."""
    colors, opacity = heat_palette()[:, :3], heat_palette()[:, 3:]
    return 255 * (1 - opacity), 255 * colors * opacity


def _outline(inside: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask beside a pixel that is outside or beyond the image."""
    framed = np.pad(inside, 1)
    eroded = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    outline: np.ndarray = inside & ~eroded
    return outline


def _levels(image: np.ndarray) -> np.ndarray:
    """Return gray or color in [0, 1] as levels of 8 bits; beyond it is black or white."""
    return np.asarray(np.rint(255 * np.clip(image, 0, 1)), dtype=np.uint8)


def write_png(image: np.ndarray, path: Path) -> None:
    """Write an image as 8-bit PNG for its owner only, whole or not at all, marked as no X-ray.

    Args:
        image: `(h, w)` or `(h, w, 3)`, uint8 or in [0, 1].
        path: File to write.
    """
    content = io.BytesIO()
    picture = Image.fromarray(image if image.dtype == np.uint8 else _levels(image))
    picture.save(content, format="PNG", compress_level=1, pnginfo=png_mark())
    with atomic_path(path, private=True) as unfinished:
        unfinished.write_bytes(content.getvalue())


def _resize(layer: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    values = np.ascontiguousarray(layer, dtype=np.float32)
    if layer.shape[0] <= size[0] and layer.shape[1] <= size[1]:  # enlarged, without antialiasing: a tenth of the time
        return np.clip(cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR), 0, 1)
    return downsample(values, size)
