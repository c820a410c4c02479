"""AUROC among images of similar exposure: what a score knows of disease that the exposure does not tell.

Sick and normal images of a hospital may differ in how they were taken. A score that follows that tells them apart, and
has seen no lesion. Here each sick image is ranked among normal ones of its own hospital and of similar exposure only.

Source: H. Janes, M. S. Pepe, "Adjusting for covariate effects on classification accuracy using the covariate-adjusted
receiver operating characteristic curve", Biometrika 2009.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.spatial.distance import cdist
from torch.nn.functional import interpolate

from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.errors import DatasetError, ScoreError
from anomalib_cxr.evaluation.scores import NORMAL, SICK, count_labels, image_name, obstacle_to_roc
from anomalib_cxr.functional.alignment import find_box
from anomalib_cxr.functional.exposure import exposure_covariates, healthy_regions
from anomalib_cxr.functional.frames import box_grid, to_frame

from .delong import AurocEstimate, check_scores, with_interval
from .operating_points import N_DRAWS
from .screening_metrics import COLUMNS, NOTHING, Row, groups_of

ADJUSTED_AUROC = "auroc_adjusted"
COVARIATES = ["gap", "around", "inside"]
BANDWIDTH = 0.6
"""Standard deviation of the kernel, in standard deviations of the covariates of a hospital's normal images."""
READ_SIDE, FRAME_SIDE = 128, 64
"""Pixels to which an image is reduced, and of the frame of its lungs' box."""

_Floats = npt.NDArray[np.float64]


def measure_exposure(trained: pd.DataFrame, scored: pd.DataFrame) -> pd.DataFrame:
    """Measure how X-rays were exposed, in the frame of the box of their true lungs.

    Args:
        trained: The training images, a table from :func:`anomalib_cxr.data.sources.samples.make_samples`: their lung masks tell
            where lungs are and where none is, for all images alike.
        scored: The images to measure, such a table; each needs a lung mask. For a figure that no model has a hand in,
            true ones.

    Returns:
        A row for each image of `scored`, with the columns

        - `image`: as scores have it, see :func:`anomalib_cxr.evaluation.scores.image_name`.
        - `gap`, `around`, `inside`: the figures of :func:`anomalib_cxr.functional.exposure.exposure_covariates`, logarithms.

    Raises:
        DatasetError: If an image of `scored` has no lung mask, or no training image has one; all are named.
    """
    masks = [paths for paths in trained.roi_mask_paths if paths]
    unmasked = list(scored.image_path[scored.roi_mask_paths.map(len) == 0])
    if unmasked or not masks:
        raise DatasetError(
            f"{len(masks)} training images with a lung mask, and {len(unmasked)} scored ones without",
            "a lung mask of each image that validates or tests, and of training images: exposure is measured by them",
            "set exposure to false for these data in the benchmark, or leave these images unused by a table of splits",
            {"without a lung mask": unmasked} if unmasked else None,
        )
    inside, outside = healthy_regions(torch.cat([_in_box(lungs, lungs) for lungs in map(_read_lungs, masks)]))
    values = torch.cat([exposure_covariates(frame, inside, outside) for frame in _frames(scored)])
    measured: pd.DataFrame = pd.DataFrame(values.numpy(), columns=COVARIATES)
    measured.insert(0, "image", [image_name(path) for path in scored.image_path])
    return measured


def _frames(samples: pd.DataFrame) -> Iterator[torch.Tensor]:
    for path, masks in zip(samples.image_path, samples.roi_mask_paths, strict=True):
        yield _in_box(_reduced(read_radiograph(path)), _read_lungs(masks))


def _read_lungs(paths: tuple[str, ...]) -> torch.Tensor:
    return _reduced(read_mask(*paths)[None].float())


def _reduced(picture: torch.Tensor) -> torch.Tensor:
    """Reduce a picture, `(1, H, W)`, by the mean over areas: `(1, 1, READ_SIDE, READ_SIDE)`."""
    return interpolate(picture[None], size=(READ_SIDE, READ_SIDE), mode="area")


def _in_box(picture: torch.Tensor, lungs: torch.Tensor) -> torch.Tensor:
    return to_frame(picture, box_grid(find_box(lungs), (FRAME_SIDE, FRAME_SIDE)))


