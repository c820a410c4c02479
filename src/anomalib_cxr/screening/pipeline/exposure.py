"""Exposure of an X-ray: two gray values that tell its machine, dose and window from others.

Both are kept for each calibration image and each row of a worklist, to notice when X-rays of another exposure come in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_BRIGHT = 0.9  # quantile of the image that represents bright tissue, but no marker, as in functional/exposure.py


class Exposure(NamedTuple):
    """Gray values of an X-ray."""

    lung_gray: float
    """Mean gray value in the lungs, in [0, 1]."""
    tissue_contrast: float
    """Gray value of bright tissue minus the median in the lungs, in [-1, 1]."""


def measure_exposure(radiograph: np.ndarray, lungs: np.ndarray) -> Exposure:
    """Measure the exposure of an X-ray in which lungs were found.

    Args:
        radiograph: X-ray in [0, 1], `(S, S)`.
        lungs: Probability of lung, `(S, S)`, above 0.5 somewhere.

    Returns:
        The exposure.

    Example:
        >>> radiograph, lungs = np.full((8, 8), 0.75), np.zeros((8, 8))
        >>> radiograph[2:6, 2:6], lungs[2:6, 2:6] = 0.25, 1
        >>> measure_exposure(radiograph, lungs)
        Exposure(lung_gray=0.25, tissue_contrast=0.5)
    """
    gray = radiograph.astype(np.float64)
    inside = gray[lungs > 0.5]  # noqa: PLR2004  # more likely than not
    return Exposure(float(inside.mean()), float(np.quantile(gray, _BRIGHT) - np.median(inside)))
