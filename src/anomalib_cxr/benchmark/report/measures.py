"""Compute the metrics of every run by two protocols, their means over runs, and paired comparisons of systems."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from anomalib_cxr.evaluation.metrics.combine import combine
from anomalib_cxr.evaluation.metrics.delong import paired_delong
from anomalib_cxr.evaluation.metrics.exposure_adjusted import ADJUSTED_AUROC, evaluate_adjusted
from anomalib_cxr.evaluation.metrics.labels import evaluate_labels
from anomalib_cxr.evaluation.metrics.negative_control import CONTROL
from anomalib_cxr.evaluation.metrics.screening_metrics import AUROC, HOSPITAL_AUROC, POOLED, evaluate_scores
from anomalib_cxr.evaluation.metrics.transferred import DRIFT, evaluate_transferred
from anomalib_cxr.evaluation.scores import NORMAL, SICK, count_labels, no_roc_reason

from .results import BEST, LAST, TEST, UNSHIFTED, VAL, Results, RunResult

DISSERTATION, HONEST = "dissertation", "honest"
CHANCE = 0.5
SIGNIFICANT = 0.05
CONTROL_AUROC, CONTROL_ADJUSTED = f"control_{AUROC}", f"control_{ADJUSTED_AUROC}"
"""Metrics of the negative control."""
_AUROCS = {AUROC, ADJUSTED_AUROC, DRIFT, CONTROL_AUROC, CONTROL_ADJUSTED}
_UNKNOWN = ("low", "high", "variance")
METRIC_COLUMNS = [
    "data", "system", "split", "seed", "protocol", "weights", "subset", "shift", "group", "metric",
    "value", "low", "high", "variance", "n_normal", "n_sick", "note",
]  # fmt: skip
PAIR_COLUMNS = [
    "data", "weights", "shift", "first", "second", "n_runs", "difference", "low", "high", "p", "p_holm", "note",
]  # fmt: skip


def measure_runs(results: Results) -> pd.DataFrame:
    """Compute the metrics of every run that has scores.

    Args:
        results: The benchmark.

    Returns:
        One row per metric, with the columns :data:`METRIC_COLUMNS`

        - `protocol`: `dissertation`, the highest AUROC of all epochs on validation; or `honest`, on test images that
          were not used to choose weights.
        - `group` to `note`: see :func:`anomalib_cxr.evaluation.metrics.screening_metrics.evaluate_scores`, and
          :func:`anomalib_cxr.evaluation.metrics.exposure_adjusted.evaluate_adjusted` where exposure was measured, the
          same two of the negative control (`control_auroc`, `control_auroc_adjusted`),
          :func:`anomalib_cxr.evaluation.metrics.transferred.evaluate_transferred` and
          :func:`anomalib_cxr.evaluation.metrics.labels.evaluate_labels` where test is not validation, and
          `pixel_auroc`, `pixel_aupro` and `pixel_dice`, without intervals, where images have lesion masks. Shifted
          images have AUROC only.
    """
    tables = [
        table.assign(data=run.data, system=run.system, split=run.split, seed=run.seed)[METRIC_COLUMNS]
        for result in results.done
        for run in [result.run]
        for table in (_dissertation_protocol(result), *_honest_protocol(result))
    ]
    measured: pd.DataFrame = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=METRIC_COLUMNS)
    return measured


def _dissertation_protocol(result: RunResult) -> pd.DataFrame:
    """Return the highest AUROC of all epochs on validation, with the interval from the scores of that epoch."""
    table = evaluate_scores(result.select(VAL, BEST), [AUROC])
    highest = result.epochs["val_auroc"].max() if "val_auroc" in result.epochs else math.nan
    pooled = table.group == POOLED
    of_scores = float(table.value[pooled].iloc[0])
    if not math.isclose(of_scores, highest, abs_tol=1e-4):
        table.loc[pooled, ["value", "low", "high", "variance"]] = [highest, math.nan, math.nan, math.nan]
        table.loc[pooled, "note"] = f"its scores give {of_scores:.4f}"
    measured: pd.DataFrame = table.assign(protocol=DISSERTATION, weights=BEST, subset=VAL, shift=UNSHIFTED)
    return measured


def _honest_protocol(result: RunResult) -> Iterator[pd.DataFrame]:
    """Yield all metrics of the test images, and AUROC of the shifted ones."""
    for weights in (BEST, LAST):
        tested, further = evaluate_scores(result.select(TEST, weights)), _adjusted(result, weights)
        others = (*_transferred(result, weights), *_control(result, weights), *_maps(result, weights))
        for table in (tested, *further, *others):
            yield table.assign(protocol=HONEST, weights=weights, subset=TEST, shift=UNSHIFTED)
    for shift in sorted(set(result.scores["shift"]) - {UNSHIFTED}):
        table = evaluate_scores(result.select(TEST, BEST, shift), [AUROC, HOSPITAL_AUROC])
        yield table.assign(protocol=HONEST, weights=BEST, subset=TEST, shift=shift)


def _transferred(result: RunResult, weights: str) -> Iterator[pd.DataFrame]:
    """Yield what thresholds chosen on validation give, where that is not the test set."""
    validated, tested = result.select(VAL, weights), result.select(TEST, weights)
    if not validated.empty and not tested.image.isin(validated.image).any():
        yield evaluate_transferred(validated, tested)
        yield evaluate_labels(validated, tested)


def _maps(result: RunResult, weights: str) -> Iterator[pd.DataFrame]:
    """Yield the figures of the anomaly maps, where they were measured."""
    n_normal, n_sick = count_labels(result.select(TEST, weights))
    figures = result.maps[result.maps.weights == weights][["metric", "value"]]
    if len(figures):
        counts = {"group": POOLED, "n_normal": n_normal, "n_sick": n_sick, "note": ""}
        yield figures.assign(**counts, **dict.fromkeys(_UNKNOWN, math.nan))


def _adjusted(result: RunResult, weights: str) -> Iterator[pd.DataFrame]:
    """Yield the exposure-adjusted AUROC, where exposure was measured.

    A few normal images hardly contain one of similar exposure, so those of validation are added to those of test. The
    model was not trained on them; where they chose the weights, they may score slightly too well.
    """
    if not result.exposure.empty:
        yield evaluate_adjusted(pd.concat(_compared(result, weights)), result.exposure)


def _compared(result: RunResult, weights: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the test images, and the normal validation images that are added for comparison."""
    tested, validated = result.select(TEST, weights), result.select(VAL, weights)
    return tested, validated[(validated.label == NORMAL) & ~validated.image.isin(tested.image)]


