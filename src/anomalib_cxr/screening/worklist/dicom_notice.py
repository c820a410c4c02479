"""Notice that is burnt into the pixels of a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anomalib_cxr.screening.case import SHORT_NOTICE

_MIN_POINTS, _MAX_POINTS = 6, 24
_MARGIN = 2


def burn_notice(picture: np.ndarray) -> np.ndarray:
    """Add a strip below a picture with the notice that it is for research.

    Args:
        picture: RGB, `(H, W, 3)`, uint8.

    Returns:
        The picture with the strip, `(H + h, W, 3)`, uint8; the picture itself is unchanged, and nothing of it hidden.

    Example:
        >>> burned = burn_notice(np.zeros((100, 400, 3), np.uint8))
        >>> burned.shape[1:], int(burned[:100].max()), int(burned[100:].max())
        ((400, 3), 0, 255)
    """
    width = picture.shape[1]
    points = _MAX_POINTS
    while points > _MIN_POINTS and _box(points)[2] > width - 2 * _MARGIN:
        points -= 1
    _, top, _, bottom = _box(points)
    strip = Image.new("RGB", (width, bottom - top + 2 * _MARGIN))
    ImageDraw.Draw(strip).text((_MARGIN, _MARGIN - top), SHORT_NOTICE, fill="white", font=_font(points))
    return np.concatenate([picture, np.asarray(strip)])


def _font(points: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(points)


def _box(points: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = _font(points).getbbox(SHORT_NOTICE)
    return int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom))
