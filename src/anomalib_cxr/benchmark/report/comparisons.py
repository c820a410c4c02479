"""Whether two systems differ: paired tests on the same test images, over the runs of both."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from anomalib_cxr.evaluation.metrics.combine import combine
from anomalib_cxr.evaluation.metrics.delong import paired_delong
from anomalib_cxr.evaluation.scores import SICK, count_labels, obstacle_to_roc

from .results import AS_IS, BEST, LAST, TEST, Outcome, Results

SIGNIFICANT = 0.05
COLUMNS = ["data", "weights", "shift", "first", "second", "n_runs", "difference", "low", "high", "p", "p_holm", "note"]


def compare_systems(results: Results) -> pd.DataFrame:
    """Compare every two systems on the same test images by DeLong's paired test, combined over runs.

    Returns:
        A row for each two systems, data, choice of weights and shift of the images, with the columns of :data:`COLUMNS`

        - `difference`: AUROC of `first` minus that of `second`, mean over the `n_runs` (split and seed) that both have;
          with its 95 % interval `low` to `high`.
        - `p`: two-sided, not corrected for the number of comparisons.
        - `p_holm`: corrected by Holm's method over all pairs of the same data, weights and shift.
        - `note`: why there is no test.
    """
    tables = [
        _compare_all(results, data, weights, shift)
        for data in results.config["data"]
        for weights, shift in ((BEST, AS_IS), (LAST, AS_IS), *((BEST, shift) for shift in results.shifts(data)))
    ]
    compared: pd.DataFrame = pd.concat(tables, ignore_index=True)
    return compared


def _compare_all(results: Results, data: str, weights: str, shift: str) -> pd.DataFrame:
    place = {"data": data, "weights": weights, "shift": shift}
    scores = {system: _scores_by_run(results.of(data, system), weights, shift) for system in results.systems(data)}
    rows = []
    for first, second in combinations(scores, 2):
        common = [run for run in scores[first] if run in scores[second]]
        compared = _compare([(scores[first][run], scores[second][run]) for run in common])
        rows.append({**place, "first": first, "second": second, **compared})
    table: pd.DataFrame = pd.DataFrame(rows, columns=COLUMNS)
    table["p_holm"] = holm(table.p.to_numpy(dtype=float))
    return table


def _scores_by_run(outcomes: Sequence[Outcome], weights: str, shift: str) -> dict[tuple[int, int], pd.DataFrame]:
    """Return the scores of each run by its split and seed, in the order of the images' names."""
    return {
        (each.run.split, each.run.seed): each.part(TEST, weights, shift).sort_values("image", kind="stable")
        for each in outcomes
    }


def _compare(pairs: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> dict[str, Any]:
    """Compare the scores of two systems, run by run."""
    tested, obstacles = [], []
    for first, second in pairs:
        obstacle = _obstacle(first, second)
        if obstacle is not None:
            obstacles.append(obstacle)
            continue
        is_sick = (first.label == SICK).to_numpy()
        tested.append(paired_delong(is_sick, *(table.score.to_numpy(dtype=float) for table in (first, second))))
    notes = "; ".join(dict.fromkeys(obstacles))
    if not tested:
        return {"n_runs": 0, "note": notes or "no run of the same split and seed"}
    over = combine([each.value for each in tested], [each.variance for each in tested])
    low, high = over.difference_interval
    return {"n_runs": len(tested), "difference": over.value, "low": low, "high": high, "p": over.p, "note": notes}


def _obstacle(first: pd.DataFrame, second: pd.DataFrame) -> str | None:
    """Return why two tables of scores cannot be compared; None where they can."""
    if list(first.image) != list(second.image) or list(first.label) != list(second.label):
        return "not the same test images"
    if min(count_labels(first)) == 1:
        return "a class with a single image"
    return obstacle_to_roc(first)


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p values for their number by Holm's method, which holds however the tests depend on each other.

    Args:
        p: The p values; NaN where there was no test, which counts for nothing.

    Source:
        S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.

    Example:
        >>> holm(np.array([0.01, 0.04, np.nan, 0.03])).tolist()
        [0.03, 0.06, nan, 0.06]
    """
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN come last
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return corrected
