"""What the scores of each run come to, by both protocols: a row for each figure, and figures over several runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from anomalib_cxr.evaluation.combine import combine
from anomalib_cxr.evaluation.delong import estimate_auroc
from anomalib_cxr.evaluation.intervals import QUANTILE
from anomalib_cxr.evaluation.operating_points import SENSITIVITIES, estimate_average_precision, operating_point
from anomalib_cxr.evaluation.scores import NORMAL, SICK, count_labels, obstacle_to_roc

from .results import AS_IS, BEST, LAST, TEST, VAL, Outcome, Results

DISSERTATION, HONEST = "dissertation", "honest"
POOLED = "pooled"
AUROC, AVERAGE_PRECISION, HOSPITAL_AUROC = "auroc", "average_precision", "auroc_of_hospital"
SPECIFICITIES = {f"specificity_at_{100 * wanted:.0f}": wanted for wanted in SENSITIVITIES}
Row = dict[str, Any]
NOTHING: Row = {"value": math.nan, "low": math.nan, "high": math.nan, "variance": math.nan}
COLUMNS = [
    "data", "system", "split", "seed", "protocol", "weights", "subset", "shift", "group", "metric",
    "value", "low", "high", "variance", "n_normal", "n_sick", "note",
]  # fmt: skip


def measure_runs(results: Results) -> pd.DataFrame:
    """Measure each run that has scores.

    Returns:
        A row for each figure, with the columns of :data:`COLUMNS`

        - `protocol`: `dissertation`, the highest AUROC of all epochs on validation; or `honest`, on weights chosen
          without the images that are measured.
        - `group`: `pooled`, or the hospital; for `auroc_of_hospital`, the two that are told apart.
        - `value`, with its 95 % interval `low` to `high` and its `variance`: missing where there is none.
        - `note`: why a value is missing or what to know of it.
    """
    rows = [row for outcome in results.done for row in _measure_run(outcome)]
    measured: pd.DataFrame = pd.DataFrame(rows, columns=COLUMNS)
    return measured


def _measure_run(outcome: Outcome) -> Iterator[Row]:
    run = outcome.run
    place = {"data": run.data, "system": run.system, "split": run.split, "seed": run.seed}
    for row in (*_measure_as_dissertation(outcome), *_measure_honestly(outcome)):
        yield {**place, **row}


def _measure_as_dissertation(outcome: Outcome) -> Iterator[Row]:
    """Yield the highest AUROC of all epochs on validation, with the interval of the scores of that epoch."""
    chosen = {"protocol": DISSERTATION, "weights": BEST, "subset": VAL, "shift": AS_IS, "metric": AUROC}
    highest = outcome.epochs["val_auroc"].max() if "val_auroc" in outcome.epochs else math.nan
    for group, part in _groups_of(outcome.part(VAL, BEST)):
        row = _row_of(part, AUROC)
        if group == POOLED and not math.isclose(row["value"], highest, abs_tol=1e-4):
            row |= {**NOTHING, "value": highest, "note": f"its scores give {row['value']:.4f}"}
        yield {**chosen, "group": group, **row}


def _measure_honestly(outcome: Outcome) -> Iterator[Row]:
    """Yield all metrics of the test images as they are, and AUROC of what was made of them."""
    shifts = sorted(set(outcome.scores["shift"]) - {AS_IS})
    for weights, shift in ((BEST, AS_IS), (LAST, AS_IS), *((BEST, shift) for shift in shifts)):
        table = outcome.part(TEST, weights, shift)
        chosen = {"protocol": HONEST, "weights": weights, "subset": TEST, "shift": shift}
        metrics = [AUROC] if shift != AS_IS else [AUROC, AVERAGE_PRECISION, *SPECIFICITIES]
        for (group, part), metric in product(_groups_of(table), metrics):
            yield {**chosen, "group": group, "metric": metric, **_row_of(part, metric)}
        for row in _tell_hospitals_apart(table):
            yield {**chosen, "metric": HOSPITAL_AUROC, **row}


def _groups_of(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield all images, and those of each hospital where there are several."""
    yield POOLED, table
    hospitals = sorted(table.source.dropna().unique())
    for source in hospitals if len(hospitals) > 1 else []:
        yield source, table[table.source == source]


