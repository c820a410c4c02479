"""95 % intervals of rates and of areas under ROC curves.

Sources: [0] E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927; [1] R. G.
Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2", Statistics in
Medicine 2006; [2] G. Qin, L. Hotilovac, "Comparison of non-parametric confidence intervals for the area under the ROC
curve of a continuous-scale diagnostic test", Statistical Methods in Medical Research 2008; [3] M. Kottas, O. Kuss, A.
Zapf, "A modified Wald interval for the area under the ROC curve", BMC Medical Research Methodology 2014.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtri

LEVEL = 0.95
"""Confidence of every interval of this package."""
QUANTILE = float(ndtri((1 + LEVEL) / 2))
"""Quantile of the normal distribution at the upper end of the interval: 1.96."""


class Interval(NamedTuple):
    """95 % confidence interval."""

    low: float
    high: float


def wald_interval(
    value: float, variance: float, quantile: float = QUANTILE, *, lowest: float = -1.0, highest: float = 1.0
) -> Interval:
    """Return the interval of an estimate with normal errors, such as a difference of two rates.

    Args:
        value: The estimate.
        variance: Variance of the estimate, >= 0; NaN gives an interval of NaN.
        quantile: Half width in standard errors.
        lowest: Lower bound of the true value.
        highest: Upper bound of the true value.

    Returns:
        The interval.

    Example:
        >>> wald_interval(0.1, 0.0004).high
        0.139...
    """
    half = quantile * math.sqrt(variance)
    return Interval(*np.clip([value - half, value + half], lowest, highest).tolist())


def logit_interval(value: float, variance: float, quantile: float = QUANTILE) -> Interval:
    """Return the interval of an estimate in (0, 1) with normal errors of its log odds.

    For a high AUROC, or one from few images, the interval on the original scale undercovers and may exceed 1; that on
    the scale of the log odds does neither [2, 3].

    Args:
        value: The estimate, in (0, 1).
        variance: Variance of the estimate, on the original scale.
        quantile: Half width in standard errors.

    Returns:
        The interval.

    Example:
        >>> logit_interval(0.95, 0.0009)
        Interval(low=0.84..., high=0.98...)
    """
    half = quantile * math.sqrt(variance) / (value * (1 - value))  # the derivative of the log odds
    return Interval(float(expit(logit(value) - half)), float(expit(logit(value) + half)))


def newcombe_interval(auroc: float, n_normal: int, n_sick: int) -> Interval:
    """Return the interval of an AUROC by Newcombe's fifth method [1], which needs no variance.

    It contains the values whose distance from the estimate is at most 1.96 of their own standard errors (by Hanley and
    McNeil's formula), as Wilson's interval does for a rate. Its width is positive for perfect separation, too.

    Args:
        auroc: The estimate, in [0, 1].
        n_normal: Number of normal images, at least 1.
        n_sick: Number of sick images, at least 1.

    Returns:
        The interval.

    Example:
        >>> newcombe_interval(1.0, 35, 35)
        Interval(low=0.94..., high=1.0)
    """
    others = (n_normal + n_sick) / 2 - 1

    from scipy.optimize import brentq  # noqa: PLC0415  # see wilson_interval

    def beyond(truth: float) -> float:
        pairs = 1 + others * ((1 - truth) / (2 - truth) + truth / (1 + truth))
        return (auroc - truth) ** 2 - QUANTILE**2 * truth * (1 - truth) * pairs / (n_normal * n_sick)

    # The ends of the range are roots too, as the variance vanishes there: the search must not start at them.
    start = min(max(auroc, 1e-9), 1 - 1e-9)
    return Interval(
        float(brentq(beyond, 0, start)) if auroc > 0 else 0.0, float(brentq(beyond, start, 1)) if auroc < 1 else 1.0
    )


def wilson_interval(successes: int, trials: int) -> Interval:
    """Return the interval of a rate of independent trials by Wilson's method [0].

    Args:
        successes: Number of successes.
        trials: Number of trials, at least 1.

    Returns:
        The interval.

    Example:
        >>> wilson_interval(35, 35)
        Interval(low=0.90..., high=1.0)
    """
    from scipy.stats import binomtest  # noqa: PLC0415  # half a second at the start of a screening

    interval = binomtest(successes, trials).proportion_ci(LEVEL, method="wilson")
    return Interval(float(interval.low), float(interval.high))
