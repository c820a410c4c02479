"""A second model against the first on the same images: AUROC, and decisions at thresholds of the same guarantee.

Sources: [0] Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
Psychometrika 1947; in its exact form.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.evaluation.metrics.delong import delong_covariance, paired_delong


class Comparison(NamedTuple):
    """Result of a comparison, and the second model that it is about."""

    second: str
    """Its folder."""
    sha256: str
    """Hash of its bytes."""
    table: pd.DataFrame
    """Result of :func:`compare_models`."""


_COLUMNS = ["figure", "n", "first", "second", "difference", "low", "high", "p", "only_first", "only_second"]


def compare_models(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Compare two models on the images that both scored; patients are counted where they are known.

    Args:
        first: Images of the first model by number: `is_sick`, `raw_score`, `score`, the `threshold` of the score in
            the image's group, and perhaps `patient`.
        second: The same of the second model, with its own thresholds; images of one model alone are left out.

    Returns:
        Rows `AUROC` (of the raw scores), `sensitivity` and `specificity` with the columns `figure`, `n`, `first`,
        `second`, `difference` (second minus first), `low` and `high` (of the AUROC's: 95 % interval), `p` (two-sided:
        DeLong's paired test, and McNemar's exact one [0]), `only_first` and `only_second` (how many only one of the
        two decides rightly).

    Raises:
        ScreeningError: If the two have no sick or no normal image in common.

    Example:
        >>> images = pd.DataFrame({"is_sick": [False, False, True, True], "score": [0.1, 0.3, 0.2, 0.4]})
        >>> first = images.assign(threshold=0.2)
        >>> second = first.assign(score=[0.1, 0.2, 0.3, 0.4], threshold=0.3)
        >>> first, second = (images.assign(raw_score=images.score) for images in (first, second))
        >>> compare_models(first, second).set_index("figure").loc["specificity", ["first", "second"]].tolist()
        [0.5, 1.0]
    """
    shared = first.index.intersection(second.index)
    one, other = (_by_patient(table.loc[shared]) for table in (first, second))
    is_sick = one.is_sick.to_numpy(bool)
    if is_sick.all() or not is_sick.any():
        raise ScreeningError(
            f"{int((~is_sick).sum())} normal and {int(is_sick.sum())} sick ones that both models scored",
            "some of both",
            "look at what the input check refused",
        )
    scores = one.raw_score.to_numpy(float), other.raw_score.to_numpy(float)
    delong = paired_delong(is_sick, scores[1], scores[0])
    aurocs = [_auroc(is_sick, own) for own in scores]
    none = math.nan
    rows = [
        ("AUROC", len(is_sick), *aurocs, delong.value, delong.low, delong.high, delong.p, none, none),
        _decisions("sensitivity", one.read[is_sick], other.read[is_sick]),
        _decisions("specificity", ~one.read[~is_sick], ~other.read[~is_sick]),
    ]
    table: pd.DataFrame = pd.DataFrame(rows, columns=_COLUMNS).astype({"only_first": "Int64", "only_second": "Int64"})
    return table


def _by_patient(images: pd.DataFrame) -> pd.DataFrame:
    """Return label, score and whether it is read of each patient and label, in an order that is the same for both."""
    table: pd.DataFrame = images.assign(is_sick=images.is_sick.astype(bool), read=images.score >= images.threshold)
    if "patient" not in table:
        return table
    columns = ["raw_score", "read"]
    sick = table[table.is_sick].groupby("patient")[columns].min().assign(is_sick=True)
    normal = table[~table.is_sick].groupby("patient")[columns].max().assign(is_sick=False)
    people: pd.DataFrame = pd.concat([sick, normal])
    return people


def _decisions(figure: str, first: pd.Series[bool], second: pd.Series[bool]) -> tuple[object, ...]:
    one, other = first.to_numpy(bool), second.to_numpy(bool)
    only_first, only_second = int((one & ~other).sum()), int((~one & other).sum())
    changed = only_first + only_second
    p = float(binomtest(only_first, changed).pvalue) if changed else 1.0
    rates = float(one.mean()), float(other.mean())
    return figure, len(one), *rates, rates[1] - rates[0], math.nan, math.nan, p, only_first, only_second


def _auroc(is_sick: np.ndarray, scores: np.ndarray) -> float:
    return float(delong_covariance(is_sick, scores[None])[0].item())
