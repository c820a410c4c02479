"""Pictures of where to look: one for people, and two layers for the page."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image
from scipy.ndimage import binary_erosion

from anomalib_cxr.files import whole_file
from anomalib_cxr.functional import antialiased_resize

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
    colours = mpl.colormaps["inferno"](heat)[..., :3]
    opacity = _OPACITY * heat[..., None]
    mixed = picture[..., None] * (1 - opacity) + colours * opacity
    inside = _to(lungs, size) > 0.5  # noqa: PLR2004  # more likely than not
    mixed[inside & ~binary_erosion(inside)] = _OUTLINE
    return np.asarray(np.rint(255 * mixed), dtype=np.uint8)


def write_picture(picture: np.ndarray, path: Path) -> None:
    """Write a picture as PNG, whole or not at all: uint8, or from 0 to 1, `(h, w)` or `(h, w, 3)`."""
    levels = picture if picture.dtype == np.uint8 else np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
    with whole_file(path) as unfinished:
        Image.fromarray(levels).save(unfinished, format="PNG", compress_level=3)


def _to(layer: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resized = antialiased_resize(torch.from_numpy(np.ascontiguousarray(layer, dtype=np.float32))[None, None], size)
    return resized[0, 0].clamp(0, 1).double().numpy()
