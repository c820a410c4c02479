"""People of a calibration study, and the rates of groups of them at a threshold.

An X-ray is read if its score is at or above the threshold. Where patients are known they are counted: a sick one is
missed if one of their sick images is not read, a normal one is read if one of their normal images is.
"""

from __future__ import annotations

import math

import pandas as pd
from scipy.stats import binomtest

from anomalib_cxr.evaluation.metrics.intervals import LEVEL
from anomalib_cxr.screening.calibration.groups import UNKNOWN, group_name

LEAST = 10
"""Number of patients of a label of which a group's rate is reported, at least; of images where they are not known."""
_COLUMNS = ["by", "group", "rate", "n", "value", "low", "high"]


def count_patients(scored: pd.DataFrame) -> pd.DataFrame:
    """Reduce the images of each patient to the one that decides: the lowest sick one, and the highest normal one.

    Args:
        scored: Columns `is_sick`, `score`, perhaps `patient`, and others.

    Returns:
        The deciding rows; all of them where there is no column `patient`.

    Example:
        >>> images = {"is_sick": [True, True, False, False], "score": [0.4, 0.9, 0.1, 0.3], "patient": list("aabb")}
        >>> count_patients(pd.DataFrame(images)).score.tolist()
        [0.4, 0.3]
    """
    if "patient" not in scored:
        return scored
    ordered = scored.sort_values("score", kind="stable")
    is_sick = ordered.is_sick.astype(bool)
    sick, normal = ordered[is_sick], ordered[~is_sick]
    kept = [*sick.drop_duplicates("patient").index, *normal.drop_duplicates("patient", keep="last").index]
    deciding: pd.DataFrame = scored.loc[sorted(kept)]
    return deciding


def group_table(scored: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Compute the rates of groups of people at a threshold, with intervals that hold for all of them together.

    Args:
        scored: Columns `is_sick`, `score`, `hospital`, `view`, `sex`, `age`, and perhaps `patient`.
        threshold: Threshold of the score.

    Returns:
        Columns `by` (the attributes), `group`, `rate` (`sensitivity` or `specificity`), `n`, `value`, `low`, `high`; a
        row for each rate of each hospital, view, sex and age group, and of each of their combinations. Those of fewer
        than :data:`LEAST` have no value. The intervals are Clopper and Pearson's, with Bonferroni's correction for the
        number of rows with a value.
    """
    parts = _attributes(scored)
    names = [str(name) for name in parts if len(parts[name].unique()) > 1]
    columns = {name: parts[name] for name in names}
    if len(names) > 1:
        columns[" x ".join(names)] = parts[names].agg(" x ".join, axis=1)
    counts = [
        (by, str(group), rate, len(rows), int((rows.score >= threshold).sum()))
        for by, column in columns.items()
        for group, people in scored.groupby(column)
        for deciding in [count_patients(people)]
        for rate, rows in (
            ("sensitivity", deciding[deciding.is_sick.astype(bool)]),
            ("specificity", deciding[~deciding.is_sick.astype(bool)]),
        )
        if len(rows)
    ]
    level = 1 - (1 - LEVEL) / max(1, sum(n >= LEAST for *_, n, _ in counts))
    rows = [(by, group, rate, n, *_rate(rate, n, n_read, level)) for by, group, rate, n, n_read in counts]
    table: pd.DataFrame = pd.DataFrame(rows, columns=_COLUMNS)
    return table


def _rate(rate: str, n: int, n_read: int, level: float) -> tuple[float, float, float]:
    if n < LEAST:
        return (math.nan, math.nan, math.nan)
    correct = n_read if rate == "sensitivity" else n - n_read
    interval = binomtest(correct, n).proportion_ci(level, method="exact")
    return correct / n, float(interval.low), float(interval.high)


def _attributes(scored: pd.DataFrame) -> pd.DataFrame:
    """Return hospital, view, sex and age group as texts; `unknown` where they are."""
    texts = {name: scored[name].fillna("").replace("", UNKNOWN).astype(str) for name in ("hospital", "view", "sex")}
    ages = [group_name("age", "", "", None if pd.isna(age) else age) for age in scored.age]
    attributes: pd.DataFrame = pd.DataFrame({**texts, "age": pd.Series(ages, scored.index)})
    return attributes
