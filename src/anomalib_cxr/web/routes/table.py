"""The table of the worklist."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from anomalib_cxr.web.rendering import FILTERS, Kept, TheQuery, TheWorklist, last_verdict, page
from anomalib_cxr.web.security import MAX_UPLOAD

ROWS = 50
"""Rows of a page."""
router = APIRouter()


@router.get("/")
def show_table(
    request: Request,
    worklist: TheWorklist,
    asked: TheQuery,
    number: Annotated[int, Query(alias="page", ge=1, le=10**9)] = 1,
    kept: Kept = None,
    finished: bool = False,
) -> Response:
    """Show one page of the table.

    Args:
        request: The request.
        worklist: The worklist.
        asked: The cases that are asked for.
        number: Of the page; one behind the last is the last.
        kept: The case whose verdict was kept just before.
        finished: Say that each of these cases has a verdict.
    """
    found = worklist.count(asked.query)
    pages = max(1, math.ceil(found / ROWS))
    number = min(number, pages)
    cases = worklist.find(asked.query, ROWS, (number - 1) * ROWS)
    verdicts = worklist.latest_verdicts([case_number for case_number, _ in cases])
    day = datetime.now(timezone.utc).date().isoformat()
    values = {
        "asked": asked,
        "filters": FILTERS,
        "found": found,
        "pages": pages,
        "number": number,
        "first": (number - 1) * ROWS + 1,
        "rows": [(case_number, case, verdicts.get(case_number)) for case_number, case in cases],
        "kept": last_verdict(worklist, kept),
        "finished": finished,
        "day": day,
        "today": worklist.counts(day),
        "counts": worklist.counts(),
        "uploads": request.app.state.screen is not None,
        "largest": MAX_UPLOAD,
    }
    return page(request, "table", values)


@router.get("/next-unread")
def open_next_unread(worklist: TheWorklist, asked: TheQuery) -> Response:
    """Go to the first case without a verdict; to the table, where all have one."""
    number = worklist.first_unread(asked.query)
    address = asked.address("/", finished=1) if number is None else asked.address(f"/case/{number}")
    return RedirectResponse(address, status_code=303)
