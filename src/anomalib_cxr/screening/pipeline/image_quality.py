"""Image quality before scoring: shape, sharpness and noise of an X-ray, measured in its lungs.

A model looks for small changes of gray value in the lungs. Blur removes them and noise covers them, and either may
score as normal. Gaussian filters split the detail of each lung into octaves. In X-rays the energy of an octave is a
rather fixed share of that of the next coarser one, whatever the exposure; blur takes most from the finest octaves. The
limits were chosen on X-rays of five hospitals and on phantoms: `docs/benchmarks/screening.md`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from scipy import ndimage

from anomalib_cxr.data.reading.downsampling import downsample
from anomalib_cxr.segmentation.postprocessing import LungMask

SIDE = 128
"""Side in pixels at which detail is measured; smaller images are measured at their own size."""
LEAST_SIDE = 64
"""Side in pixels below which an image is too small for any model: its detail says nothing on its quality."""
MAX_ASPECT = 1.7
"""Largest accepted ratio of the longer and the shorter side."""
_SCALES = (0.5, 1.0, 2.0, 4.0)  # standard deviations of the Gaussian filters in pixels
_CHECKERS = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6  # white noise keeps its standard deviation
_MARGIN = 0.024  # share of the side by which lungs are eroded, so that their edges do not count
_LEAST_LUNG = 40  # px; smaller components are no lungs
_NOTHING = 1e-12  # energy far below that of rounding to 8 bits


class Detail(NamedTuple):
    """Detail in a lung: ratios of the energies of neighboring octaves, as logarithms to base 10, and noise."""

    finest: float
    """Ratio of the first octave, the finest one, and the second."""
    fine: float
    """Ratio of the second octave and the third."""
    middle: float
    """Ratio of the third octave and the fourth."""
    noise: float
    """Amplitude of noise, share of the standard deviation of the image."""


BLURRED = (-0.88, -0.74, -0.90)
"""Lowest accepted ratios: finest, fine, middle."""
CONCEALED = (-0.60, 0.02)
"""Noise over a blurred image: the middle ratio is below the first number, and the difference of the finest and the fine
one above the second."""
NOISY = 0.11
"""Amplitude above which noise is refused, if it is white, in an image of `SIDE`. Twice as much in one of half the side:
there the contrast of anatomy from pixel to pixel is higher."""
WHITE = -0.50
"""Finest ratio above which detail is white noise rather than anatomy."""
WHITE_REDUCED = (1.25, -0.46)
"""Finest ratio above which an image is noisy, whatever the amplitude, if it was reduced by at least this factor: noise
that is left then exceeds that of any detector."""


def reduce_for_quality(radiograph: np.ndarray) -> np.ndarray:
    """Reduce an X-ray to the size at which its detail is measured.

    Args:
        radiograph: X-ray in [0, 1], `(H, W)`.

    Returns:
        X-ray in [0, 1], `(s, s)` with s of at most `SIDE` pixels.
    """
    side = quality_side(*radiograph.shape)
    return downsample(radiograph, (side, side))


def quality_side(height: int, width: int) -> int:
    """Return the side in pixels at which the detail of an X-ray is measured.

    Args:
        height: Height of the X-ray in pixels.
        width: Its width.
    """
    return min(SIDE, height, width)


def _smooth(image: np.ndarray, scale: float) -> np.ndarray:
    """Smooth as :func:`scipy.ndimage.gaussian_filter` does, in a fifth of its time."""
    weights = _gaussian(scale)
    return cv2.sepFilter2D(image, -1, weights, weights, borderType=cv2.BORDER_REPLICATE)


@cache
def _gaussian(scale: float) -> np.ndarray:
    """Return the weights of a Gaussian filter, of a width of eight standard deviations."""
    offsets = np.arange(-round(4 * scale), round(4 * scale) + 1)
    weights = np.exp(-0.5 * (offsets / scale) ** 2)
    return np.asarray(weights / weights.sum())


def measure_detail(reduced: np.ndarray, lungs: LungMask) -> list[Detail]:
    """Measure the detail in each lung.

    Args:
        reduced: X-ray of :func:`reduce_for_quality`, `(s, s)`.
        lungs: Mask of the lungs, of any size, `(H, W)`.

    Returns:
        Detail of each component of the mask that is large enough.

    Example:
        >>> noise = np.random.default_rng(0).random((128, 128), np.float32)
        >>> [round(detail.noise) for detail in measure_detail(noise, np.ones((64, 64), bool))]
        [1]
    """
    side = len(reduced)
    nearest = [((np.arange(side) + 0.5) * length / side).astype(int) for length in lungs.shape]
    inner = ndimage.binary_erosion(lungs[np.ix_(*nearest)], iterations=max(1, round(_MARGIN * side)))
    smoothed = [reduced, *(_smooth(reduced, scale) for scale in _SCALES)]
    octaves = [(finer - coarser) ** 2 for finer, coarser in pairwise(smoothed)]
    checkers = np.abs(cv2.filter2D(reduced, -1, _CHECKERS, borderType=cv2.BORDER_REFLECT))
    checkers /= max(float(reduced.std()), _NOTHING)
    labels, count = ndimage.label(inner)
    details = []
    for label in range(1, count + 1):
        lung = labels == label
        if lung.sum() >= _LEAST_LUNG:
            energies = [math.log10(octave[lung].mean() + _NOTHING) for octave in octaves]
            finest, fine, middle = (finer - coarser for finer, coarser in pairwise(energies))
            # The median leaves out edges; that of the absolute value of a normal variable is 0.6745 of its deviation.
            details.append(Detail(finest, fine, middle, noise=float(np.median(checkers[lung])) / 0.6745))
    return details


def quality_refusals(size: Sequence[int], reduced: np.ndarray, lungs: LungMask) -> list[str]:
    """Return the reasons to refuse an image for its quality; an empty list accepts it.

    Args:
        size: Height and width of the X-ray in pixels.
        reduced: The X-ray after :func:`reduce_for_quality`, `(s, s)`.
        lungs: Mask of the lungs, of any size, `(H, W)`.

    Returns:
        Reasons in a few words each.
    """
    height, width = size
    reasons = []
    if max(height, width) > MAX_ASPECT * min(height, width):
        reasons.append(f"squeezed or cropped: {width} x {height} pixels")
    details = measure_detail(reduced, lungs)
    if any(_is_blurred(detail) for detail in details):
        reasons.append("blurred: the lungs lack fine detail")
    scale = min(height, width) / SIDE
    if any(_is_noisy(detail, scale) for detail in details):
        reasons.append("noisy: noise covers the fine detail of the lungs")
    return reasons


def _is_blurred(detail: Detail) -> bool:
    steep, bent = CONCEALED
    is_concealed = detail.middle < steep and detail.finest - detail.fine > bent
    return is_concealed or any(ratio < limit for ratio, limit in zip(detail[:-1], BLURRED, strict=True))


def _is_noisy(detail: Detail, scale: float) -> bool:
    """Tell whether the detail of an image of `scale` times `SIDE` is noise."""
    reduction, limit = WHITE_REDUCED
    is_strong = detail.finest > WHITE and detail.noise > NOISY / min(scale, 1)
    return is_strong or (scale >= reduction and detail.finest > limit)
