"""AUROC with its variance, and the test whether two scores of the same images differ in it.

Sources: [0] E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, "Comparing the areas under two or more correlated
receiver operating characteristic curves: a nonparametric approach", Biometrics 1988; [1] X. Sun, W. Xu, "Fast
implementation of DeLong's algorithm", IEEE Signal Processing Letters 2014, for the placements by ranks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, rankdata

from anomalib_cxr.errors import ScoreError

from .intervals import QUANTILE, logit_interval, newcombe_interval, wald_interval


class AurocEstimate(NamedTuple):
    """An AUROC with its variance and 95 % interval."""

    value: float
    variance: float
    low: float
    high: float


class PairedDifference(NamedTuple):
    """How much the first of two AUROC is over the second, with 95 % interval and test.

    Interval and test are NaN where the variance is unknown, or zero in spite of a difference.
    """

    value: float
    """First minus second, in [-1, 1]."""
    variance: float
    """NaN where a class has fewer than two images."""
    low: float
    high: float
    z: float
    """Difference over its standard error."""
    p: float
    """Two-sided."""


def delong_covariance(is_sick: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the AUROC of several scores of the same images, and their covariance.

    Args:
        is_sick: Which images are sick, bool, `(N,)`.
        scores: Finite, the higher the more likely sick, `(K, N)`.

    Returns:
        AUROC, `(K,)`, and covariance, `(K, K)`, which is NaN where a class has fewer than two images.

    Raises:
        ScoreError: If the shapes do not fit, a class is missing or a score is not finite.

    Example:
        >>> is_sick = np.array([False, False, True, True])
        >>> auroc, covariance = delong_covariance(is_sick, np.array([[1.0, 3, 2, 4], [1, 2, 3, 4]]))
        >>> auroc.tolist(), covariance.shape
        ([0.75, 1.0], (2, 2))
    """
    of_sick, of_normal = _placements(is_sick, scores)
    return of_sick.mean(axis=1), _covariance_of_mean(of_sick) + _covariance_of_mean(of_normal)


def estimate_auroc(is_sick: np.ndarray, scores: np.ndarray) -> AurocEstimate:
    """Return the AUROC of a score, DeLong's variance, and the interval on the scale of the log odds.

    Where there is no such variance, because the classes are separated perfectly, or all scores are the same, or a class
    has a single image, Newcombe's interval stands in, and the variance that its width implies.

    Args:
        is_sick: Which images are sick, bool, `(N,)`.
        scores: Finite, the higher the more likely sick, `(N,)`.

    Raises:
        ScoreError: As for :func:`delong_covariance`.

    Example:
        >>> estimate_auroc(np.array([False, False, True, True]), np.array([1.0, 3, 2, 4]))
        AurocEstimate(value=0.75, variance=0.125, low=0.06..., high=0.99...)
    """
    (value,), ((variance,),) = delong_covariance(is_sick, scores[None])
    n_sick = int(np.count_nonzero(is_sick))
    return with_interval(float(value), float(variance), len(is_sick) - n_sick, n_sick)


def with_interval(value: float, variance: float, n_normal: int, n_sick: int) -> AurocEstimate:
    """Return an AUROC with its interval; one without a variance, 0 or NaN, by Newcombe's, see :func:`estimate_auroc`.

    Args:
        value: The AUROC.
        variance: Its variance.
        n_normal: Normal images, 1 at least.
        n_sick: Sick images, 1 at least.

    Example:
        >>> with_interval(1.0, 0.0, 35, 35)
        AurocEstimate(value=1.0, variance=0.00..., low=0.94..., high=1.0)
    """
    if variance > 0:
        return AurocEstimate(value, variance, *logit_interval(value, variance))
    low, high = newcombe_interval(value, n_normal, n_sick)
    return AurocEstimate(value, ((high - low) / (2 * QUANTILE)) ** 2, low, high)


def paired_delong(is_sick: np.ndarray, first: np.ndarray, second: np.ndarray) -> PairedDifference:
    """Test whether two scores of the same images differ in AUROC.

    Args:
        is_sick: Which images are sick, bool, `(N,)`.
        first: Finite scores of the same images in the same order, `(N,)`.
        second: As `first`, from the other system.

    Raises:
        ScoreError: As for :func:`delong_covariance`.

    Example:
        >>> is_sick = np.arange(20) >= 10
        >>> good, poor = np.arange(20.0), np.arange(20) * 7 % 20.0
        >>> paired_delong(is_sick, good, poor).p < 0.05, paired_delong(is_sick, good, good).p
        (True, 1.0)
    """
    of_sick, of_normal = (np.diff(part[::-1], axis=0) for part in _placements(is_sick, np.stack([first, second])))
    value = float(of_sick.mean())
    variance = float((_covariance_of_mean(of_sick) + _covariance_of_mean(of_normal)).item())
    if not variance > 0 and (value or math.isnan(variance)):
        return PairedDifference(value, variance, math.nan, math.nan, math.nan, math.nan)
    z = value / math.sqrt(variance) if value else 0.0
    return PairedDifference(value, variance, *wald_interval(value, variance), z, 2 * float(norm.sf(abs(z))))


def _placements(is_sick: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how each image is placed in the other class: both results have the AUROC as their mean.

    For sick images, `(K, n_sick)`, it is the share of normal ones scored lower; for normal images, `(K, n_normal)`,
    that of sick ones scored higher. Ties count half.
    """
    check_scores(is_sick, scores)
    # The rank among all images less the rank within the own class counts the images of the other class below.
    ranks = rankdata(scores, axis=1)
    sick, normal = scores[:, is_sick], scores[:, ~is_sick]
    lower_normal = ranks[:, is_sick] - rankdata(sick, axis=1)
    lower_sick = ranks[:, ~is_sick] - rankdata(normal, axis=1)
    return lower_normal / normal.shape[1], 1 - lower_sick / sick.shape[1]


def _covariance_of_mean(values: np.ndarray) -> np.ndarray:
    """Return the covariance of the means of rows, `(K, n)` to `(K, K)`; NaN where n is 1."""
    n_scores, count = values.shape
    covariance = np.cov(values).reshape(n_scores, n_scores) if count > 1 else np.full((n_scores, n_scores), np.nan)
    return np.asarray(covariance / count)


def check_scores(is_sick: np.ndarray, scores: np.ndarray) -> None:
    """Refuse labels `(N,)` and scores `(K, N)` that have no ROC curve."""
    if is_sick.dtype != bool or scores.ndim != 2 or is_sick.shape != scores.shape[1:]:  # noqa: PLR2004  # (K, N)
        raise ScoreError(
            f"labels {is_sick.dtype} {is_sick.shape}, scores {scores.shape}",
            "labels bool (N,), scores (K, N)",
            "give a label and K scores for each image",
        )
    n_sick, broken = int(is_sick.sum()), int((~np.isfinite(scores)).sum())
    if broken or n_sick in (0, len(is_sick)):
        raise ScoreError(
            f"{len(is_sick) - n_sick} normal and {n_sick} sick images, {broken} scores that are not finite",
            "images of both classes with finite scores",
            "see the test set for missing classes, and the training for a loss that turned NaN",
        )
