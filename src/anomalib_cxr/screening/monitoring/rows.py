"""Rows of a worklist to monitor, as columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import Any

import numpy as np

from anomalib_cxr.screening.case import Decision, Verdict
from anomalib_cxr.screening.worklist.store import Worklist

UNKNOWN = "unknown"
"""View of an X-ray that states none."""
_UNDATED = "1970-01-01"  # no screening leaves a row without its time
_FACTS = (
    *("id", "content", "screened", "taken", "source", "view", "decision", "why", "score", "lung_gray"),
    "tissue_contrast",
)


@dataclass(frozen=True)
class MonitoredRows:
    """X-rays that came in, one entry an X-ray.

    Attributes:
        week: Monday of the week in which the X-ray was taken, as day, datetime64, `(N,)`; of the week in which it was
            screened, where the file does not state when it was taken, or states a later day.
        machine: Kind of source, object, `(N,)`.
        view: View position, or `unknown`, object, `(N,)`.
        decision: Decision, object, `(N,)`.
        why: Reason of a refusal, object, `(N,)`.
        score: Anomaly score, NaN where refused, `(N,)`.
        lung_gray: Mean gray value in the lungs, NaN where it was not measured, `(N,)`.
        tissue_contrast: Gray value of bright tissue minus that of the lungs, NaN where it was not measured, `(N,)`.
        verdict: `abnormal` if it is the last verdict of any reader, or else the last one that was given; empty without
            one, object, `(N,)`.
    """

    week: np.ndarray
    machine: np.ndarray
    view: np.ndarray
    decision: np.ndarray
    why: np.ndarray
    score: np.ndarray
    lung_gray: np.ndarray
    tissue_contrast: np.ndarray
    verdict: np.ndarray

    def __len__(self) -> int:
        return len(self.week)

    def where(self, chosen: np.ndarray) -> MonitoredRows:
        """Return the chosen rows.

        Args:
            chosen: Bool, `(N,)`.
        """
        return MonitoredRows(**{name: column[chosen] for name, column in vars(self).items()})

    def last_weeks(self, weeks: int) -> MonitoredRows:
        """Return the rows of the last weeks, the one of the newest X-ray included.

        Args:
            weeks: Number of weeks; 0 for all rows.
        """
        if not weeks or not len(self):
            return self
        return self.where(self.week > self.week.max() - np.timedelta64(7 * weeks, "D"))

    @property
    def is_scored(self) -> np.ndarray:
        """True for rows that have a score, `(N,)`."""
        return np.asarray(self.decision != Decision.REFUSED.value)


def read_rows(worklist: Worklist) -> MonitoredRows:
    """Read the current cases of a worklist; an X-ray that is there at several paths counts once.

    Args:
        worklist: The worklist.
    """
    verdicts = _verdicts(worklist)
    rows = [(*row, verdicts.get(number, "")) for number, *row in _once(worklist)]
    columns = zip(*rows, strict=True) if rows else ((),) * len(_FACTS)
    _, screened, taken, machine, view, decision, why, score, lung_gray, contrast, verdict = columns
    return MonitoredRows(
        week=np.array([_week(*days) for days in zip(taken, screened, strict=True)], "datetime64[D]"),
        machine=np.array(machine, object),
        view=np.array([each or UNKNOWN for each in view], object),
        decision=np.array(decision, object),
        why=np.array(why, object),
        score=np.array(score, float),
        lung_gray=np.array(lung_gray, float),
        tissue_contrast=np.array(contrast, float),
        verdict=np.array(verdict, object),
    )


def _once(worklist: Worklist) -> Iterator[tuple[Any, ...]]:
    seen: set[str] = set()
    for row in worklist.facts(_FACTS):
        content = row[1]
        if content not in seen:
            yield row
        if content:  # empty where the file could not be read
            seen.add(content)


def _verdicts(worklist: Worklist) -> dict[int, str]:
    """Return the verdict on each case that has one."""
    last = {(record.case_id, record.reader): record.verdict for record in worklist.verdicts()}  # in their order
    found: dict[int, str] = {}
    for (number, _), verdict in last.items():
        if found.get(number) != Verdict.ABNORMAL.value:
            found[number] = verdict.value
    return found


@cache
def _monday(day: str) -> date:
    found = date.fromisoformat(day)
    return found - timedelta(days=found.weekday())


def _week(taken: str, screened: str) -> date:
    day = screened[:10] or _UNDATED
    return _monday(taken if taken and taken <= day else day)
