"""Operating points of a screening: specificity at a given sensitivity, rates at a threshold, average precision.

An image is positive if its score is at or above the threshold. Sources: [0] R. W. Platt, J. A. Hanley, H. Yang,
"Bootstrap confidence intervals for the sensitivity of a quantitative diagnostic test", Statistics in Medicine 2000; [1]
K. Boyd, K. H. Eng, C. D. Page, "Area under the precision-recall curve: point estimates and confidence intervals", ECML
PKDD 2013.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score

from anomalib_cxr.errors import SettingError

from .delong import check_scores
from .intervals import LEVEL, logit_interval, wilson_interval

SENSITIVITIES = (0.95, 0.98, 0.99)
"""Target sensitivities of a screening."""
N_DRAWS = 2000
"""Bootstrap samples of an interval."""
_VALUES_AT_ONCE = 2**21  # 16 MB


class Estimate(NamedTuple):
    """Estimate in [0, 1] with its 95 % interval, NaN without one."""

    value: float
    low: float
    high: float


class OperatingPoint(NamedTuple):
    """Highest threshold that reaches a target sensitivity."""

    threshold: float
    sensitivity: float
    """Sensitivity at the threshold; ties with the threshold may raise it above the target."""
    specificity: Estimate
    """Share of the normal images below the threshold. The interval includes the choice of the threshold."""
    catches_all: bool
    """True if there are too few sick images to miss any. Their lowest score is no bound for new images, so that the
    interval extends to 0."""


def operating_point(is_sick: np.ndarray, scores: np.ndarray, sensitivity: float, seed: int = 0) -> OperatingPoint:
    """Compute the specificity of a score at a target sensitivity.

    The interval is the percentile bootstrap's [0]: normal and sick images are resampled separately, and each sample has
    its own threshold. It is widened to Wilson's interval at the chosen threshold where that is wider, as for classes
    that hardly overlap, on which all samples agree.

    Args:
        is_sick: True for sick images, bool, `(N,)`.
        scores: Finite, the higher the more likely sick, `(N,)`.
        sensitivity: Target sensitivity, in (0, 1].
        seed: Seed of the bootstrap.

    Returns:
        Threshold, sensitivity and specificity.

    Raises:
        ScoreError: If the shapes do not fit, a class is missing or a score is not finite.
        SettingError: If the sensitivity is outside (0, 1].

    Example:
        >>> is_sick = np.arange(100) >= 60
        >>> point = operating_point(is_sick, np.r_[np.arange(60.0), np.arange(30.0, 70)], 0.95)
        >>> point.threshold, point.sensitivity, point.specificity.value
        (32.0, 0.95, 0.533...)
    """
    if not 0 < sensitivity <= 1:
        raise SettingError(f"sensitivity = {sensitivity}", "in (0, 1]", "give the target sensitivity, such as 0.95")
    check_scores(is_sick, scores[None])
    normal, sick = scores[~is_sick], scores[is_sick]
    threshold, catches_all = threshold_at(sick, sensitivity)
    needed = _needed(len(sick), sensitivity)
    at_threshold = rates_at(is_sick, scores, threshold)
    resampled = np.concatenate(
        [
            (normal_sample < np.sort(sick_sample)[:, -needed, None]).mean(axis=1)
            for normal_sample, sick_sample in _resample(normal, sick, seed)
        ]
    )
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    wilson = at_threshold.specificity
    low = 0.0 if catches_all else min(float(low), wilson.low)
    specificity = Estimate(wilson.value, low, max(float(high), wilson.high))
    return OperatingPoint(threshold, at_threshold.sensitivity.value, specificity, catches_all)


class Threshold(NamedTuple):
    """Highest threshold that reaches a target sensitivity."""

    threshold: float
    catches_all: bool
    """True if there are too few sick images to miss any."""


def threshold_at(sick: np.ndarray, sensitivity: float) -> Threshold:
    """Choose the highest threshold that reaches a target sensitivity.

    Args:
        sick: Finite scores of sick images, `(N,)`, N >= 1.
        sensitivity: Target sensitivity, in (0, 1].

    Returns:
        The threshold.

    Example:
        >>> threshold_at(np.arange(20.0), 0.9)
        Threshold(threshold=2.0, catches_all=False)
    """
    needed = _needed(len(sick), sensitivity)
    return Threshold(float(np.sort(sick)[-needed]), needed == len(sick))


class Rates(NamedTuple):
    """Sensitivity and specificity of a threshold chosen on other images."""

    sensitivity: Estimate
    specificity: Estimate


def rates_at(is_sick: np.ndarray, scores: np.ndarray, threshold: float) -> Rates:
    """Compute sensitivity and specificity of a threshold chosen on other images, with Wilson's intervals.

    Args:
        is_sick: True for sick images, bool, `(N,)`.
        scores: Finite, the higher the more likely sick, `(N,)`.
        threshold: Lowest positive score.

    Returns:
        Sensitivity and specificity.

    Raises:
        ScoreError: As for :func:`operating_point`.

    Example:
        >>> rates = rates_at(np.array([False, False, True, True]), np.array([1.0, 2, 2, 3]), 2.0)
        >>> rates.sensitivity.value, rates.specificity.value
        (1.0, 0.5)
    """
    check_scores(is_sick, scores[None])
    return Rates(_rate(scores[is_sick] >= threshold), _rate(scores[~is_sick] < threshold))


def estimate_average_precision(is_sick: np.ndarray, scores: np.ndarray, seed: int = 0) -> Estimate:
    """Compute the average precision with a bootstrap interval.

    It depends on the share of sick images, and can be compared on the same images only. The interval has the
    bootstrap's standard error on the scale of the log odds [1], with normal and sick images resampled separately. It is
    NaN where the bootstrap has no spread: for perfectly separated classes, and for a class with a single image.

    Args:
        is_sick: True for sick images, bool, `(N,)`.
        scores: Finite, the higher the more likely sick, `(N,)`.
        seed: Seed of the bootstrap.

    Returns:
        Average precision and its interval.

    Raises:
        ScoreError: As for :func:`operating_point`.

    Example:
        >>> estimate_average_precision(np.array([False, False, True, True]), np.array([1.0, 3, 2, 4])).value
        0.833...
    """
    check_scores(is_sick, scores[None])
    normal, sick = scores[~is_sick], scores[is_sick]
    value = float(average_precision_score(is_sick, scores))
    variance = float(np.concatenate([_average_precisions(*sample) for sample in _resample(normal, sick, seed)]).var())
    if value == 1 or min(len(normal), len(sick)) == 1:
        return Estimate(value, math.nan, math.nan)
    return Estimate(value, *logit_interval(value, variance))


def _average_precisions(normal: np.ndarray, sick: np.ndarray) -> np.ndarray:
    """Return the average precision of D samples, `(D, n_normal)` and `(D, n_sick)` to `(D,)`."""
    sick_at_least = rankdata(-sick, "max", axis=1)
    at_least = rankdata(-np.concatenate([sick, normal], axis=1), "max", axis=1)[:, : sick.shape[1]]
    return np.asarray((sick_at_least / at_least).mean(axis=1))


def _resample(normal: np.ndarray, sick: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw bootstrap samples of normal and of sick scores, N_DRAWS in total.

    SciPy's bootstrap does the same, but refuses a class with one image.

    Yields:
        Some of the samples, `(D, n_normal)` and `(D, n_sick)`, in batches of bounded memory.
    """
    at_once = max(1, _VALUES_AT_ONCE // (len(normal) + len(sick)))
    parts = [min(at_once, N_DRAWS - first) for first in range(0, N_DRAWS, at_once)]
    of_normal, of_sick = np.random.default_rng(seed), np.random.default_rng(seed)
    for draws in parts:  # the order of draws is independent of the size of the batches
        of_sick.choice(normal, (draws, len(normal)))
    for draws in parts:
        yield of_normal.choice(normal, (draws, len(normal))), of_sick.choice(sick, (draws, len(sick)))


def _needed(n_sick: int, sensitivity: float) -> int:
    """Return the least number of sick images that reaches the sensitivity; 0.95 of 20 is 19 in spite of rounding."""
    return math.ceil(sensitivity * n_sick - 1e-9)


def _rate(correct: np.ndarray) -> Estimate:
    successes, trials = int(correct.sum()), len(correct)
    return Estimate(successes / trials, *wilson_interval(successes, trials))
