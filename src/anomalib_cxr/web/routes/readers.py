"""Agreement of the readers of a blind reading, as a page and as CSV."""

from __future__ import annotations

import csv
import io
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response

from anomalib_cxr.screening.case import Decision, Verdict
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.screening.worklist.tables import escape_csv_formula
from anomalib_cxr.web.audit import Action, record
from anomalib_cxr.web.blind.reading import BlindReading, BlindReadings, Progress
from anomalib_cxr.web.rendering import WorklistParameter, render_page
from anomalib_cxr.web.sessions import require_admin
from anomalib_cxr.web.translation import translatable

VERDICTS = ("position", "case", "path", "content", "reader", "verdict", "note", "given", "consensus", "decision")
AGREEMENT = ("measure", "reader", "other", "value", "low", "high", "count", "n", "undecided")
ALL_READERS = translatable("consensus of all readers")
OTHERS = translatable("consensus of the others")
MODEL = translatable("screening")
KAPPA, SENSITIVITY, SPECIFICITY = translatable("kappa"), translatable("sensitivity"), translatable("specificity")
router = APIRouter(prefix="/readers", dependencies=[Depends(require_admin)])


@router.get("")
def show_agreement(request: Request, worklist: WorklistParameter) -> Response:
    """Return the page of the agreement of the readers.

    Args:
        request: The request.
        worklist: The worklist.
    """
    record(request, Action.AGREEMENT, detail="blind reading")
    reading, progress = _found(worklist)
    values = {"reading": reading, "progress": progress, "rows": _rows(worklist, reading, progress)}
    return render_page(request, "readers", values)


@router.get("/agreement.csv")
def send_agreement(request: Request, worklist: WorklistParameter) -> Response:
    """Return the agreement of the readers as CSV.

    Args:
        request: The request.
        worklist: The worklist.
    """
    record(request, Action.EXPORT, detail="agreement of the blind reading")
    return _table("agreement.csv", AGREEMENT, _rows(worklist, *_found(worklist)))


@router.get("/verdicts.csv")
def send_verdicts(request: Request, worklist: WorklistParameter) -> Response:
    """Return the blind verdicts as CSV, one a row.

    Args:
        request: The request.
        worklist: The worklist.
    """
    from anomalib_cxr.web.blind.agreement import consensus  # noqa: PLC0415  # scikit-learn delays the start

    record(request, Action.EXPORT, detail="verdicts of the blind reading")
    reading, progress = _found(worklist)
    majority = consensus(_readings(progress))
    rows = []
    for position, blind in enumerate(reading.cases, start=1):
        case = worklist.case(blind.number)
        for name, own in progress.items():
            if case is not None and (given := own.verdicts.get(position)):
                agreed = majority[position].value if position in majority else ""
                values = [position, blind.number, case.path, blind.content, name, given.verdict.value, given.note]
                rows.append([*values, given.given_at, agreed, case.decision_text])
    return _table("blind_verdicts.csv", VERDICTS, rows)


def _found(worklist: Worklist) -> tuple[BlindReading, dict[str, Progress]]:
    readings = BlindReadings(worklist)
    reading = readings.load()
    if reading is None:
        raise HTTPException(
            404, translatable("There is no blind reading of this worklist. Open one by `anomalib-cxr blind open`.")
        )
    return reading, readings.progress(reading)


def _readings(progress: dict[str, Progress]) -> dict[str, dict[int, Verdict]]:
    return {
        name: {position: given.verdict for position, given in own.verdicts.items()} for name, own in progress.items()
    }


def _rows(worklist: Worklist, reading: BlindReading, progress: dict[str, Progress]) -> list[list[Any]]:
    """Return the rows of the agreement, as `AGREEMENT` names their columns; None for what is not defined."""
    from anomalib_cxr.web.blind.agreement import (  # noqa: PLC0415  # scikit-learn delays the start
        AgainstConsensus,
        model_against_readers,
        pairs,
        readers_against_others,
    )

    readings = _readings(progress)
    rows: list[list[Any]] = [
        [KAPPA, first, second, *_numbers(kappa.value, *kappa.interval), None, kappa.n, None]
        for first, second, kappa in pairs(readings)
    ]
    compared: list[tuple[str, str, AgainstConsensus]] = [
        (name, OTHERS, against) for name, against in readers_against_others(readings).items()
    ]
    compared.append((MODEL, ALL_READERS, model_against_readers(_decisions(worklist, reading), readings)))
    for name, other, against in compared:
        for measure, rate in {SENSITIVITY: against.sensitivity, SPECIFICITY: against.specificity}.items():
            low, high = rate.interval or (None, None)
            rows.append([measure, name, other, rate.value, low, high, rate.positive, rate.n, against.undecided])
    return rows


def _decisions(worklist: Worklist, reading: BlindReading) -> dict[int, Decision]:
    cases = {position: worklist.case(blind.number) for position, blind in enumerate(reading.cases, start=1)}
    return {position: case.decision for position, case in cases.items() if case is not None}


def _numbers(*values: float) -> list[float | None]:
    return [None if value != value else value for value in values]  # noqa: PLR0124  # NaN is not itself


def _table(name: str, columns: tuple[str, ...], rows: list[list[Any]]) -> Response:
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(columns)
    table.writerows(map(escape_csv_formula, row) for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)
