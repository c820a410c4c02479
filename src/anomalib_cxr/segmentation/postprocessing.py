"""Post-processing of lung masks: largest components, filled holes, and a plausibility check."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

LungMask = npt.NDArray[np.bool_]

MIN_AREA_RATIO = 0.05
"""Minimum area of the second lung (share of the first). In 674 true masks the smaller lung has at least a tenth of the
larger, and other components have almost no area."""
MIN_AREA, MAX_AREA = 0.05, 0.6
"""Bounds of the area of both lungs (share of the image); 0.08 to 0.43 in those masks."""
MIN_HALF = 0.05
"""Minimum share of the lungs in either half of the image; at least 0.09 in those masks."""


def find_lungs(probability: npt.NDArray[np.float32]) -> LungMask:
    """Return the lungs by their probability: where it is above 0.5, cleaned by :func:`clean_mask`.

    Args:
        probability: Probability of lung, `(H, W)`.

    Returns:
        Lung mask, `(H, W)`.
    """
    return clean_mask(probability > 0.5)  # noqa: PLR2004  # more likely than not


def clean_mask(mask: LungMask) -> LungMask:
    """Keep the two largest components of a mask, and fill their holes.

    Args:
        mask: Raw lung mask, `(H, W)`.

    Returns:
        The two largest components, without holes; one if the lungs touch or the second is too small.

    Example:
        >>> found = np.array([[1, 1, 1, 0, 1, 1, 1, 0, 1],
        ...                   [1, 0, 1, 0, 1, 1, 1, 0, 0],
        ...                   [1, 1, 1, 0, 1, 1, 1, 0, 0]], dtype=bool)
        >>> clean_mask(found).astype(int)
        array([[1, 1, 1, 0, 1, 1, 1, 0, 0],
               [1, 1, 1, 0, 1, 1, 1, 0, 0],
               [1, 1, 1, 0, 1, 1, 1, 0, 0]])
    """
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())[1:]  # without the background
    two = np.argsort(-sizes, kind="stable")[:2]
    lungs = two[sizes[two] >= MIN_AREA_RATIO * sizes.max(initial=0)]
    kept = np.zeros(len(sizes) + 1, dtype=bool)
    kept[lungs + 1] = True
    return _fill_holes(kept[labels])


def _fill_holes(mask: LungMask) -> LungMask:
    """Fill holes as :func:`scipy.ndimage.binary_fill_holes` does, in a fifth of its time."""
    background, count = ndimage.label(~mask)
    outside = np.zeros(count + 1, dtype=bool)
    for edge in (background[0], background[-1], background[:, 0], background[:, -1]):
        outside[edge] = True
    outside[0] = False  # the mask itself
    filled: LungMask = ~outside[background]
    return filled


def suppress_outside_lungs(probability: npt.NDArray[np.float32], lungs: LungMask) -> npt.NDArray[np.float32]:
    """Set a probability map to 0 outside the two lungs.

    Args:
        probability: Probability of lung, `(H, W)`.
        lungs: Its :func:`find_lungs`, `(H, W)`.

    Returns:
        Probability, 0 beyond the pixels next to the lungs, and 1 in their holes, `(H, W)`.

    Example:
        >>> found = np.zeros((5, 40), dtype=np.float32)
        >>> found[:, 2:20], found[1, 30] = 0.9, 0.9
        >>> kept = suppress_outside_lungs(found, find_lungs(found))
        >>> float(kept[1, 30]), float(kept[1, 10]) > 0.5
        (0.0, True)
    """
    holes = lungs & (probability <= 0.5)  # noqa: PLR2004
    near = ndimage.binary_dilation(lungs)
    return np.where(holes, np.float32(1), np.where(near, probability, np.float32(0)))


def is_plausible(lungs: LungMask) -> bool:
    """Tell whether a mask is plausible for a frontal X-ray: of sufficient area, and in both halves of the image.

    Args:
        lungs: Lung mask, `(H, W)`.

    Returns:
        Whether area and position are within their bounds.

    Example:
        >>> lungs = np.zeros((10, 10), dtype=bool)
        >>> is_plausible(lungs)
        False
        >>> lungs[2:8, [1, 2, 3, 6, 7, 8]] = True
        >>> is_plausible(lungs)
        True
    """
    area = lungs.mean()
    left = lungs[:, : lungs.shape[1] // 2].sum() / max(lungs.sum(), 1)
    return bool(MIN_AREA <= area <= MAX_AREA and MIN_HALF <= left <= 1 - MIN_HALF)
