"""Exposure-adjusted AUROC: each sick image is ranked among normal images of its hospital and of similar exposure.

Sick and normal images of a hospital may differ in exposure. A score that depends on the exposure alone then has an
AUROC above 0.5 without any relation to disease; its exposure-adjusted AUROC is 0.5. A score that sees no disease but
other traces of how an image was acquired, such as its sharpness, keeps an adjusted AUROC above 0.5: compare with that
of :mod:`anomalib_cxr.evaluation.metrics.negative_control`.

Source: H. Janes, M. S. Pepe, "Adjusting for covariate effects on classification accuracy using the covariate-adjusted
receiver operating characteristic curve", Biometrika 2009.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.spatial.distance import cdist
from torch.nn.functional import interpolate

from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.errors import DatasetError, ScoreError
from anomalib_cxr.evaluation.scores import NORMAL, SICK, count_labels, image_name, no_roc_reason
from anomalib_cxr.functional.alignment import find_box
from anomalib_cxr.functional.exposure import exposure_covariates, healthy_regions
from anomalib_cxr.functional.frames import box_grid, to_frame

from .delong import AurocEstimate, check_scores, with_interval
from .screening_metrics import COLUMNS, NOTHING, Row, groups_of

ADJUSTED_AUROC = "auroc_adjusted"
COVARIATES = ["gap", "around", "inside"]
BANDWIDTH = 0.6
"""Standard deviation of the kernel, in standard deviations of the covariates over a hospital's normal images."""
READ_SIDE, FRAME_SIDE = 128, 64
"""Sides in pixels of the reduced image, and of the lung crop."""
_MAX_PAIRS = 2**22
"""Pairs of a sick and a normal image in memory, 32 MB for each array."""

_Floats = npt.NDArray[np.float64]


def measure_exposure(trained: pd.DataFrame, scored: pd.DataFrame, sixteen_bit_white: int | None = None) -> pd.DataFrame:
    """Measure the exposure of X-rays, on crops to their true lungs.

    Args:
        trained: Training images, a table from :func:`anomalib_cxr.data.sources.samples.make_samples`. Their lung masks
            define the regions inside and outside the lungs, for all images.
        scored: Images to measure, such a table; each needs a lung mask, a true one to be independent of any model.
        sixteen_bit_white: White of 16-bit images.

    Returns:
        One row per image of `scored`, with the columns

        - `image`: see :func:`anomalib_cxr.evaluation.scores.image_name`.
        - `gap`, `around`, `inside`: see :func:`anomalib_cxr.functional.exposure.exposure_covariates`, logarithms.

    Raises:
        DatasetError: If an image of `scored` has no lung mask, or no training image has one; names all of them.
    """
    masks = [paths for paths in trained.roi_mask_paths if paths]
    refuse_unmasked(masks, scored)
    crops = [_lung_crop(lungs, lungs) for lungs in map(read_reduced_lungs, masks)]
    inside, outside = healthy_regions(torch.cat(crops))
    values = torch.cat([exposure_covariates(frame, inside, outside) for frame in _frames(scored, sixteen_bit_white)])
    measured: pd.DataFrame = pd.DataFrame(values.numpy(), columns=COVARIATES)
    measured.insert(0, "image", [image_name(path) for path in scored.image_path])
    return measured


def refuse_unmasked(trained: Sized, scored: pd.DataFrame, least: int = 1) -> None:
    """Refuse images without the lung masks that exposure and negative control are measured by.

    Args:
        trained: Training images with a lung mask.
        scored: Images to measure, a samples table.
        least: Training images with a lung mask that are needed.

    Raises:
        DatasetError: If there are fewer, or scored images without a lung mask; names all of them.
    """
    unmasked = list(scored.image_path[scored.roi_mask_paths.map(len) == 0])
    if unmasked or len(trained) < least:
        raise DatasetError(
            f"{len(trained)} training images with a lung mask, and {len(unmasked)} scored ones without",
            "a lung mask of each validation and test image, and of training images",
            "set exposure to false for these data in the benchmark, or exclude these images by a table of splits",
            {"without a lung mask": unmasked} if unmasked else None,
        )


