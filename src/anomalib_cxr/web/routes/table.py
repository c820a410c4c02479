"""Table of the worklist."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from anomalib_cxr.web.audit import Action, record
from anomalib_cxr.web.forms import MAX_UPLOAD
from anomalib_cxr.web.rendering import (
    FILTERS,
    FilterParameter,
    SavedCase,
    WorklistParameter,
    last_verdict,
    render_page,
)

ROWS = 50
"""Number of rows on a page."""
router = APIRouter()


@router.get("/")
def show_table(
    request: Request,
    worklist: WorklistParameter,
    worklist_filter: FilterParameter,
    number: Annotated[int, Query(alias="page", ge=1, le=10**9)] = 1,
    saved: SavedCase = None,
    finished: bool = False,
) -> Response:
    """Return one page of the table.

    Args:
        request: The request.
        worklist: The worklist.
        worklist_filter: Selection of cases.
        number: Number of the page; the last one is shown for a larger number.
        saved: Case whose verdict the page before saved.
        finished: Say that each of these cases has a verdict.
    """
    day = datetime.now(timezone.utc).date().isoformat()
    with worklist.snapshot():
        total = worklist.count(worklist_filter.query)
        pages = max(1, math.ceil(total / ROWS))
        number = min(number, pages)
        cases = worklist.find(worklist_filter.query, ROWS, (number - 1) * ROWS)
        verdicts = worklist.latest_verdicts([case_number for case_number, _ in cases])
        values = {
            "worklist_filter": worklist_filter,
            "filters": FILTERS,
            "total": total,
            "pages": pages,
            "number": number,
            "first": (number - 1) * ROWS + 1,
            "rows": [(case_number, case, verdicts.get(case_number)) for case_number, case in cases],
            "saved": last_verdict(worklist, saved),
            "finished": finished,
            "day": day,
            "today": worklist.counts(day),
            "counts": worklist.counts(),
            "uploads": request.app.state.uploads is not None,
            "max_upload": MAX_UPLOAD,
        }
    record(request, Action.LIST, [case_number for case_number, _ in cases])
    return render_page(request, "table", values)


@router.get("/next-unread")
def open_next_unread(worklist: WorklistParameter, worklist_filter: FilterParameter) -> Response:
    """Return a redirect to the first case without a verdict, or to the table where all have one.

    Args:
        worklist: The worklist.
        worklist_filter: Selection of cases.
    """
    number = worklist.first_unread(worklist_filter.query)
    path, parameters = ("/", {"finished": 1}) if number is None else (f"/case/{number}", {})
    return RedirectResponse(worklist_filter.address(path, **parameters), status_code=303)
