"""Access control of the pages: hosts, sessions, login, forms, size limits and response headers."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import UploadFile
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from .rendering import render_page

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # a browser's cache must not keep what shows a patient
}
LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
"""Names of this machine. A request that another site's page sends here names another host."""
SESSION_SECONDS = 12 * 3600
MAX_FORM, MAX_UPLOAD = 64 * 1024, 200 * 1024**2
"""Size limits in bytes of a form without a file, and of an uploaded file."""
UPLOAD, LOGIN = "/upload", "/login"
OUTDATED = "This form is outdated. Nothing was saved. Go back, reload the page, and send the form again."


def add_access_control(app: FastAPI, folder: Path, token: str | None) -> None:
    """Add hosts, sessions, headers and login to an application whose dependencies include :func:`check_access`.

    The key that signs session cookies is drawn here and stored nowhere: a restart of the server ends all sessions.

    Args:
        app: The application.
        folder: Folder of the worklist. The cookie is named by it, since a browser sends cookies to all ports of a host.
        token: Token to sign in with; None admits every request that names this machine, and no other.
    """
    app.state.needs_token = token is not None
    name = f"anomalib_cxr_{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"
    key = secrets.token_hex(32)
    app.add_middleware(
        SessionMiddleware, secret_key=key, session_cookie=name, max_age=SESSION_SECONDS, same_site="strict"
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK if token is None else ["*"], www_redirect=False)
    app.middleware("http")(_add_headers)  # the last one added is the outermost
    if token is not None:
        app.include_router(_login_routes(token))


async def _add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers.update(HEADERS)
    if request.url.scheme == "https":
        secure = {b"set-cookie": b"; secure"}
        response.raw_headers[:] = [(name, value + secure.get(name, b"")) for name, value in response.raw_headers]
    return response


def _login_routes(token: str) -> APIRouter:
    router = APIRouter()

    @router.get(LOGIN)
    async def show_login(request: Request) -> Response:
        return render_page(request, "login", {"wrong": False})

    @router.post(LOGIN)
    async def sign_in(request: Request, form: Form) -> Response:
        if not hmac.compare_digest(str(form.get("token", "")).encode(), token.encode()):
            return render_page(request, "login", {"wrong": True}, 403)
        request.session.update(csrf=secrets.token_hex(32), signed_in=True)
        return RedirectResponse("/", status_code=303)

    @router.post("/logout")
    async def sign_out(request: Request, form: Form) -> Response:  # noqa: ARG001  # checks the form
        request.session.clear()
        return RedirectResponse(LOGIN, status_code=303)

    return router


async def check_access(request: Request) -> None:
    """Refuse a request before its body is read: one without a session, or one that is too large.

    Args:
        request: The request.

    Raises:
        HTTPException: If it is refused; a redirect to the login where it is not signed in.
    """
    path, session, length = request.scope["path"], request.session, request.headers.get("Content-Length", "")
    if request.app.state.needs_token and not session.get("signed_in") and path != LOGIN:
        raise HTTPException(303, "Sign in first.", {"Location": LOGIN})
    if request.method == "POST":
        if "csrf" not in session:
            raise HTTPException(403, OUTDATED)
        limit = MAX_FORM + (MAX_UPLOAD if path == UPLOAD else 0)
        # The server holds a sender to the length that it declares; forms of browsers always do.
        if "Transfer-Encoding" in request.headers or not length.isdecimal() or int(length) > limit:
            raise HTTPException(413, f"Too large: the limit is {MAX_UPLOAD // 1024**2} MB. Nothing was saved.")
    session.setdefault("csrf", secrets.token_hex(32))


async def checked_form(request: Request) -> dict[str, str | UploadFile]:
    """Return the fields of a form whose CSRF token is that of the session.

    Args:
        request: The request.

    Raises:
        HTTPException: If another site sent the form, or a page of a former session.
    """
    fields = dict(await request.form(max_files=1, max_fields=10))
    csrf = fields.get("csrf")
    if not isinstance(csrf, str) or not hmac.compare_digest(csrf.encode(), request.session["csrf"].encode()):
        raise HTTPException(403, OUTDATED)
    return fields


Form = Annotated[dict[str, str | UploadFile], Depends(checked_form)]
"""Fields of a form that a page of this session sent."""
