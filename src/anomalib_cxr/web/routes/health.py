"""State of the server, for the programs that supervise it."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from anomalib_cxr.errors import CxrError
from anomalib_cxr.web.rendering import WorklistParameter

HEALTH = "/health"
"""Path that needs no sign-in: its answer says nothing about any case."""
router = APIRouter()


@router.get(HEALTH)
def show_health(worklist: WorklistParameter) -> JSONResponse:
    """Return whether the worklist can be read.

    Args:
        worklist: The worklist.

    Returns:
        `{"status": "ok"}`, or `{"status": "unavailable"}` with the code 503.
    """
    try:
        worklist.case(1)
    except CxrError:
        return JSONResponse({"status": "unavailable"}, 503)
    return JSONResponse({"status": "ok"})
