"""Whether two systems differ: paired tests on the same test images, over the runs of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from anomalib_cxr.evaluation.combine import combine
from anomalib_cxr.evaluation.delong import paired_delong
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
    rows = []
    for first, second in combinations(results.systems(data), 2):
        scores = [
            (one.part(TEST, weights, shift), other.part(TEST, weights, shift))
            for one, other in _common_runs(results.of(data, first), results.of(data, second))
        ]
        rows.append({**place, "first": first, "second": second, **_compare(scores)})
    table: pd.DataFrame = pd.DataFrame(rows, columns=COLUMNS)
    table["p_holm"] = holm(table.p.to_numpy(dtype=float))
    return table


def _compare(scores: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> dict[str, Any]:
    """Compare the scores of two systems, run by run."""
    tested, obstacles = [], []
    for pair in scores:
        tables = [table.sort_values("image", kind="stable") for table in pair]
        obstacle = _obstacle(*tables)
        if obstacle is not None:
            obstacles.append(obstacle)
            continue
        is_sick = (tables[0].label == SICK).to_numpy()
        tested.append(paired_delong(is_sick, *(table.score.to_numpy(dtype=float) for table in tables)))
    if not tested:
        return {"n_runs": 0, "note": "; ".join(dict.fromkeys(obstacles)) or "no run of the same split and seed"}
    over = combine([each.value for each in tested], [each.variance for each in tested])
    low, high = over.difference_interval
    found = {"difference": over.value, "low": low, "high": high, "p": over.p}
    return {"n_runs": len(tested), **found, "note": "; ".join(dict.fromkeys(obstacles))}


def _common_runs(first: Sequence[Outcome], second: Sequence[Outcome]) -> Iterator[tuple[Outcome, Outcome]]:
    """Yield the runs of two systems that have split and seed in common."""
    others = {(each.run.split, each.run.seed): each for each in second}
    for each in first:
        if (each.run.split, each.run.seed) in others:
            yield each, others[each.run.split, each.run.seed]


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
