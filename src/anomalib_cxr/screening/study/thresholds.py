"""Every threshold of a score at a place: rates, predictive values, workload and cost.

An image is read if its score is at or above the threshold.

Sources: [0] World Health Organization, TDR, "Determining the local calibration of computer-assisted detection (CAD)
thresholds and other parameters", 2021; [1] G. Campbell, "Advances in statistical methodology for the evaluation of
diagnostic and laboratory tests", Statistics in Medicine 1994.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import kstwo

from anomalib_cxr.errors import refuse_settings
from anomalib_cxr.evaluation.metrics.intervals import LEVEL

_THOUSAND = 1000


@dataclass(frozen=True)
class Place:
    """Place where people are screened.

    Args:
        prevalence: Share of sick people among those who are screened, in (0, 1).
        cost_screened: Cost of each person who is screened: X-ray and software, in any currency.
        cost_read: Further cost of each person whose X-ray is read: reader and confirmation.

    Raises:
        SettingError: If a number is outside its range.
    """

    prevalence: float
    cost_screened: float = 1.0
    cost_read: float = 1.0

    def __post_init__(self) -> None:
        expected = {"prevalence": "between 0 and 1", "cost_screened": ">= 0", "cost_read": ">= 0"}
        holds = {
            "prevalence": 0 < self.prevalence < 1,
            "cost_screened": 0 <= self.cost_screened < np.inf,
            "cost_read": 0 <= self.cost_read < np.inf,
        }
        wrong = {name: getattr(self, name) for name, true in holds.items() if not true}
        refuse_settings(wrong, expected, "the command's options")


def threshold_table(
    is_sick: np.ndarray, scores: np.ndarray, place: Place, at: Sequence[float] | None = None
) -> pd.DataFrame:
    """Compute what each threshold would do at a place [0].

    The bands of sensitivity and specificity hold for all thresholds together: each is that of Kolmogorov and Smirnov at
    the square root of 95 % [1], since the two are independent.

    Args:
        is_sick: Labels, of which both values occur, bool, `(N,)`.
        scores: Finite scores, `(N,)`.
        place: Prevalence and costs.
        at: Thresholds; None for each that tells images apart, rising, and one above all scores.

    Returns:
        A row for each threshold: `threshold`, `sensitivity`
        and `specificity` with `_low` and `_high`, `ppv`, `npv` (missing where nobody is read, or everybody),
        `read_per_1000` and `missed_per_1000` people who are screened, `cost_per_case` found (missing where none is).

    Example:
        >>> table = threshold_table(np.arange(100) >= 50, np.arange(100.0), Place(0.1))
        >>> table.loc[table.threshold == 50, ["sensitivity", "specificity", "ppv", "read_per_1000"]].values.tolist()
        [[1.0, 1.0, 1.0, 100.0]]
    """
    every = np.unique(scores)
    thresholds = np.append(every, np.nextafter(every[-1], np.inf)) if at is None else np.asarray(at, float)
    sick, normal = np.sort(scores[is_sick]), np.sort(scores[~is_sick])
    sensitivity = 1 - np.searchsorted(sick, thresholds) / len(sick)
    specificity = np.searchsorted(normal, thresholds) / len(normal)
    ill, healthy = place.prevalence, 1 - place.prevalence
    found, missed = ill * sensitivity, ill * (1 - sensitivity)
    alarms, unread = healthy * (1 - specificity), healthy * specificity
    with np.errstate(invalid="ignore", divide="ignore"):
        ppv, npv = found / (found + alarms), unread / (unread + missed)
        cost = (place.cost_screened + place.cost_read * (found + alarms)) / found
    table: pd.DataFrame = pd.DataFrame(
        {
            "threshold": thresholds,
            **_banded("sensitivity", sensitivity, len(sick)),
            **_banded("specificity", specificity, len(normal)),
            "ppv": ppv,
            "npv": npv,
            "read_per_1000": _THOUSAND * (found + alarms),
            "missed_per_1000": _THOUSAND * missed,
            "cost_per_case": np.where(found > 0, cost, np.nan),
        }
    )
    return table


def _banded(name: str, rates: np.ndarray, n: int) -> dict[str, np.ndarray]:
    half = float(kstwo.ppf(np.sqrt(LEVEL), n))
    return {name: rates, f"{name}_low": np.clip(rates - half, 0, 1), f"{name}_high": np.clip(rates + half, 0, 1)}
