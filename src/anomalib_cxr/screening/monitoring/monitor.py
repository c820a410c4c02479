"""Monitoring of a worklist: whether the calibration still describes the X-rays that come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from math import isnan
from typing import Annotated, NamedTuple

import numpy as np

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.calibration.reference import Reference
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.utils.settings import NonNegativeFloat, NonNegativeInt, Range, check_settings

from .comparison import FIGURES, LEAST, MonitoredFigure, ReferenceColumns, compare
from .rows import MonitoredRows, read_rows
from .statistics import WeightedSample, best_prevalence, holm

CURVE_POINTS = 60
"""Number of points of a curve, at most."""
_Rate = Annotated[float, Range("between 0 and 1", lambda value: isinstance(value, float) and 0 < value < 1)]


class Status(IntEnum):
    """Result of monitoring; its number is the exit status of the command."""

    FINE = 0
    DRIFT = 3
    TOO_FEW = 4


@dataclass(frozen=True)
class MonitorSettings:
    """Settings of monitoring.

    Args:
        weeks: Number of weeks up to that of the newest X-ray; 0 for all.
        false_alarms: Probability of an alarm where nothing changed, for each run; in (0, 1).
        least_psi: Population stability index from which a difference of distributions matters.

    Raises:
        SettingError: If one of them is out of its range.
    """

    weeks: NonNegativeInt = 4
    false_alarms: _Rate = 0.01
    least_psi: NonNegativeFloat = 0.1

    def __post_init__(self) -> None:
        check_settings(MonitorSettings, vars(self), "the options")


class Curve(NamedTuple):
    """Cumulative shares of a figure, `(P,)` each."""

    figure: str
    points: list[float]
    expected: list[float]
    """Share of the calibration images up to each point, at its prevalence."""
    found: list[float]
    """Share of the X-rays that came in."""


class SickShare(NamedTuple):
    """Share of sick people that explains the scores best."""

    expected: float
    """Share that the calibration was told."""
    fitted: float
    """Share at which its scores are most like those that came in."""
    distance: float
    """Kolmogorov-Smirnov distance that is left with the fitted share."""


@dataclass(frozen=True)
class MonitorResult:
    """Result of monitoring.

    Attributes:
        status: Result as a whole.
        settings: Settings.
        first: First day of the weeks, `2026-01-26`; empty without an X-ray.
        last: Their last day.
        n: Number of X-rays in these weeks.
        n_scored: Number of those that were scored.
        n_before: Number of X-rays from before these weeks.
        n_unmeasured: Number of scored X-rays without exposure, from before an upgrade of the worklist.
        comparisons: All figures of all groups.
        curves: Cumulative shares of all X-rays, for `FIGURES`; empty where there are too few.
        sick_share: Share of sick people that explains the scores; None where there are too few.
    """

    status: Status
    settings: MonitorSettings
    first: str
    last: str
    n: int
    n_scored: int
    n_before: int
    n_unmeasured: int
    comparisons: Sequence[MonitoredFigure]
    curves: Sequence[Curve]
    sick_share: SickShare | None

    @property
    def drifts(self) -> list[MonitoredFigure]:
        """Comparisons that are large and significant."""
        return [each for each in self.comparisons if each.drift]

    @property
    def n_tests(self) -> int:
        """Number of tests that the p-values are corrected for."""
        return sum(not isnan(each.p_value) for each in self.comparisons)


def monitor_worklist(worklist: Worklist, settings: MonitorSettings) -> MonitorResult:
    """Compare the X-rays of a worklist with those of its calibration.

    Args:
        worklist: The worklist.
        settings: Settings.

    Returns:
        The result.

    Raises:
        ScreeningError: If the worklist does not hold the reference of its calibration.
    """
    reference = worklist.reference()
    if reference is None:
        raise ScreeningError(
            f"{worklist.folder}: {'no row' if not worklist.count() else 'rows of a calibration without a reference'}",
            "X-rays that were screened with a model that this version calibrated",
            "screen X-rays into it; if the model was calibrated by an older version, calibrate it anew with the same "
            "images, and screen into a new worklist",
        )
    return monitor_rows(read_rows(worklist), reference, settings)


def monitor_rows(rows: MonitoredRows, reference: Reference, settings: MonitorSettings) -> MonitorResult:
    """Compare X-rays with those of a calibration.

    Args:
        rows: X-rays that came in.
        reference: Reference of the calibration.
        settings: Settings.

    Returns:
        The result. Of all tests together, one is significant with at most the probability `false_alarms` where nothing
        changed, whatever their number.
    """
    recent, columns = rows.last_weeks(settings.weeks), ReferenceColumns.of(reference)
    comparisons = _corrected(list(compare(recent, columns)), settings)
    is_enough = int(recent.is_scored.sum()) >= LEAST
    is_drift = any(each.drift for each in comparisons)
    last = recent.week.max().item() + timedelta(days=6) if len(recent) else ""
    return MonitorResult(
        status=Status.DRIFT if is_drift else Status.FINE if is_enough else Status.TOO_FEW,
        settings=settings,
        first=str(recent.week.min()) if len(recent) else "",
        last=str(last),
        n=len(recent),
        n_scored=int(recent.is_scored.sum()),
        n_before=len(rows) - len(recent),
        n_unmeasured=int((recent.is_scored & np.isnan(recent.lung_gray)).sum()),
        comparisons=comparisons,
        curves=list(_curves(recent, columns)) if is_enough else [],
        sick_share=_sick_share(recent, columns) if is_enough else None,
    )


def _corrected(comparisons: list[MonitoredFigure], settings: MonitorSettings) -> list[MonitoredFigure]:
    """Correct the p-values for the number of tests, and decide what drift is."""
    tested = [place for place, each in enumerate(comparisons) if not isnan(each.p_value)]
    for place, p_holm in zip(tested, holm([comparisons[place].p_value for place in tested]), strict=True):
        each = comparisons[place]
        is_large = each.psi >= settings.least_psi if each.figure in FIGURES else each.is_large
        drift = is_large and p_holm < settings.false_alarms
        comparisons[place] = each._replace(p_holm=p_holm, is_large=is_large, drift=drift)
    return comparisons


def _curves(rows: MonitoredRows, reference: ReferenceColumns) -> list[Curve]:
    curves = []
    for figure in FIGURES:
        values, found = getattr(reference, figure), getattr(rows, figure)
        found = np.sort(found[~np.isnan(found)])
        if len(found):
            sample = WeightedSample.at_prevalence(values, reference.is_sick, reference.prevalence)
            points = np.unique(np.quantile(np.concatenate([values, found]), np.linspace(0, 1, CURVE_POINTS)))
            own = np.searchsorted(found, points, side="right") / len(found)
            curves.append(Curve(figure, points.tolist(), sample.cumulative(points).tolist(), own.tolist()))
    return curves


def _sick_share(rows: MonitoredRows, reference: ReferenceColumns) -> SickShare:
    scores = rows.score[rows.is_scored]
    return SickShare(reference.prevalence, *best_prevalence(reference.score, reference.is_sick, scores))
