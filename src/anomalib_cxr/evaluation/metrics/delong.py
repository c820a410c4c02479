"""AUROC with DeLong's variance, and DeLong's paired test of two scores of the same images.

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
    """AUROC with its variance and 95 % interval."""

    value: float
    variance: float
    low: float
    high: float


class PairedDifference(NamedTuple):
    """Difference of two AUROC with 95 % interval and test.

    Interval and test are NaN if the variance is unknown, or zero in spite of a difference.
    """

    value: float
    """First minus second, in [-1, 1]."""
    variance: float
    """NaN if a class has fewer than two images."""
    low: float
    high: float
    z: float
    """Difference over its standard error."""
    p: float
    """Two-sided."""


def delong_covariance(is_sick: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the AUROC of several scores of the same images, and their covariance [0].

    Args:
        is_sick: True for sick images, bool, `(N,)`.
        scores: Finite, the higher the more likely sick, `(K, N)`.

    Returns:
        AUROC, `(K,)`, and covariance, `(K, K)`, which is NaN if a class has fewer than two images.

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
    """Compute the AUROC of a score, DeLong's variance, and the interval on the scale of the log odds.

    DeLong's variance is 0 or undefined for perfectly separated classes, for equal scores, and for a class with a single
    image. Newcombe's interval is used then, with the variance that its width implies.

    Args:
        is_sick: True for sick images, bool, `(N,)`.
        scores: Finite, the higher the more likely sick, `(N,)`.

    Returns:
        AUROC, variance and interval.

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
    """Return an AUROC with its interval, Newcombe's for a variance of 0 or NaN, see :func:`estimate_auroc`.

    Args:
        value: The AUROC.
        variance: Its variance.
        n_normal: Number of normal images, at least 1.
        n_sick: Number of sick images, at least 1.

    Returns:
        AUROC, variance and interval.

    Example:
        >>> with_interval(1.0, 0.0, 35, 35)
        AurocEstimate(value=1.0, variance=0.00..., low=0.94..., high=1.0)
    """
    if variance > 0:
        return AurocEstimate(value, variance, *logit_interval(value, variance))
    low, high = newcombe_interval(value, n_normal, n_sick)
    return AurocEstimate(value, ((high - low) / (2 * QUANTILE)) ** 2, low, high)


def paired_delong(is_sick: np.ndarray, first: np.ndarray, second: np.ndarray) -> PairedDifference:
    """Test the difference in AUROC of two scores of the same images [0].

    Args:
        is_sick: True for sick images, bool, `(N,)`.
        first: Finite scores of the same images in the same order, `(N,)`.
        second: As `first`, from the other system.

    Returns:
        Difference, interval and p value.

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
    """Return the placement values of sick images, `(K, n_sick)`, and of normal ones, `(K, n_normal)`.

    The placement of a sick image is the share of normal ones scored lower, that of a normal image the share of sick
    ones scored higher. Ties count half. The mean of either is the AUROC.
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
    """Raise an error for labels and scores without a ROC curve.

    Args:
        is_sick: True for sick images, bool, `(N,)`.
        scores: `(K, N)`.

    Raises:
        ScoreError: If the shapes do not fit, a class is missing or a score is not finite.
    """
    if is_sick.dtype != bool or scores.ndim != 2 or is_sick.shape != scores.shape[1:]:  # noqa: PLR2004  # (K, N)
        raise ScoreError(
            f"labels {is_sick.dtype} {is_sick.shape}, scores {scores.shape}",
            "labels bool (N,), scores (K, N)",
            "give a label and K scores for each image",
        )
    n_sick, not_finite = int(is_sick.sum()), int((~np.isfinite(scores)).sum())
    if not_finite or n_sick in (0, len(is_sick)):
        raise ScoreError(
            f"{len(is_sick) - n_sick} normal and {n_sick} sick images, {not_finite} scores that are not finite",
            "images of both classes with finite scores",
            "check the test set for missing classes, and the training for a NaN loss",
        )