def _control(result: RunResult, weights: str) -> Iterator[pd.DataFrame]:
    """Yield AUROC, plain and adjusted for exposure, of the negative control, where it was measured."""
    if CONTROL not in result.exposure:
        return
    scores = result.exposure.set_index("image")[CONTROL]
    tested, validated = (table.assign(score=table.image.map(scores)) for table in _compared(result, weights))
    for table in (evaluate_scores(tested, [AUROC]), evaluate_adjusted(pd.concat([tested, validated]), result.exposure)):
        yield table.assign(metric="control_" + table.metric)


def select(table: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """Return the rows whose columns have the wanted values.

    Args:
        table: Such as from :func:`measure_runs`.
        wanted: Value by column.

    Returns:
        Rows of the table.

    Example:
        >>> select(pd.DataFrame({"system": ["a", "b"], "value": [0.5, 0.6]}), system="b").value.tolist()
        [0.6]
    """
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


class RunMean(NamedTuple):
    """Mean of a metric over several runs."""

    value: float
    low: float
    """Lower end of the 95 % interval, NaN without one."""
    high: float
    smallest: float
    largest: float
    n_runs: int
    deviation: float = math.nan
    """Standard deviation over the runs, with `n_runs - 1`; NaN for a single run."""


def mean_over_runs(rows: pd.DataFrame) -> RunMean | None:
    """Average a metric over runs, with its interval by Rubin's rules.

    Args:
        rows: Rows of :func:`measure_runs` that differ in split and seed only.

    Returns:
        The mean; None if no run has a value. A single run keeps its own interval.
    """
    known = rows[rows.value.notna()]
    if known.empty:
        return None
    if len(known) == 1:
        low, high = float(known.low.iloc[0]), float(known.high.iloc[0])
    else:  # an unknown variance of any run leaves no interval
        combined = combine(known.value.tolist(), known.variance.tolist())
        is_auroc = known.metric.iloc[0] in _AUROCS
        # The log odds of another rate, near 0 or 1, have no bounds.
        low, high = combined.auroc_interval if is_auroc else combined.difference_interval
        low = max(low, 0.0)  # this order keeps NaN
    values = known.value
    ends = float(values.min()), float(values.max())
    return RunMean(float(values.mean()), low, high, *ends, len(known), float(values.std()))


def means_by(rows: pd.DataFrame, *columns: str) -> dict[Any, RunMean]:
    """Average a metric over runs by further columns.

    Args:
        rows: Rows of :func:`measure_runs`.
        columns: Names of the columns.

    Returns:
        Means by the value of the column, or by a tuple of values; without those that no run has.
    """
    groups = rows.groupby(list(columns) if len(columns) > 1 else columns[0], sort=len(columns) > 1)
    return {key: mean for key, part in groups if (mean := mean_over_runs(part)) is not None}


def undirected_auroc(rows: pd.DataFrame) -> pd.DataFrame:
    """Replace AUROC below 0.5 by 1 - AUROC, so that runs that separate two groups in opposite directions do not cancel.

    Args:
        rows: Rows of :func:`measure_runs`.

    Returns:
        The rows with `value`, `low` and `high` replaced.

    Example:
        >>> rows = pd.DataFrame({"value": [0.9, 0.2], "low": [0.8, 0.1], "high": [0.95, 0.4]})
        >>> undirected_auroc(rows).round(2).to_numpy().tolist()
        [[0.9, 0.8, 0.95], [0.8, 0.6, 0.9]]
    """
    above = ~(rows.value < CHANCE)
    replaced: pd.DataFrame = rows.assign(
        value=rows.value.where(above, 1 - rows.value),
        low=rows.low.where(above, 1 - rows.high),
        high=rows.high.where(above, 1 - rows.low),
    )
    return replaced


def compare_systems(results: Results) -> pd.DataFrame:
    """Compare every two systems on the same test images by DeLong's paired test, combined over runs.

    Args:
        results: The benchmark.

    Returns:
        One row per pair of systems, data set, set of weights and shift, with the columns :data:`PAIR_COLUMNS`

        - `difference`: AUROC of `first` minus that of `second`, mean over the `n_runs` (split and seed) of both;
          with its 95 % interval `low` to `high`.
        - `p`: two-sided, not corrected for the number of comparisons.
        - `p_holm`: corrected by Holm's method over all pairs of the same data set, weights and shift.
        - `note`: reason for a missing test.
    """
    tables = [
        _compare_pairs(results, data, weights, shift)
        for data in results.config["data"]
        for weights, shift in ((BEST, UNSHIFTED), (LAST, UNSHIFTED), *((BEST, name) for name in results.shifts(data)))
    ]
    compared: pd.DataFrame = pd.concat(tables, ignore_index=True)
    return compared


def _compare_pairs(results: Results, data: str, weights: str, shift: str) -> pd.DataFrame:
    scores = {
        system: {
            (result.run.split, result.run.seed): result.select(TEST, weights, shift).sort_values("image", kind="stable")
            for result in results.of(data, system)
        }
        for system in results.systems(data)
    }
    rows = []
    for first, second in combinations(scores, 2):
        pairs = [(scores[first][run], scores[second][run]) for run in scores[first] if run in scores[second]]
        names = {"data": data, "weights": weights, "shift": shift, "first": first, "second": second}
        rows.append(names | _compare(pairs))
    table: pd.DataFrame = pd.DataFrame(rows, columns=PAIR_COLUMNS)
    table["p_holm"] = holm(table.p.to_numpy(dtype=float))
    return table


def _compare(pairs: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> dict[str, Any]:
    """Compare the scores of two systems, run by run."""
    obstacles = [_obstacle(*pair) for pair in pairs]
    note = "; ".join(dict.fromkeys(filter(None, obstacles)))
    tests = [
        paired_delong((first.label == SICK).to_numpy(), first.score.to_numpy(float), second.score.to_numpy(float))
        for (first, second), obstacle in zip(pairs, obstacles, strict=True)
        if obstacle is None
    ]
    if not tests:
        return {"n_runs": 0, "note": note or "no run of the same split and seed"}
    mean = combine([test.value for test in tests], [test.variance for test in tests])
    low, high = mean.difference_interval
    return {"n_runs": len(tests), "difference": mean.value, "low": low, "high": high, "p": mean.p, "note": note}


def _obstacle(first: pd.DataFrame, second: pd.DataFrame) -> str | None:
    """Return the reason why two tables of scores cannot be compared; None where they can."""
    if list(first.image) != list(second.image) or list(first.label) != list(second.label):
        return "not the same test images"
    return "a class with a single image" if min(count_labels(first)) == 1 else no_roc_reason(first)


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p values for their number by Holm's method, valid for tests that depend on each other in any way.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.

    Args:
        p: The p values, `(N,)`; NaN where there was no test, which does not count.

    Returns:
        Corrected values, `(N,)`.

    Example:
        >>> holm(np.array([0.01, 0.04, np.nan, 0.03])).tolist()
        [0.03, 0.06, nan, 0.06]
    """
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN come last
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return corrected
