"""What readers said: all verdicts as CSV, and how they agree with screening, in words."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from anomalib_cxr.screening.case import Case, Decision, Verdict
from anomalib_cxr.screening.worklist.store import Agreement, Given, Worklist
from anomalib_cxr.screening.worklist.tables import escape_csv_formula
from anomalib_cxr.web.rendering import TheWorklist, page, percent

COLUMNS = (
    *("case", "path", "study_uid", "sop_uid", "decision", "probability", "score", "threshold", "p_value"),
    *("verdict", "note", "reader", "given", "model"),
)
router = APIRouter()


@router.get("/verdicts.csv")
def send_verdicts(worklist: TheWorklist) -> Response:
    """Send all verdicts as CSV, a row each."""
    headers = {"Content-Disposition": 'attachment; filename="verdicts.csv"'}
    return StreamingResponse(_lines(worklist), media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/agreement")
def show_agreement(request: Request, worklist: TheWorklist) -> Response:
    """Show how decisions and verdicts go together."""
    found = worklist.agreement()
    counts = {(each.decision, each.verdict): each.cases for each in found}
    values = {"counts": counts, "decisions": list(Decision), "verdicts": list(Verdict), "words": in_words(found)}
    return page(request, "agreement", values)


def in_words(found: list[Agreement]) -> list[str]:
    """Say what readers called abnormal of each decision.

    Args:
        found: See :meth:`anomalib_cxr.screening.worklist.store.Worklist.agreement`.

    Example:
        >>> counts = {Verdict.NORMAL: 38, Verdict.UNSURE: 2}
        >>> in_words([Agreement(Decision.RULED_OUT, verdict, count) for verdict, count in counts.items()])
        ['Normal, ruled out: readers called 0 of 40 abnormal (0 %; 95 % interval 0 % to 8.8 %), and were unsure of 2.']
    """
    counts: defaultdict[Decision, dict[Verdict, int]] = defaultdict(lambda: dict.fromkeys(Verdict, 0))
    for each in found:
        counts[each.decision][each.verdict] += each.cases
    return [_sentence(decision, counts[decision]) for decision in Decision if decision in counts]


def _sentence(decision: Decision, counts: dict[Verdict, int]) -> str:
    abnormal, readings = counts[Verdict.ABNORMAL], sum(counts.values())
    from anomalib_cxr.evaluation.metrics.intervals import wilson_interval  # noqa: PLC0415  # the page is not to wait for SciPy

    low, high = wilson_interval(abnormal, readings)
    return (
        f"{decision.value.capitalize()}: readers called {abnormal} of {readings} abnormal "
        f"({percent(abnormal / readings)}; 95 % interval {percent(low)} to {percent(high)}), "
        f"and were unsure of {counts[Verdict.UNSURE]}."
    )


def _lines(worklist: Worklist) -> Iterator[str]:
    cases = dict(worklist.find())
    yield _line(COLUMNS)
    for given in worklist.verdicts():
        yield _line([escape_csv_formula(cell) for cell in _cells(given, cases[given.case_id])])


def _cells(given: Given, case: Case) -> list[Any]:
    return [
        *(given.case_id, case.path, case.study_uid, case.sop_uid, case.decision_text),
        *(case.probability, case.score, case.threshold, case.p_value),
        *(given.verdict.value, given.note, given.reader, given.given, case.model),
    ]


def _line(cells: Any) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