def _frames(samples: pd.DataFrame, white: int | None) -> Iterator[torch.Tensor]:
    for path, masks in zip(samples.image_path, samples.roi_mask_paths, strict=True):
        yield _lung_crop(reduced(read_radiograph(path, white)), read_reduced_lungs(masks))


def read_reduced_lungs(paths: tuple[str, ...]) -> torch.Tensor:
    """Read a lung mask.

    Args:
        paths: Its files.

    Returns:
        Share of lung in each pixel, `(1, 1, READ_SIDE, READ_SIDE)`.
    """
    return reduced(read_mask(*paths)[None].float())


def reduced(image: torch.Tensor) -> torch.Tensor:
    """Reduce an image by area averaging.

    Args:
        image: Image, `(1, H, W)`.

    Returns:
        The image, `(1, 1, READ_SIDE, READ_SIDE)`.
    """
    return interpolate(image[None], size=(READ_SIDE, READ_SIDE), mode="area")


def _lung_crop(image: torch.Tensor, lungs: torch.Tensor) -> torch.Tensor:
    return to_frame(image, box_grid(find_box(lungs), (FRAME_SIDE, FRAME_SIDE)))


def evaluate_adjusted(table: pd.DataFrame, exposure: pd.DataFrame) -> pd.DataFrame:
    """Compute the exposure-adjusted AUROC of a test set, pooled and per hospital.

    Args:
        table: One row per image, with the columns `image`, `source` (hospital; missing ones count as one hospital),
            `label` and `score`. Other normal images may be added as comparison for the sick ones.
        exposure: From :func:`measure_exposure`.

    Returns:
        One row per group, of metric `auroc_adjusted`, with the columns of
        :func:`anomalib_cxr.evaluation.metrics.screening_metrics.evaluate_scores`.

    Raises:
        ScoreError: If the exposure of an image is missing; names all of them.

    Example:
        >>> table = pd.DataFrame({"image": list("abcd"), "source": "x", "label": ["normal", "normal", "sick", "sick"]})
        >>> exposure = pd.DataFrame({"image": list("abcd"), "gap": 0.0, "around": 0.0, "inside": 0.0})
        >>> evaluate_adjusted(table.assign(score=[1.0, 3, 2, 4]), exposure)[["group", "metric", "value"]]
            group          metric  value
        0  pooled  auroc_adjusted   0.75
    """
    unknown = table.image[~table.image.isin(exposure.image)]
    if len(unknown):
        raise ScoreError(
            f"{len(unknown)} of {len(table)} images of unknown exposure: {', '.join(unknown)}",
            "the exposure of each image",
            "measure the exposure of the scored images",
        )
    joined = table[table.label.notna()].merge(exposure, on="image", validate="many_to_one")
    rows = [_measure(group, part) for group, part in groups_of(joined)]
    measured: pd.DataFrame = pd.DataFrame(rows, columns=COLUMNS)
    return measured


def _measure(group: str, part: pd.DataFrame) -> Row:
    n_normal, n_sick = count_labels(part)
    row = {"group": group, "metric": ADJUSTED_AUROC, "n_normal": n_normal, "n_sick": n_sick}
    hospitals = part.source.fillna("")
    alone = sorted(set(hospitals[part.label == SICK]) - set(hospitals[part.label == NORMAL]))
    reason = no_roc_reason(part) or (f"no normal image of {', '.join(alone)}" if alone else "")
    if reason:
        return NOTHING | row | {"note": reason}
    is_sick, scores = (part.label == SICK).to_numpy(), part.score.to_numpy(dtype=float)
    covariates = part[COVARIATES].to_numpy(dtype=float)
    return row | adjusted_auroc(is_sick, scores, covariates, hospitals.to_numpy(dtype=str))._asdict() | {"note": ""}


class _Placements(NamedTuple):
    """Placement values of the sick images of a hospital among its normal ones of similar covariates."""

    of_sick: _Floats
    """Weighted share of normal images that score below each sick one, ties by half, `(N,)`."""
    without_normal: _Floats
    """Change of the sum of `of_sick` when each normal image is left out, `(M,)`."""

    @property
    def variance(self) -> float:
        """Variance of the sum of `of_sick`, NaN for a single image of a class."""
        n_sick, n_normal = map(len, self)
        if 1 in (n_sick, n_normal):
            return math.nan
        return float(n_sick * self.of_sick.var(ddof=1) + (n_normal - 1) * self.without_normal.var())


