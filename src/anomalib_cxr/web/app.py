"""The application: routes, guard and pages of errors, put together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from anomalib_cxr.errors import CxrError
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.web.routes.upload import upload_pages

from .images import Pictures
from .rendering import error_page
from .routes import export, table, viewer
from .security import HEADERS, Gate, Guard, login_pages

logger = logging.getLogger(__name__)


def create_app(worklist: Worklist, screen: Callable[[Path], None] | None = None, token: str | None = None) -> FastAPI:
    """Make the application that shows a worklist.

    Args:
        worklist: The worklist.
        screen: Adds the case of a file to the worklist; without it no image can be sent.
        token: What readers sign in with. None lets everyone in who reaches the server, which must be this machine
            alone then: requests that name any other host are refused.

    Example:
        >>> from tempfile import mkdtemp
        >>> from starlette.testclient import TestClient
        >>> app = create_app(Worklist(mkdtemp(), create=True))
        >>> answer = TestClient(app, base_url="http://localhost").get("/")
        >>> answer.status_code, "Not a medical device" in answer.text
        (200, True)
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gate = Gate(token, worklist.folder)
    app.state.worklist = worklist
    app.state.screen = screen
    app.state.pictures = Pictures(worklist.folder)
    app.add_middleware(Guard, gate=gate)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    for router in (table.router, viewer.router, export.router):
        app.include_router(router)
    if screen is not None:
        app.include_router(upload_pages(worklist, screen))
    if token is not None:
        app.include_router(login_pages(gate))
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return app


def _refused(request: Request, error: Exception) -> Response:
    refusal = cast("HTTPException", error)  # it is registered for no other
    return error_page(request, refusal.status_code, refusal.detail)


def _unknown(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return error_page(request, 404, "There is no such page.")


def _unusable(request: Request, error: Exception) -> Response:
    return error_page(request, 503, f"The worklist cannot be used just now; what was sent was not kept. {error}")


def _not_written(request: Request, error: Exception) -> Response:
    reason = error.strerror if isinstance(error, OSError) else error
    return error_page(request, 507, f"What was sent could not be written, and was not kept: {reason}.")


def _failed(request: Request, error: Exception) -> Response:
    logger.error("%s: %s", request.scope["path"], type(error).__name__)
    answer = error_page(request, 500, "Something went wrong; the log of the server says what. Nothing was kept.")
    answer.headers.update(HEADERS)  # it is made outside of the guard
    return answer


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Response]] = {
    HTTPException: _refused,
    RequestValidationError: _unknown,
    CxrError: _unusable,
    OSError: _not_written,
    Exception: _failed,
}
