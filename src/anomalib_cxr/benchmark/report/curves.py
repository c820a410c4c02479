"""Data of the plots over several runs: logged values by epoch, ROC curves, and standardized scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from anomalib_cxr.evaluation.scores import NORMAL, SICK, no_roc_reason

from .results import BEST, TEST, RunResult

FALSE_POSITIVE_RATES = np.linspace(0, 1, 101)
NOT_LOSSES = ("epoch", "val_auroc")


class Curves(NamedTuple):
    """One curve per run over a common grid."""

    grid: np.ndarray
    """`(N,)`."""
    values: np.ndarray
    """`(R, N)` for R runs; NaN where a run has no value."""

    @property
    def mean(self) -> np.ndarray:
        """Mean over the runs that have a value, `(N,)`."""
        return self._over_runs(np.nanmean)

    @property
    def range(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest value over the runs, two arrays `(N,)`."""
        return self._over_runs(np.nanmin), self._over_runs(np.nanmax)

    def _over_runs(self, reduce: Callable[..., Any]) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # without any value the result stays NaN
            return np.asarray(reduce(self.values, axis=0))


def align_epochs(tables: Sequence[pd.DataFrame], column: str) -> Curves | None:
    """Align a column of several tables by their `epoch`.

    Args:
        tables: One per run.
        column: Name of the column.

    Returns:
        The curves; None if no table has a finite value.

    Example:
        >>> tables = [pd.DataFrame({"epoch": [0, 1], "l": [4.0, 2.0]}), pd.DataFrame({"epoch": [0], "l": [2.0]})]
        >>> align_epochs(tables, "l").mean.tolist(), align_epochs(tables, "val_auroc") is None
        ([3.0, 2.0], True)
    """
    series = [table.set_index("epoch")[column].astype(float) for table in tables if column in table]
    series = [values for values in series if np.isfinite(values).any()]
    if not series:
        return None
    aligned = pd.concat([values[~values.index.duplicated()] for values in series], axis=1).sort_index()
    aligned = aligned.where(np.isfinite(aligned))
    return Curves(aligned.index.to_numpy(dtype=float), aligned.to_numpy(dtype=float).T)


def roc_curves(tables: Sequence[pd.DataFrame]) -> Curves | None:
    """Return the ROC curves of several runs over a common grid of false positive rates, for vertical averaging.

    Args:
        tables: Scores of each run, with `label` and `score`; those without both classes are left out.

    Returns:
        Sensitivity over 1 - specificity; None if no run has both classes.

    Example:
        >>> table = pd.DataFrame({"label": ["normal", "sick", "normal", "sick"], "score": [1.0, 2.0, 3.0, 4.0]})
        >>> curves = roc_curves([table])
        >>> curves.grid[[0, 1, -1]].tolist(), curves.mean[[0, 1, -1]].tolist()
        ([0.0, 0.0, 1.0], [0.0, 0.5, 1.0])
    """
    rows = [
        [0.0, *_interpolate(*roc_curve(table.label == SICK, table.score)[:2])]
        for table in tables
        if no_roc_reason(table) is None
    ]
    return Curves(np.array([0.0, *FALSE_POSITIVE_RATES]), np.array(rows)) if rows else None


def _interpolate(rates: np.ndarray, sensitivity: np.ndarray) -> np.ndarray:
    """Return the sensitivity at each grid point; the middle of a vertical step where one lies there."""
    upper = np.interp(FALSE_POSITIVE_RATES, rates, sensitivity)  # of several points at one rate NumPy takes the last
    lower = np.interp(-FALSE_POSITIVE_RATES, -rates[::-1], sensitivity[::-1])
    middle: np.ndarray = (lower + upper) / 2
    middle[[0, -1]] = upper[[0, -1]]  # the curve begins at the top of its first step, and ends at 1
    return middle


def loss_curves(runs: Sequence[RunResult]) -> dict[str, Curves]:
    """Return the values that any of some runs logged by epoch, apart from the AUROC on validation.

    Args:
        runs: Results of one system.

    Returns:
        Curves by the name of the value.
    """
    names = dict.fromkeys(name for run in runs for name in run.epochs.columns if name not in NOT_LOSSES)
    aligned = {name: align_epochs([run.epochs for run in runs], name) for name in names}
    return {name: curves for name, curves in aligned.items() if curves is not None}


def standardize_scores(runs: Sequence[RunResult]) -> pd.DataFrame:
    """Standardize the test scores of each run, as runs differ in scale.

    Args:
        runs: Results of one system.

    Returns:
        Scores of all runs, each with mean 0 and standard deviation 1 over its normal images of all hospitals; without
        runs whose normal images have equal scores.
    """
    parts = []
    for table in (result.select(TEST, BEST) for result in runs):
        normal = table.score[table.label == NORMAL]
        deviation = normal.std(ddof=0)
        if deviation > 0:
            parts.append(table.assign(score=(table.score - normal.mean()) / deviation))
    standardized: pd.DataFrame = pd.concat(parts) if parts else pd.DataFrame(columns=["source", "label", "score"])
    return standardized
