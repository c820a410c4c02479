"""Compute screening metrics with 95 % confidence intervals, pooled and per hospital."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd

from anomalib_cxr.errors import ScoreError
from anomalib_cxr.evaluation.scores import NORMAL, SICK, count_labels, no_roc_reason

from .delong import estimate_auroc
from .intervals import QUANTILE
from .operating_points import SENSITIVITIES, estimate_average_precision, operating_point

POOLED = "pooled"
AUROC, AVERAGE_PRECISION, HOSPITAL_AUROC = "auroc", "average_precision", "auroc_of_hospital"
SPECIFICITIES = {f"specificity_at_{100 * wanted:.0f}": wanted for wanted in SENSITIVITIES}
METRICS = (AUROC, AVERAGE_PRECISION, *SPECIFICITIES, HOSPITAL_AUROC)
COLUMNS = ["group", "metric", "value", "low", "high", "variance", "n_normal", "n_sick", "note"]
NOTHING = dict.fromkeys(("value", "low", "high", "variance"), math.nan)
Row = dict[str, Any]


def evaluate_scores(table: pd.DataFrame, metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    """Compute the screening metrics of a test set.

    Args:
        table: One row per image, with the columns `source` (hospital, missing where unknown), `label` (`normal` or
            `sick`; images without one are left out), `score` (the higher the more likely sick), and optionally `image`
            (its name).
        metrics: Metrics to compute, of :data:`METRICS`.

    Returns:
        One row per group and metric, with the columns

        - `group`: `pooled` for all images, or a hospital where there are several. For `auroc_of_hospital`, the two
          hospitals, `<second> over <first>`.
        - `metric`: `auroc`; `average_precision`; `specificity_at_95`, `_98` and `_99`, at that sensitivity in per cent;
          `auroc_of_hospital`, the AUROC between the normal images of two hospitals. A score that does not depend on the
          hospital has 0.5.
        - `value`, with its 95 % interval `low` to `high`, and its `variance`; missing if undefined.
        - `n_normal`, `n_sick`: images of the group.
        - `note`: reason for a missing value, or a remark; else empty.

    Raises:
        ScoreError: If a score is not finite or a label unknown; names the images.

    Example:
        >>> table = pd.DataFrame({"source": "a", "label": ["normal", "normal", "sick", "sick"], "score": [1, 3, 2, 4]})
        >>> evaluate_scores(table, ["auroc", "average_precision"])[["group", "metric", "value", "n_sick"]]
            group             metric     value  n_sick
        0  pooled              auroc  0.750000       2
        1  pooled  average_precision  0.833333       2
    """
    known = table[table.label.notna()]
    _refuse(known, ~np.isfinite(known.score.astype(float)), "scores that are not finite", "finite scores")
    _refuse(known, ~known.label.isin([NORMAL, SICK]), "unknown labels", f"label {NORMAL} or {SICK}")
    of_groups = [metric for metric in metrics if metric != HOSPITAL_AUROC]
    rows = [_measure(group, part, metric) for (group, part), metric in product(groups_of(known), of_groups)]
    if HOSPITAL_AUROC in metrics:
        rows += _between_hospitals(known[known.label == NORMAL])
    measured: pd.DataFrame = pd.DataFrame(rows, columns=COLUMNS)
    return measured


def _refuse(table: pd.DataFrame, wrong: pd.Series, found: str, expected: str) -> None:
    if wrong.any():
        names = ", ".join(map(str, table.image[wrong] if "image" in table else table.index[wrong]))
        raise ScoreError(
            f"{found}, {int(wrong.sum())} of {len(table)}: {names}",
            f"{expected} for all images",
            "check the output of the model on these images",
        )


def groups_of(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield all images, and those of each hospital if there are several.

    Args:
        table: With a column `source`.

    Yields:
        Name of the group and its rows.
    """
    yield POOLED, table
    hospitals = _hospitals(table)
    for source in hospitals if len(hospitals) > 1 else []:
        yield source, table[table.source == source]


def _hospitals(table: pd.DataFrame) -> list[str]:
    return sorted(table.source.dropna().unique())


def _measure(group: str, table: pd.DataFrame, metric: str) -> Row:
    n_normal, n_sick = count_labels(table)
    row = {"group": group, "metric": metric, "n_normal": n_normal, "n_sick": n_sick, "note": no_roc_reason(table)}
    if row["note"] is not None:
        return NOTHING | row
    return row | _estimate(metric, (table.label == SICK).to_numpy(), table.score.to_numpy(dtype=float))


def _estimate(metric: str, is_sick: np.ndarray, scores: np.ndarray) -> Row:
    if metric == AUROC:
        return estimate_auroc(is_sick, scores)._asdict() | {"note": ""}
    if metric == AVERAGE_PRECISION:
        estimate = estimate_average_precision(is_sick, scores)
        note = "no interval: perfect separation, or one image of a class" if math.isnan(estimate.low) else ""
    else:
        point = operating_point(is_sick, scores, SPECIFICITIES[metric])
        estimate, note = point.specificity, "no sick image may be missed" if point.catches_all else ""
    return estimate._asdict() | {"variance": ((estimate.high - estimate.low) / (2 * QUANTILE)) ** 2, "note": note}


def _between_hospitals(normal: pd.DataFrame) -> Iterator[Row]:
    """Yield the AUROC between the normal images of every two hospitals."""
    for first, second in combinations(_hospitals(normal), 2):
        part = normal[normal.source.isin([first, second])]
        estimate = estimate_auroc((part.source == second).to_numpy(), part.score.to_numpy(dtype=float))
        row = {"group": f"{second} over {first}", "metric": HOSPITAL_AUROC, "n_normal": len(part), "n_sick": 0}
        yield row | estimate._asdict() | {"note": ""}