def _row_of(table: pd.DataFrame, metric: str) -> Row:
    """Measure the scores of some images; say why, where that cannot be done."""
    n_normal, n_sick = count_labels(table)
    counts = {"n_normal": n_normal, "n_sick": n_sick, "note": ""}
    obstacle = obstacle_to_roc(table)
    if obstacle is not None:
        return {**NOTHING, **counts, "note": obstacle}
    return {**counts, **_estimate(metric, (table.label == SICK).to_numpy(), table.score.to_numpy(dtype=float))}


def _estimate(metric: str, is_sick: np.ndarray, scores: np.ndarray) -> Row:
    if metric == AUROC:
        return dict(estimate_auroc(is_sick, scores)._asdict())
    if metric == AVERAGE_PRECISION:
        estimate, note = estimate_average_precision(is_sick, scores), ""
    else:
        point = operating_point(is_sick, scores, SPECIFICITIES[metric])
        estimate, note = point.specificity, "no sick image may be missed" if point.catches_all else ""
    return {**estimate._asdict(), "variance": ((estimate.high - estimate.low) / (2 * QUANTILE)) ** 2, "note": note}


def _tell_hospitals_apart(table: pd.DataFrame) -> Iterator[Row]:
    """Yield, for each two hospitals, how often a normal image of the second scores higher than one of the first."""
    normal = table[table.label == NORMAL]
    for first, second in combinations(sorted(normal.source.dropna().unique()), 2):
        part = normal[normal.source.isin([first, second])]
        estimate = estimate_auroc((part.source == second).to_numpy(), part.score.to_numpy(dtype=float))
        counts = {"n_normal": len(part), "n_sick": 0, "note": ""}
        yield {"group": f"{second} over {first}", **counts, **estimate._asdict()}


def pick(measured: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """Return the rows of a table that have the wanted values.

    Example:
        >>> pick(pd.DataFrame({"system": ["a", "b"], "value": [0.5, 0.6]}), system="b").value.tolist()
        [0.6]
    """
    chosen = measured
    for column, value in wanted.items():
        chosen = chosen[chosen[column] == value]
    return chosen


class Over(NamedTuple):
    """A figure over several runs."""

    value: float
    """Mean over the runs that have it."""
    low: float
    high: float
    smallest: float
    largest: float
    n_runs: int


def over_runs(rows: pd.DataFrame) -> Over | None:
    """Join the figures of several runs; None where no run has one.

    Args:
        rows: Rows of :func:`measure_runs` that differ in split and seed only.
    """
    known = rows[rows.value.notna()]
    if known.empty:
        return None
    value, spread = float(known.value.mean()), (float(known.value.min()), float(known.value.max()))
    return Over(value, *_interval(known), *spread, len(known))


def either_way(rows: pd.DataFrame) -> pd.DataFrame:
    """Turn AUROC below 0.5 round, so that runs that tell two groups apart in opposite directions do not cancel.

    Example:
        >>> rows = pd.DataFrame({"value": [0.9, 0.2], "low": [0.8, 0.1], "high": [0.95, 0.4]})
        >>> either_way(rows).round(2).to_numpy().tolist()
        [[0.9, 0.8, 0.95], [0.8, 0.6, 0.9]]
    """
    below = rows.value < 0.5  # noqa: PLR2004  # a guess
    turned: pd.DataFrame = rows.assign(
        value=rows.value.where(~below, 1 - rows.value),
        low=rows.low.where(~below, 1 - rows.high),
        high=rows.high.where(~below, 1 - rows.low),
    )
    return turned


def _interval(known: pd.DataFrame) -> tuple[float, float]:
    """Return the interval of a mean over runs: a single run's own, NaN where a run has no variance."""
    if len(known) == 1:
        return float(known.low.iloc[0]), float(known.high.iloc[0])
    if known.variance.isna().any():
        return math.nan, math.nan
    combined = combine(known.value.tolist(), known.variance.tolist())
    if known.metric.iloc[0] in {AUROC, HOSPITAL_AUROC}:
        return combined.auroc_interval
    low, high = combined.difference_interval  # the log odds of a share near 0 or 1 know no bounds
    return max(0.0, low), high
