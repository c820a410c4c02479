"""Negative control: an anomaly score of pixels that are no lung, which cannot see a disease of the lungs.

What it separates normal from sick images by is something else that differs between them: machine, exposure, pose, age.
A detector of lung disease on the same images is only as good as its lead over the control.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.decomposition import PCA

from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.evaluation.scores import image_name
from anomalib_cxr.functional.alignment import Box, find_box
from anomalib_cxr.functional.exposure import healthy_regions
from anomalib_cxr.functional.frames import box_grid, to_frame
from anomalib_cxr.functional.normalization import LOCAL_EPSILON, smooth

from .exposure_adjusted import FRAME_SIDE, read_reduced_lungs, reduced, refuse_unmasked

CONTROL = "control"
"""Column of the score."""
MARGIN = 0.25
"""Width of the surroundings that are looked at, on each side, in sides of the lungs' box."""
N_COMPONENTS = 60
"""Dimensions of the healthy subspace; at most half the number of training images."""
_SIGMA = 4.0
_MIN_WEIGHT = 0.05


def measure_control(trained: pd.DataFrame, scored: pd.DataFrame, sixteen_bit_white: int | None = None) -> pd.DataFrame:
    """Score X-rays by their pixels outside the lungs.

    Each image is aligned by the box of its true lungs, with some surroundings. Pixels that are lung in healthy people,
    or in this image, take no part, neither in the local normalization nor in the score: the logarithm of the mean
    squared distance from the principal subspace of the training images. A box that disease has made smaller still moves
    the surroundings, so that the control is not entirely blind.

    Args:
        trained: Healthy training images, a table from :func:`anomalib_cxr.data.sources.samples.make_samples`.
        scored: Images to score, such a table; each needs a true lung mask.
        sixteen_bit_white: White of 16-bit images.

    Returns:
        One row per image of `scored`, with the columns `image`, see
        :func:`anomalib_cxr.evaluation.scores.image_name`, and `control`, the score.

    Raises:
        DatasetError: If an image of `scored` has no lung mask, or fewer than two training images have one.
    """
    masked = trained[trained.roi_mask_paths.map(len) > 0]
    refuse_unmasked(masked, scored, least=2)
    outside = healthy_regions(torch.cat([_surroundings(lungs, lungs) for lungs in _lungs_of(masked)]))[1]
    learned, _ = _values(masked, outside, sixteen_bit_white)
    values, weights = _values(scored, outside, sixteen_bit_white)
    subspace = PCA(max(1, min(N_COMPONENTS, len(learned) // 2)), svd_solver="full").fit(learned)
    residuals = weights * (values - subspace.inverse_transform(subspace.transform(values))) ** 2
    score = np.log(residuals.sum(axis=1) / weights.sum(axis=1).clip(min=1) + math.ulp(1.0))
    measured: pd.DataFrame = pd.DataFrame({"image": [image_name(path) for path in scored.image_path], CONTROL: score})
    return measured


def _lungs_of(samples: pd.DataFrame) -> list[torch.Tensor]:
    return [read_reduced_lungs(paths) for paths in samples.roi_mask_paths]


_Floats = npt.NDArray[np.float64]


def _values(samples: pd.DataFrame, outside: torch.Tensor, white: int | None) -> tuple[_Floats, _Floats]:
    """Return normalized gray values, 0 where there is lung, and weights, 1 where there is none, `(N, P)` each."""
    values, weights = [], []
    for path, lungs in zip(samples.image_path, _lungs_of(samples), strict=True):
        frame = _surroundings(reduced(read_radiograph(path, white)), lungs)
        is_free = _surroundings(lungs, lungs)[0, 0] == 0  # of any lung that reduction and crop have mixed in
        weight = (outside & is_free).to(frame.dtype)[None, None]
        values.append(normalize_where(frame, weight)[..., outside].flatten())
        weights.append(weight[..., outside].flatten())
    return torch.stack(values).double().numpy(), torch.stack(weights).double().numpy()


def _surroundings(image: torch.Tensor, lungs: torch.Tensor) -> torch.Tensor:
    """Crop an image, `(1, 1, S, S)`, to the box of the lungs and its surroundings; black beyond the border."""
    top, bottom, left, right = find_box(lungs)
    high, wide = MARGIN * (bottom - top), MARGIN * (right - left)
    box = Box(top - high, bottom + high, left - wide, right + wide)
    return to_frame(image, box_grid(box, (FRAME_SIDE, FRAME_SIDE)))


def normalize_where(images: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Subtract the local mean and divide by the local standard deviation, both of some pixels alone.

    Args:
        images: Gray values in [0, 1], `(B, 1, H, W)`.
        weights: 1 for the pixels that count, 0 for others, `(B, 1, H, W)`.

    Returns:
        Deviations in local standard deviations, 0 where the weight is 0, `(B, 1, H, W)`.

    Example:
        Other pixels have no influence:

        >>> images, weights = torch.rand(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
        >>> weights[..., 4:] = 0
        >>> changed = torch.where(weights > 0, images, torch.ones(()))
        >>> torch.equal(normalize_where(images, weights), normalize_where(changed, weights))
        True
    """
    share = smooth(weights, _SIGMA).clamp(min=_MIN_WEIGHT)
    deviation = weights * (images - smooth(weights * images, _SIGMA) / share)
    return deviation / ((smooth(deviation**2, _SIGMA) / share).sqrt() + LOCAL_EPSILON)
