"""Web application of the worklist: routes, access control and error pages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from anomalib_cxr.errors import CxrError
from anomalib_cxr.screening.worklist.store import Worklist

from .accounts import Accounts
from .audit import AuditLog
from .images import CaseImages
from .metrics import add_metrics
from .rendering import error_page
from .routes import api, blind, export, health, language, monitor, readers, table, viewer
from .routes.upload import Uploads, upload_routes
from .security import HEADERS, add_access_control, check_access
from .translation import translatable

logger = logging.getLogger(__name__)


def create_app(
    worklist: Worklist, screen: Callable[[Path], None] | None = None, accounts: Accounts | None = None
) -> FastAPI:
    """Create the application that shows a worklist.

    Args:
        worklist: The worklist.
        screen: Function that screens a file into the worklist; without it no image can be uploaded.
        accounts: Accounts that people sign in with. None admits everyone who reaches the server, which must then listen
            to this machine alone: requests that name any other host are refused.

    Returns:
        The application.

    Example:
        >>> from tempfile import mkdtemp
        >>> from starlette.testclient import TestClient
        >>> app = create_app(Worklist(mkdtemp(), create=True))
        >>> answer = TestClient(app, base_url="http://localhost").get("/")
        >>> answer.status_code, "Not a medical device" in answer.text
        (200, True)
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(check_access)])
    app.state.worklist = worklist
    app.state.uploads = None if screen is None else Uploads(worklist, screen)
    app.state.audit = AuditLog(worklist.folder)
    app.state.images = CaseImages(worklist.folder)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    for page in (table, viewer, export, blind, readers, monitor, health, language, api):
        app.include_router(page.router)
    if app.state.uploads is not None:
        app.include_router(upload_routes(app.state.uploads))
    add_metrics(app, worklist)
    add_access_control(app, worklist.folder, accounts)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return app


def _http_error(request: Request, error: Exception) -> Response:
    refusal = cast("HTTPException", error)  # the only kind that it is registered for
    answer = error_page(request, refusal.status_code, refusal.detail)
    answer.headers.update(refusal.headers or {})
    return answer


def _gone(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return Response(status_code=400)  # which nobody reads: the browser ended the connection in the middle of a form


def _not_found(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return error_page(request, 404, translatable("There is no such page."))


def _unavailable(request: Request, error: Exception) -> Response:
    return error_page(
        request,
        503,
        translatable("The worklist cannot be used at the moment; nothing was saved. {reason}", reason=error),
    )


def _not_written(request: Request, error: Exception) -> Response:
    reason = error.strerror if isinstance(error, OSError) else error
    return error_page(
        request, 507, translatable("The data could not be written, and nothing was saved: {reason}.", reason=reason)
    )


def _internal_error(request: Request, error: Exception) -> Response:
    logger.error("%s: %s", request.scope["path"], type(error).__name__)
    answer = error_page(
        request, 500, translatable("An internal error occurred; see the log of the server. Nothing was saved.")
    )
    answer.headers.update(HEADERS)  # it is sent from outside of the middlewares
    return answer


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Response]] = {
    HTTPException: _http_error,
    ClientDisconnect: _gone,
    RequestValidationError: _not_found,
    CxrError: _unavailable,
    OSError: _not_written,
    Exception: _internal_error,
}