def _place(is_sick: npt.NDArray[np.bool_], scores: _Floats, covariates: _Floats) -> _Placements:
    normal = scores[~is_sick]
    spread = covariates[~is_sick].std(axis=0)
    scaled = covariates / np.where(spread > 0, spread, 1.0)  # a constant covariate has no scale
    n_blocks = math.ceil(is_sick.sum() * len(normal) / _MAX_PAIRS)
    of_sick, without_normal = [], np.zeros(len(normal))
    for rows in np.array_split(np.flatnonzero(is_sick), n_blocks):  # all pairs of 100 000 images fill the memory
        weights = _kernel_weights(scaled[rows], scaled[~is_sick])
        won = (scores[rows, None] > normal) + 0.5 * (scores[rows, None] == normal)
        total = weights.sum(axis=1, keepdims=True)
        placed = (weights * won).sum(axis=1, keepdims=True) / total
        # A change lies in [-1, 1]; rounding may exceed it where one image has nearly all the weight.
        others = np.maximum(total - weights, np.finfo(float).tiny)
        without_normal += (weights * (placed - won) / others).clip(-1, 1).sum(axis=0)
        of_sick.append(placed[:, 0])
    return _Placements(np.concatenate(of_sick), without_normal)


def _kernel_weights(sick: _Floats, normal: _Floats) -> _Floats:
    """Return the weight of each normal image, `(M, C)`, for each sick one, `(N, C)`: `(N, M)`, 1 for the nearest."""
    distance = cdist(sick, normal, "sqeuclidean") / (2 * BANDWIDTH**2)
    return np.asarray(np.exp(distance.min(axis=1, keepdims=True) - distance))


def adjusted_auroc(
    is_sick: npt.NDArray[np.bool_], scores: _Floats, covariates: _Floats, hospitals: npt.NDArray[np.str_]
) -> AurocEstimate:
    """Compute the covariate-adjusted AUROC, the probability that a sick image scores above a comparable normal one.

    Each sick image is compared with the normal ones of its hospital, weighted by a Gaussian kernel of the distance
    between their covariates, which are standardized by the hospital's normal images. The value is the mean over all
    sick images. Its variance is that of the sick images' placement values, plus the jackknife's over normal images,
    with a fixed standardization; without covariates it is DeLong's. The interval is on the scale of the log odds, as
    for AUROC.

    Args:
        is_sick: True for sick images, bool, `(N,)`.
        scores: Finite, the higher the more likely sick, `(N,)`.
        covariates: Covariates to adjust for, finite, `(N, C)`.
        hospitals: Hospital of each image, `(N,)`; each with sick images needs normal ones.

    Returns:
        Adjusted AUROC, variance and interval.

    Raises:
        ScoreError: As for :func:`anomalib_cxr.evaluation.metrics.delong.delong_covariance`, or if a hospital with sick
            images has no normal ones.

    Example:
        A score that depends on the covariate alone, in which sick images differ:

        >>> rng = np.random.default_rng(0)
        >>> is_sick = np.arange(400) >= 200
        >>> exposure = rng.standard_normal(400) + is_sick
        >>> score = exposure + 0.5 * rng.standard_normal(400)
        >>> adjusted_auroc(is_sick, score, exposure[:, None], np.full(400, "clinic")).value
        0.5...
    """
    check_scores(is_sick, scores[None])
    masks = [hospitals == hospital for hospital in np.unique(hospitals[is_sick])]
    without_normal = [str(hospitals[mask][0]) for mask in masks if is_sick[mask].all()]
    if without_normal:
        raise ScoreError(
            f"sick images of {', '.join(without_normal)}, and no normal ones",
            "normal images of each hospital that has sick ones",
            "exclude these hospitals",
        )
    placements = [_place(is_sick[mask], scores[mask], covariates[mask]) for mask in masks]
    total = int(is_sick.sum())
    value = sum(float(part.of_sick.sum()) for part in placements) / total
    variance = sum(part.variance for part in placements) / total**2
    return with_interval(min(value, 1.0), variance, int((~is_sick).sum()), total)
