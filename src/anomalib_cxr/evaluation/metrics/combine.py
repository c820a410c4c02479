"""Combine an estimate over runs (seeds and splits) of one system by Rubin's rules.

Sources: [0] D. B. Rubin, "Multiple Imputation for Nonresponse in Surveys", 1987, chapter 3; [1] A. Marshall, D. G.
Altman, R. L. Holder, P. Royston, "Combining estimates of interest in prognostic modeling studies after multiple
imputation", BMC Medical Research Methodology 2009, for AUROC on the scale of the log odds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from anomalib_cxr.errors import ScoreError

from .intervals import LEVEL, Interval, logit_interval, wald_interval


@dataclass(frozen=True)
class Combined:
    """Mean of an estimate over runs, with the uncertainty of one more run on new images."""

    value: float
    within: float
    """Mean variance within a run, from the test images."""
    between: float
    """Variance between runs, from seeds and splits; 0 for a single run."""
    n_runs: int

    @property
    def total(self) -> float:
        """Total variance, `within + (1 + 1 / n_runs) * between`."""
        return self.within + self._spread

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the t distribution, infinite if the runs agree."""
        return (self.n_runs - 1) * (self.total / self._spread) ** 2 if self._spread else math.inf

    @property
    def auroc_interval(self) -> Interval:
        """95 % interval of an AUROC or another rate, in [0, 1]."""
        if 0 < self.value < 1:
            return logit_interval(self.value, self.total, self._quantile)
        return wald_interval(self.value, self.total, self._quantile, lowest=0)

    @property
    def difference_interval(self) -> Interval:
        """95 % interval of a difference of two AUROC, in [-1, 1]."""
        return wald_interval(self.value, self.total, self._quantile)

    @property
    def p(self) -> float:
        """Two-sided p value of a difference; NaN if the variance is zero in spite of a difference."""
        if not self.total:
            return math.nan if self.value else 1.0
        return 2 * float(t.sf(abs(self.value) / math.sqrt(self.total), self.degrees))

    @property
    def _spread(self) -> float:
        return (1 + 1 / self.n_runs) * self.between

    @property
    def _quantile(self) -> float:
        return float(t.ppf((1 + LEVEL) / 2, self.degrees))


def combine(values: Sequence[float] | np.ndarray, variances: Sequence[float] | np.ndarray) -> Combined:
    """Combine an estimate of several runs by Rubin's rules [0].

    The variance from the images does not shrink with the number of runs, as if all runs had the same test images. If
    each split has its own, the interval is therefore conservative.

    Args:
        values: AUROC or another rate of each run, or difference of two systems in each run.
        variances: Its variance in each run, such as from
            :func:`~anomalib_cxr.evaluation.metrics.delong.estimate_auroc` or
            :func:`~anomalib_cxr.evaluation.metrics.delong.paired_delong`. An unknown one, NaN, gives no interval.

    Returns:
        Mean, variances, interval and p value.

    Raises:
        ScoreError: If there is no run, the two differ in length, or a value is not finite.

    Example:
        >>> combined = combine([0.80, 0.84, 0.82], [0.0009, 0.0008, 0.0007])
        >>> combined.value, combined.auroc_interval
        (0.82, Interval(low=0.72..., high=0.88...))
    """
    runs = np.array([values, variances], dtype=float) if len(values) == len(variances) else np.empty((2, 0))
    if not runs.size or not np.isfinite(runs[0]).all():
        raise ScoreError(
            f"values {list(values)} with variances {list(variances)}",
            "a finite value and a variance of each run, one run at least",
            "leave out the runs that failed",
        )
    value, within = runs.mean(axis=1)
    between = runs[0].var(ddof=1) if runs.shape[1] > 1 else 0.0
    return Combined(float(value), float(within), float(between), runs.shape[1])
