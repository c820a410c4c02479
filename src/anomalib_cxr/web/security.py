"""Access control of the pages: hosts, sessions, and response headers."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from anyio import to_thread
from fastapi import FastAPI, HTTPException, Request
from starlette.datastructures import MutableHeaders
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .accounts import Accounts
from .blind.reading import BlindReadings
from .forms import OUTDATED, check_length
from .login import LOGIN, LOGOUT, PasswordCheck, login_routes
from .routes.health import HEALTH
from .sessions import SESSION_SECONDS, Sessions, account_of

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
BLIND = "/blind"
"""Path of the pages of a blind reading."""
LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
"""Names of this machine. A request that another site's page sends here names another host."""


def add_access_control(app: FastAPI, folder: Path, accounts: Accounts | None) -> None:
    """Add hosts, sessions, headers and login to an application whose dependencies include :func:`check_access`.

    The key that signs session cookies is drawn here and stored nowhere: a restart of the server ends all sessions.

    Args:
        app: The application.
        folder: Folder of the worklist. The cookie is named by it, since a browser sends cookies to all ports of a host.
        accounts: Accounts to sign in with; None admits every request that names this machine, and no other.
    """
    app.state.sessions = None if accounts is None else Sessions(accounts)
    name = f"anomalib_cxr_{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"
    key = secrets.token_hex(32)
    app.add_middleware(
        SessionMiddleware, secret_key=key, session_cookie=name, max_age=SESSION_SECONDS, same_site="strict"
    )
    hosts = LOOPBACK if accounts is None else ["*"]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_middleware(_Headers)  # the last one added is the outermost
    if accounts is not None:
        app.include_router(login_routes(PasswordCheck(accounts), app.state.sessions))


class _Headers:
    """Adds the headers of all answers, and over HTTPS the mark that keeps cookies to it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if scope["scheme"] == "https":
                    secure = {b"set-cookie": b"; secure"}
                    headers.raw[:] = [(name, value + secure.get(name, b"")) for name, value in headers.raw]
            await send(message)

        await self.app(scope, receive, send_with_headers)


async def check_access(request: Request) -> None:
    """Refuse a request before its body is read: one without a session, or one that is too large.

    Args:
        request: The request.

    Raises:
        HTTPException: If it is refused; a redirect to the login where it is not signed in.
    """
    if request.scope["path"] == HEALTH:
        return
    sessions: Sessions | None = request.app.state.sessions
    if sessions is not None:
        request.state.account = sessions.account(request.session.get("name"))
        if request.state.account is None and request.scope["path"] != LOGIN:
            raise HTTPException(303, "Sign in first.", {"Location": LOGIN})
    await _keep_blind(request)
    if request.method == "POST":
        if "csrf" not in request.session:
            raise HTTPException(403, OUTDATED)
        check_length(request)
    request.session.setdefault("csrf", secrets.token_hex(32))


async def _keep_blind(request: Request) -> None:
    """Refuse a reader of a blind reading all pages but those of the reading, new ones too."""
    path, account = request.scope["path"], account_of(request)
    if path in {LOGIN, LOGOUT, BLIND} or path.startswith(f"{BLIND}/"):
        return
    name = "" if account is None else account.name
    if not await to_thread.run_sync(BlindReadings(request.app.state.worklist).is_blind, name):
        return
    if account is None:
        raise HTTPException(403, "A blind reading is open: only who signs in can see anything. Start `serve` again.")
    if request.method == "GET" and path == "/":
        raise HTTPException(303, "You read blind.", {"Location": BLIND})
    raise HTTPException(403, "You read blind: until you have read all X-rays, nothing else is shown.")
