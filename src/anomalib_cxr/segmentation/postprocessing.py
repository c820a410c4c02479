"""From probabilities to two lungs: what is no lung is thrown out, what a lung encloses belongs to it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from .network import LungSegmenter

Lungs = npt.NDArray[np.bool_]

SPECK = 0.05
"""A second component smaller than this share of the first is no lung. In 674 true masks the smaller lung has at least
a tenth of the larger, and whatever else there is has next to nothing."""
LEAST_AREA, GREATEST_AREA = 0.05, 0.6
"""Share of an image that both lungs cover: 0.08 to 0.43 in those masks."""
LEAST_SIDE = 0.05
"""Share of the lungs in either half of an image: at least 0.09 in those masks."""


def segment_lungs(segmenter: LungSegmenter, radiograph: torch.Tensor) -> Lungs:
    """Find the lungs of one X-ray.

    Args:
        segmenter: A trained segmenter, on any device.
        radiograph: The X-ray in [0, 1], `(1, H, W)`, on the CPU.

    Returns:
        Mask of the lungs, `(H, W)`, cleaned by :func:`clean_mask`; it may be empty, as it is for a blank picture.

    Example:
        >>> segment_lungs(LungSegmenter(32, widths=(4, 4, 8, 8, 16)).eval(), torch.zeros(1, 40, 50)).shape
        (40, 50)
    """
    if radiograph.max() == radiograph.min():  # of a blank picture, normalization would blow up the edges of the padding
        return np.zeros(radiograph.shape[-2:], dtype=bool)
    device = next(segmenter.parameters()).device
    with torch.inference_mode():
        probability = segmenter(2 * radiograph[None].to(device) - 1)[0, 0]  # (H, W)
    return clean_mask((probability > 0.5).cpu().numpy())  # noqa: PLR2004  # more likely than not


def clean_mask(mask: Lungs) -> Lungs:
    """Keep the largest component of each lung, and fill its holes.

    Args:
        mask: True where lung was found, `(H, W)`.

    Returns:
        The two largest components, without holes; one where the lungs touch or there is no second of some size.

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
    lungs = two[sizes[two] >= SPECK * sizes.max(initial=0)]
    filled: Lungs = ndimage.binary_fill_holes(np.isin(labels, lungs + 1))
    return filled


def suppress_outside_lungs(probability: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Take out of a map of lung whatever is not at one of the two lungs.

    Args:
        probability: Of lung, `(H, W)`.

    Returns:
        The same, 0 beyond the pixels next to the lungs, and 1 in their holes, `(H, W)`.

    Example:
        >>> found = np.zeros((5, 40), dtype=np.float32)
        >>> found[:, 2:20], found[1, 30] = 0.9, 0.9
        >>> float(suppress_outside_lungs(found)[1, 30]), float(suppress_outside_lungs(found)[1, 10]) > 0.5
        (0.0, True)
    """
    lungs = clean_mask(probability > 0.5)  # noqa: PLR2004  # more likely than not
    holes = lungs & (probability <= 0.5)  # noqa: PLR2004
    near = ndimage.binary_dilation(lungs)
    return np.where(holes, np.float32(1), np.where(near, probability, np.float32(0)))


def is_plausible(lungs: Lungs) -> bool:
    """Tell whether a mask can be that of two lungs in a frontal X-ray: of some size, and on both sides.

    Args:
        lungs: A mask, `(H, W)`.

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
    return bool(LEAST_AREA <= area <= GREATEST_AREA and LEAST_SIDE <= left <= 1 - LEAST_SIDE)
