"""Pictures of where to look: one for people, and two layers for the page."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image
from scipy.ndimage import binary_erosion, gaussian_filter, zoom

from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.utils.files import atomic_path

_ZONES = ("upper", "middle", "lower")


def describe(p_value: float, heat: np.ndarray, lungs: np.ndarray) -> str:
    """Say how unusual an X-ray is, and where most.

    Args:
        p_value: Share of healthy images that score as high, in (0, 1].
        heat: Where it is unusual, `(S, S)`.
        lungs: Probability of lung, `(T, T)`, for the same image.

    Returns:
        Two sentences. Left and right are the patient's: a frontal X-ray shows the right lung on the left.

    Example:
        >>> lungs = np.zeros((12, 12))
        >>> lungs[1:11, [2, 3, 4, 7, 8, 9]] = 1
        >>> heat = np.zeros((12, 12))
        >>> heat[2, 3] = 1
        >>> describe(0.03, heat, lungs)
        '3 % of healthy images score as high. Most unusual: right lung, upper zone (left in the picture).'
    """
    return f"{_percent(p_value)} of healthy images score as high. Most unusual: {_place(heat, lungs)}."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.01 else f"{100 * share:.0f} %"  # noqa: PLR2004  # one digit at least


def _place(heat: np.ndarray, lungs: np.ndarray) -> str:
    inside = lungs > 0.5  # noqa: PLR2004  # more likely than not
    if not inside.any():
        return "no lung was found"
    factors = [to / of for to, of in zip(lungs.shape, heat.shape, strict=True)]
    smooth = gaussian_filter(zoom(heat, factors, order=1), lungs.shape[0] / 32)
    row, column = np.unravel_index(np.where(inside, smooth, -np.inf).argmax(), inside.shape)
    rows = np.flatnonzero(inside.any(axis=1))
    part = (row - rows[0]) / (rows[-1] - rows[0] + 1)
    middle = np.average(np.arange(inside.shape[1]), weights=inside.sum(axis=0))
    side, shown = ("right", "left") if column < middle else ("left", "right")
    return f"{side} lung, {_ZONES[int(part * len(_ZONES))]} zone ({shown} in the picture)"


_OPACITY = 0.6
_OUTLINE = np.array([0.35, 0.85, 0.95])  # a blue that no X-ray and no heat has


def draw_heatmap(picture: np.ndarray, heat: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """Lay the heat over an X-ray, and draw the lungs' outline.

    Args:
        picture: The X-ray in [0, 1], `(h, w)`.
        heat: In [0, 1], `(S, S)`.
        lungs: Probability of lung, `(T, T)`.

    Returns:
        RGB, `(h, w, 3)`, uint8.

    Example:
        >>> draw_heatmap(np.zeros((40, 30)), np.ones((8, 8)), np.zeros((16, 16)))[0, 0].tolist()
        [151, 153, 99]
    """
    size = (picture.shape[0], picture.shape[1])
    heat = _to(heat, size)
    colors = mpl.colormaps["inferno"](heat)[..., :3]
    opacity = _OPACITY * heat[..., None]
    mixed = picture[..., None] * (1 - opacity) + colors * opacity
    inside = _to(lungs, size) > 0.5  # noqa: PLR2004  # more likely than not
    mixed[inside & ~binary_erosion(inside)] = _OUTLINE
    return np.asarray(np.rint(255 * mixed), dtype=np.uint8)


def write_picture(picture: np.ndarray, path: Path) -> None:
    """Write a picture as PNG, whole or not at all: uint8, or from 0 to 1, `(h, w)` or `(h, w, 3)`."""
    levels = picture if picture.dtype == np.uint8 else np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
    with atomic_path(path) as unfinished:
        Image.fromarray(levels).save(unfinished, format="PNG", compress_level=3)


def _to(layer: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resized = antialiased_resize(torch.from_numpy(np.ascontiguousarray(layer, dtype=np.float32))[None, None], size)
    return resized[0, 0].clamp(0, 1).double().numpy()