def evaluate_adjusted(table: pd.DataFrame, exposure: pd.DataFrame) -> pd.DataFrame:
    """Measure the scores of a test set among images of similar exposure.

    Args:
        table: A row for each image, with the columns `image`, `source` (hospital; where it is missing, a hospital of
            its own), `label` and `score`. Normal images that were not tested may be added, to rank sick ones among.
        exposure: From :func:`measure_exposure`.

    Returns:
        Rows of metric `auroc_adjusted`, of all images and of each hospital where there are several, with the columns of
        :func:`anomalib_cxr.evaluation.metrics.screening_metrics.evaluate_scores`.

    Raises:
        ScoreError: If the exposure of an image is missing; names all of these.

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
            "measure it, by the images that were scored",
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
    obstacle = obstacle_to_roc(part) or (f"no normal image of {', '.join(alone)}" if alone else "")
    if obstacle:
        return NOTHING | row | {"note": obstacle}
    is_sick, scores = (part.label == SICK).to_numpy(), part.score.to_numpy(dtype=float)
    covariates = part[COVARIATES].to_numpy(dtype=float)
    return row | adjusted_auroc(is_sick, scores, covariates, hospitals.to_numpy(dtype=str))._asdict() | {"note": ""}


class _Placed:
    """How the sick images of a hospital are placed among its normal ones."""

    def __init__(self, is_sick: npt.NDArray[np.bool_], scores: _Floats, covariates: _Floats) -> None:
        normal, sick = scores[~is_sick], scores[is_sick]
        self.weights = _alike(covariates[is_sick], covariates[~is_sick])
        self.won = self.weights * ((sick[:, None] > normal) + 0.5 * (sick[:, None] == normal))
        self.of_sick: _Floats = self.won.sum(axis=1) / self.weights.sum(axis=1)

    def redraw(self, rng: np.random.Generator) -> _Floats:
        """Return the sum of the placements of sick images, of as many draws with replacement, `(N_DRAWS,)`."""
        n_sick, n_normal = self.weights.shape
        times_sick, times_normal = (rng.multinomial(n, np.full(n, 1 / n), N_DRAWS) for n in (n_sick, n_normal))
        placements = (times_normal @ self.won.T) / (times_normal @ self.weights.T)  # (N_DRAWS, n_sick)
        return np.asarray((times_sick * placements).sum(axis=1))


def _alike(sick: _Floats, normal: _Floats) -> _Floats:
    """Return the weight of each normal image, `(M, C)`, for each sick one, `(N, C)`: `(N, M)`, the nearest one's 1."""
    spread = normal.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)  # where all are the same, there is no scale to measure by
    apart = cdist(sick / spread, normal / spread, "sqeuclidean") / (2 * BANDWIDTH**2)
    # Never 0: a draw may lack all normal images that are near.
    return np.asarray(np.exp(apart.min(axis=1, keepdims=True) - apart).clip(min=np.finfo(float).tiny))


def adjusted_auroc(
    is_sick: npt.NDArray[np.bool_], scores: _Floats, covariates: _Floats, hospitals: npt.NDArray[np.str_], seed: int = 0
) -> AurocEstimate:
    """Return the covariate-adjusted AUROC: how often a sick image scores over a normal one like it.

    Each sick image is compared with the normal ones of its hospital, each of these weighted by a Gaussian kernel of the
    distance between their covariates, which are standardized by the hospital's normal images. The mean is over all sick
    images. Its variance is the bootstrap's: normal and sick images of each hospital are drawn separately, the
    standardization stays. The interval is on the scale of the log odds, as for AUROC.

    Args:
        is_sick: Which images are sick, bool, `(N,)`.
        scores: Finite, the higher the more likely sick, `(N,)`.
        covariates: What comparable images are alike in, finite, `(N, C)`.
        hospitals: Where each image was taken, `(N,)`; each needs normal images if it has sick ones.
        seed: Of the draws.

    Raises:
        ScoreError: As for :func:`anomalib_cxr.evaluation.metrics.delong.delong_covariance`, or if sick images of a hospital
            have no normal ones to be compared with.

    Example:
        A score that is nothing but the covariate, in which the sick differ:

        >>> rng = np.random.default_rng(0)
        >>> is_sick = np.arange(400) >= 200
        >>> exposure = rng.standard_normal(400) + is_sick
        >>> score = exposure + 0.5 * rng.standard_normal(400)
        >>> adjusted_auroc(is_sick, score, exposure[:, None], np.full(400, "clinic")).value
        0.5...
    """
    check_scores(is_sick, scores[None])
    places = [hospitals == hospital for hospital in np.unique(hospitals[is_sick])]
    alone = [str(hospitals[here][0]) for here in places if is_sick[here].all()]
    if alone:
        raise ScoreError(
            f"sick images of {', '.join(alone)}, and no normal ones",
            "normal images of each hospital that has sick ones",
            "leave these hospitals out",
        )
    rng = np.random.default_rng(seed)
    found = [_Placed(is_sick[here], scores[here], covariates[here]) for here in places]
    total = int(is_sick.sum())
    value = sum(float(each.of_sick.sum()) for each in found) / total
    variance = float(np.sum([each.redraw(rng) for each in found], axis=0).var(ddof=1)) / total**2
    fewest = min(min(each.weights.shape) for each in found)
    return with_interval(min(value, 1.0), variance if fewest > 1 else math.nan, int((~is_sick).sum()), total)
