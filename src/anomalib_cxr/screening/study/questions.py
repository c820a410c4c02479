"""Questions of a calibration study beside the thresholds: the WHO's target, numbers of sick people, and reliability.

Source: [0] World Health Organization, "High-priority target product profiles for new tuberculosis diagnostics", 2014: a
triage test is to have a sensitivity of 90 % and a specificity of 70 % at least.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from anomalib_cxr.evaluation.metrics.operating_points import Estimate, operating_point
from anomalib_cxr.screening.calibration.probability import ReliabilityBin
from anomalib_cxr.screening.calibration.threshold import lower_bound

SENSITIVITY, SPECIFICITY = 0.9, 0.7
"""Target of the WHO's product profile [0]."""
MISSES = (0, 1, 2, 5, 10)
"""Numbers of missed sick images for which the needed number of sick images is reported."""


class Target(NamedTuple):
    """Specificity at the threshold for 90 % sensitivity, against the WHO's target."""

    threshold: float
    sensitivity: float
    specificity: Estimate
    verdict: Literal["met", "not met", "open"]
    """`open` where the interval of the specificity holds 70 %."""


def who_target(is_sick: np.ndarray, scores: np.ndarray) -> Target:
    """Compare a score with the WHO's target.

    Args:
        is_sick: Labels, of which both values occur, bool, `(N,)`.
        scores: Finite scores, `(N,)`.

    Returns:
        Threshold, rates and verdict.

    Example:
        >>> who_target(np.arange(400) >= 200, np.arange(400.0)).verdict
        'met'
    """
    point = operating_point(is_sick, scores, SENSITIVITY)
    specificity = point.specificity
    if specificity.low >= SPECIFICITY:
        verdict: Literal["met", "not met", "open"] = "met"
    else:
        verdict = "not met" if specificity.high < SPECIFICITY else "open"
    return Target(point.threshold, point.sensitivity, specificity, verdict)


def sick_images_needed(sensitivities: Sequence[float], confidence: float) -> pd.DataFrame:
    """Compute how many sick images show a sensitivity, if some of them are missed; before any is collected.

    Args:
        sensitivities: Sensitivities to guarantee, in (0, 1).
        confidence: Confidence level of the guarantee, in (0, 1).

    Returns:
        Columns `sensitivity`, `missed`, `needed`.

    Example:
        >>> sick_images_needed([0.99], 0.95).needed.tolist()[:2]
        [299, 473]
    """
    rows = [(goal, missed, _needed(goal, missed, confidence)) for goal in sensitivities for missed in MISSES]
    table: pd.DataFrame = pd.DataFrame(rows, columns=["sensitivity", "missed", "needed"])
    return table


def _needed(sensitivity: float, missed: int, confidence: float) -> int:
    """Return the least number of sick images, by halving: the bound rises with it."""
    low, high = missed + 1, missed + 2
    while lower_bound(high, missed, confidence) < sensitivity:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        enough = lower_bound(middle, missed, confidence) >= sensitivity
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


def reliability_at(bins: Sequence[ReliabilityBin], share: float, prevalence: float) -> pd.DataFrame:
    """Move a reliability curve from the study's share of sick images to the prevalence of the place.

    The share of sick images in a bin, weighted as at the place, is its own with the odds times the ratio of the odds.

    Args:
        bins: Bins at the share of the study.
        share: Share of sick images in the study.
        prevalence: Share of sick people at the place.

    Returns:
        Columns `predicted`, `observed`, `low`, `high`, `n`.
    """
    shift = logit(prevalence) - logit(share)
    table: pd.DataFrame = pd.DataFrame(
        [part.model_dump() for part in bins], columns=["predicted", "observed", "low", "high", "n"]
    )
    for name in ("predicted", "observed", "low", "high"):
        table[name] = expit(logit(table[name].astype(float)) + shift)
    return table
