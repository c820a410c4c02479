"""What a screening is used for: few sick images missed, and as many normal ones as possible spared a reader.

An image is called sick if its score is at or over the threshold. Sources: [0] R. W. Platt, J. A. Hanley, H. Yang,
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
"""Shares of the sick images that a screening may be asked to catch."""
N_DRAWS = 2000
"""Bootstrap draws of an interval."""
_VALUES_AT_ONCE = 2**21  # 16 MB


class Estimate(NamedTuple):
    """A figure in [0, 1] with its 95 % interval, which is NaN where there is none."""

    value: float
    low: float
    high: float


class OperatingPoint(NamedTuple):
    """The highest threshold that still catches the wanted share of the sick images."""

    threshold: float
    sensitivity: float
    """Share of the sick images that it catches; ties with the threshold may make it more than was wanted."""
    specificity: Estimate
    """Share of the normal images under the threshold. The interval takes the threshold as chosen on the same images."""
    catches_all: bool
    """There are too few sick images to miss any: nothing says how much lower the threshold has to be for new ones, and
    the interval goes down to 0."""


def operating_point(is_sick: np.ndarray, scores: np.ndarray, sensitivity: float, seed: int = 0) -> OperatingPoint:
    """Return what a score spares the readers at a wanted sensitivity.

    The interval is the percentile bootstrap's [0]: normal and sick images are drawn separately, and each draw chooses
    its threshold anew. It is made no narrower than Wilson's for the threshold as found, which is all that is left of it
    where the draws agree, as they do for classes that hardly overlap.

    Args:
        is_sick: Which images are sick, bool, `(N,)`.
        scores: Finite, the higher the more likely sick, `(N,)`.
        sensitivity: Least share of the sick images to catch, in (0, 1].
        seed: Of the draws.

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
        raise SettingError(f"sensitivity = {sensitivity}", "in (0, 1]", "give the share of the sick images to catch")
    check_scores(is_sick, scores[None])
    normal, sick = scores[~is_sick], scores[is_sick]
    needed = _needed(len(sick), sensitivity)

    threshold = float(np.sort(sick)[-needed])
    caught, spared = rates_at(is_sick, scores, threshold)
    spared_drawn = np.concatenate(
        [
            (normal_drawn < np.sort(sick_drawn)[:, -needed, None]).mean(axis=1)
            for normal_drawn, sick_drawn in _redraw(normal, sick, seed)
        ]
    )
    low, high = np.quantile(spared_drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    catches_all = needed == len(sick)
    low = 0.0 if catches_all else min(float(low), spared.low)
    return OperatingPoint(
        threshold, caught.value, Estimate(spared.value, low, max(float(high), spared.high)), catches_all
    )


class Rates(NamedTuple):
    """What a threshold does that was fixed before these images were seen."""

    sensitivity: Estimate
    specificity: Estimate


def rates_at(is_sick: np.ndarray, scores: np.ndarray, threshold: float) -> Rates:
    """Return sensitivity and specificity of a threshold that comes from other images, with Wilson's intervals.

    Args:
        is_sick: Which images are sick, bool, `(N,)`.
        scores: Finite, the higher the more likely sick, `(N,)`.
        threshold: The lowest score that is called sick.

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
    """Return the average precision: the mean share of sick images among all that score as high as a sick one.

    It depends on the share of sick images in the set, and is compared only between systems on the same images. The
    interval has the bootstrap's standard error on the scale of the log odds [1], normal and sick images drawn
    separately. It is NaN where the draws cannot tell the spread: for perfectly separated classes, and where a class has
    a single image.

    Args:
        is_sick: Which images are sick, bool, `(N,)`.
        scores: Finite, the higher the more likely sick, `(N,)`.
        seed: Of the draws.

    Raises:
        ScoreError: As for :func:`operating_point`.

    Example:
        >>> estimate_average_precision(np.array([False, False, True, True]), np.array([1.0, 3, 2, 4])).value
        0.833...
    """
    check_scores(is_sick, scores[None])
    normal, sick = scores[~is_sick], scores[is_sick]
    value = float(average_precision_score(is_sick, scores))
    variance = float(np.concatenate([_average_precisions(*drawn) for drawn in _redraw(normal, sick, seed)]).var())
    if value == 1 or min(len(normal), len(sick)) == 1:
        return Estimate(value, math.nan, math.nan)
    return Estimate(value, *logit_interval(value, variance))


def _average_precisions(normal: np.ndarray, sick: np.ndarray) -> np.ndarray:
    """Return the average precision of each draw, `(D, n_normal)` and `(D, n_sick)` to `(D,)`, all at once."""
    sick_at_least = rankdata(-sick, "max", axis=1)
    at_least = rankdata(-np.concatenate([sick, normal], axis=1), "max", axis=1)[:, : sick.shape[1]]
    return np.asarray((sick_at_least / at_least).mean(axis=1))


def _redraw(normal: np.ndarray, sick: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw as many normal and as many sick scores as there are, with replacement, N_DRAWS times.

    SciPy's bootstrap draws from each of several samples, too, but refuses a sample of one.

    Yields:
        Some of the draws, `(D, n_normal)` and `(D, n_sick)`: as many as fit into a memory that does not grow with n.
    """
    at_once = max(1, _VALUES_AT_ONCE // (len(normal) + len(sick)))
    parts = [min(at_once, N_DRAWS - first) for first in range(0, N_DRAWS, at_once)]
    of_normal, of_sick = np.random.default_rng(seed), np.random.default_rng(seed)
    for draws in parts:  # all normal ones are drawn before all sick ones, however many at once
        of_sick.choice(normal, (draws, len(normal)))
    for draws in parts:
        yield of_normal.choice(normal, (draws, len(normal))), of_sick.choice(sick, (draws, len(sick)))


def _needed(n_sick: int, sensitivity: float) -> int:
    """Return the least number of sick images that are the wanted share; 0.95 of 20 is 19 in spite of rounding."""
    return math.ceil(sensitivity * n_sick - 1e-9)


def _rate(called: np.ndarray) -> Estimate:
    successes, trials = int(called.sum()), len(called)
    return Estimate(successes / trials, *wilson_interval(successes, trials))
