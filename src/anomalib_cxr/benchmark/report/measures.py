"""What the scores of each run come to, by both protocols: a row for each figure, and figures over several runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from anomalib_cxr.evaluation.metrics.combine import combine
from anomalib_cxr.evaluation.metrics.exposure_adjusted import ADJUSTED_AUROC, evaluate_adjusted
from anomalib_cxr.evaluation.metrics.screening_metrics import AUROC, HOSPITAL_AUROC, POOLED, evaluate_scores
from anomalib_cxr.evaluation.scores import NORMAL

from .results import AS_IS, BEST, LAST, TEST, VAL, Outcome, Results

DISSERTATION, HONEST = "dissertation", "honest"
COLUMNS = [
    "data", "system", "split", "seed", "protocol", "weights", "subset", "shift", "group", "metric",
    "value", "low", "high", "variance", "n_normal", "n_sick", "note",
]  # fmt: skip


def measure_runs(results: Results) -> pd.DataFrame:
    """Measure each run that has scores.

    Returns:
        A row for each figure, with the columns of :data:`COLUMNS`

        - `protocol`: `dissertation`, the highest AUROC of all epochs on validation; or `honest`, on test images that no
          weights were chosen by.
        - `group` to `note`: see :func:`anomalib_cxr.evaluation.metrics.screening_metrics.evaluate_scores`, and
          :func:`anomalib_cxr.evaluation.metrics.exposure_adjusted.evaluate_adjusted` where exposure was measured. Images that went
          through a shift have AUROC only.
    """
    tables = [table for outcome in results.done for table in _measure_run(outcome)]
    measured: pd.DataFrame = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    return measured


def _measure_run(outcome: Outcome) -> Iterator[pd.DataFrame]:
    run = outcome.run
    for table in (_measure_as_dissertation(outcome), *_measure_honestly(outcome)):
        yield table.assign(data=run.data, system=run.system, split=run.split, seed=run.seed)[COLUMNS]


def _measure_as_dissertation(outcome: Outcome) -> pd.DataFrame:
    """Return the highest AUROC of all epochs on validation, with the interval of the scores of that epoch."""
    table = evaluate_scores(outcome.part(VAL, BEST), [AUROC])
    highest = outcome.epochs["val_auroc"].max() if "val_auroc" in outcome.epochs else math.nan
    pooled = table.group == POOLED
    of_scores = float(table.value[pooled].iloc[0])
    if not math.isclose(of_scores, highest, abs_tol=1e-4):
        table.loc[pooled, ["value", "low", "high", "variance"]] = [highest, math.nan, math.nan, math.nan]
        table.loc[pooled, "note"] = f"its scores give {of_scores:.4f}"
    placed: pd.DataFrame = table.assign(protocol=DISSERTATION, weights=BEST, subset=VAL, shift=AS_IS)
    return placed


def _measure_honestly(outcome: Outcome) -> Iterator[pd.DataFrame]:
    """Yield all metrics of the test images as they are, and AUROC of what was made of them."""
    for weights in (BEST, LAST):
        for table in (evaluate_scores(outcome.part(TEST, weights)), *_adjust(outcome, weights)):
            yield table.assign(protocol=HONEST, weights=weights, subset=TEST, shift=AS_IS)
    for shift in sorted(set(outcome.scores["shift"]) - {AS_IS}):
        table = evaluate_scores(outcome.part(TEST, BEST, shift), [AUROC, HOSPITAL_AUROC])
        yield table.assign(protocol=HONEST, weights=BEST, subset=TEST, shift=shift)


def _adjust(outcome: Outcome, weights: str) -> Iterator[pd.DataFrame]:
    """Yield AUROC among images of similar exposure, where that was measured.

    Of a few normal images hardly one may be of similar exposure: those of validation are added to those of test. None
    of them has trained; where weights were chosen by them they may score a little too well.
    """
    if not outcome.exposure.empty:
        tested, validated = outcome.part(TEST, weights), outcome.part(VAL, weights)
        added = (validated.label == NORMAL) & ~validated.image.isin(tested.image)
        yield evaluate_adjusted(pd.concat([tested, validated[added]]), outcome.exposure)


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
    if known.metric.iloc[0] in {AUROC, ADJUSTED_AUROC}:
        return combined.auroc_interval
    low, high = combined.difference_interval  # the log odds of a figure near 0 or 1 know no bounds
    return max(0.0, low), high
