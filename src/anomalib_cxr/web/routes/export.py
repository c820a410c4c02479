"""Export of the verdicts as CSV, and their agreement with the screening."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from itertools import chain, islice
from tempfile import TemporaryFile
from typing import IO, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from anomalib_cxr.errors import DeidentificationError
from anomalib_cxr.screening.case import Case, Decision, Verdict, VerdictRecord
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.screening.worklist.tables import escape_csv_formula
from anomalib_cxr.web.audit import Action, record
from anomalib_cxr.web.forms import Form, text_field
from anomalib_cxr.web.rendering import WorklistParameter, percent, render_page
from anomalib_cxr.web.sessions import require_admin
from anomalib_cxr.web.spooled import CHUNK, Spooled
from anomalib_cxr.web.translation import Message, translatable

COLUMNS = (
    *("case", "path", "study_uid", "sop_uid", "decision", "probability", "score", "threshold", "p_value"),
    *("verdict", "note", "reader", "given", "model", "content", "superseded"),
)
_ROWS = 100  # written at a time
_MAX_DIGITS = 16
router = APIRouter(dependencies=[Depends(require_admin)])


@router.get("/verdicts.csv")
def send_verdicts(request: Request, worklist: WorklistParameter) -> Response:
    """Return all verdicts as CSV, one a row, as they are at one moment.

    Args:
        request: The request.
        worklist: The worklist.
    """
    record(request, Action.EXPORT, detail="all verdicts")
    table = Spooled(_table(worklist), worklist.folder)
    headers = {"Content-Disposition": 'attachment; filename="verdicts.csv"'}
    return StreamingResponse(iter(table), media_type="text/csv; charset=utf-8", headers=headers)


@router.post("/deidentified")
def send_deidentified(request: Request, worklist: WorklistParameter, form: Form) -> Response:
    """Return chosen cases without what tells who the patients are, as a ZIP archive.

    Args:
        request: The request.
        worklist: The worklist.
        form: Field `cases`: numbers, separated by commas or blanks.

    Raises:
        HTTPException: If a case cannot be exported.
    """
    from anomalib_cxr.web.deidentified import MAX_CASES, export_deidentified  # noqa: PLC0415  # dicognito delays the start

    words = re.split(r"[\s,]+", text_field(form, "cases"))
    if not all(word.isascii() and word.isdecimal() and len(word) < _MAX_DIGITS for word in words):
        raise HTTPException(400, translatable("Give numbers of cases, such as 3, 17. Nothing was exported."))
    numbers = [int(word) for word in words]
    record(request, Action.EXPORT, numbers[:MAX_CASES], detail="de-identified cases")
    file = TemporaryFile(dir=worklist.folder)  # noqa: SIM115  # `_chunks` closes it
    try:
        export_deidentified(worklist, numbers, file)
    except BaseException as error:
        file.close()
        if isinstance(error, DeidentificationError):
            raise HTTPException(422, translatable("Nothing was exported. {reason}", reason=error)) from error
        raise
    headers = {"Content-Disposition": 'attachment; filename="deidentified.zip"', "Content-Length": str(file.tell())}
    return StreamingResponse(_chunks(file), media_type="application/zip", headers=headers)


@router.get("/agreement")
def show_agreement(request: Request, worklist: WorklistParameter) -> Response:
    """Return the page of the agreement of verdicts and decisions.

    Args:
        request: The request.
        worklist: The worklist.
    """
    record(request, Action.AGREEMENT)
    counts: defaultdict[Decision, dict[Verdict, int]] = defaultdict(lambda: dict.fromkeys(Verdict, 0))
    for decision, verdict, cases in worklist.agreement():
        counts[decision][verdict] = cases
    sentences = [describe_agreement(decision, counts[decision]) for decision in Decision if decision in counts]
    values = {"counts": counts, "decisions": list(Decision), "verdicts": list(Verdict), "sentences": sentences}
    return render_page(request, "agreement", values)


def describe_agreement(decision: Decision, counts: dict[Verdict, int]) -> Message:
    """Describe the share of the cases with a decision that readers called abnormal, with a 95 % interval.

    Args:
        decision: The decision.
        counts: Number of verdicts by kind.

    Returns:
        A sentence.

    Example:
        >>> describe_agreement(Decision.TO_READ, {Verdict.NORMAL: 38, Verdict.ABNORMAL: 0, Verdict.UNSURE: 2})
        'To be read: readers called 0 of 40 abnormal (0 %; 95 % interval 0 % to 8.8 %) and were unsure of 2.'
    """
    from anomalib_cxr.evaluation.metrics.intervals import wilson_interval  # noqa: PLC0415  # SciPy delays the start

    abnormal, readings = counts[Verdict.ABNORMAL], sum(counts.values())
    low, high = wilson_interval(abnormal, readings)
    return translatable(
        "{decision}: readers called {abnormal} of {readings} abnormal ({share}; 95 % interval {low} to {high}) and "
        "were unsure of {unsure}.",
        decision=translatable(decision.value.capitalize()),
        abnormal=abnormal,
        readings=readings,
        share=percent(abnormal / readings),
        low=percent(low),
        high=percent(high),
        unsure=counts[Verdict.UNSURE],
    )


def _table(worklist: Worklist) -> Generator[bytes, None, None]:
    """Yield the table of all verdicts, some rows at a time."""
    rows: Iterator[Sequence[Any]] = (
        [escape_csv_formula(cell) for cell in _cells(verdict, case)] for verdict, case in worklist.verdicts_with_cases()
    )
    rows = chain([COLUMNS], rows)
    while some := list(islice(rows, _ROWS)):
        text = io.StringIO(newline="")
        csv.writer(text).writerows(some)
        yield text.getvalue().encode()


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while chunk := file.read(CHUNK):
            yield chunk


def _cells(verdict: VerdictRecord, case: Case) -> list[Any]:
    return [
        *(verdict.case_id, case.path, case.study_uid, case.sop_uid, case.decision_text),
        *(case.probability, case.score, case.threshold, case.p_value),
        *(verdict.verdict.value, verdict.note, verdict.reader, verdict.given_at, case.model),
        *(case.content, case.superseded),
    ]
