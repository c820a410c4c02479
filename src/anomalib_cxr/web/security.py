"""Access control of the pages: hosts, sessions, and response headers."""

from __future__ import annotations

import base64
import hashlib
import secrets
from functools import partial
from pathlib import Path

from anyio import to_thread
from fastapi import FastAPI, HTTPException, Request
from starlette.datastructures import MutableHeaders
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .accounts import Account, Accounts
from .audit import Action, record
from .blind.reading import BlindReadings
from .forms import OUTDATED, SCORE, check_length
from .login import LOGIN, LOGOUT, PasswordCheck, WrongPasswordError, host_of, login_routes
from .routes.health import HEALTH
from .routes.language import LANGUAGE
from .sessions import SESSION_SECONDS, Sessions, account_of
from .translation import translatable

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
API, OPENAPI, METRICS = "/api", "/api/openapi.json", "/metrics"
"""Paths for programs, beside `SCORE`."""
WHO = {"WWW-Authenticate": 'Basic realm="anomalib-cxr", charset="UTF-8"'}
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
    app.state.password_check = None if accounts is None else PasswordCheck(accounts)
    name = f"anomalib_cxr_{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"
    key = secrets.token_hex(32)
    app.add_middleware(
        SessionMiddleware, secret_key=key, session_cookie=name, max_age=SESSION_SECONDS, same_site="strict"
    )
    hosts = LOOPBACK if accounts is None else ["*"]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_middleware(_Headers)  # the last one added is the outermost
    if accounts is not None:
        app.include_router(login_routes(app.state.password_check, app.state.sessions))


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
    is_program = _is_for_programs(request)
    request.state.account = await (_basic_account(request) if is_program else _session_account(request))
    await _keep_blind(request)
    if request.method == "POST":
        if is_program:
            _refuse_pages_of_others(request)
        elif "csrf" not in request.session:
            raise HTTPException(403, OUTDATED)
        check_length(request)
    if not is_program:
        request.session.setdefault("csrf", secrets.token_hex(32))


def _is_for_programs(request: Request) -> bool:
    """Return whether a request is for a program, which has no session, unless a browser that is signed in sends it."""
    path = request.scope["path"]
    is_signed_in = "authorization" not in request.headers and request.method == "GET"
    return path == SCORE or (path in {METRICS, API, OPENAPI} and not is_signed_in)


async def _session_account(request: Request) -> Account | None:
    sessions: Sessions | None = request.app.state.sessions
    if sessions is None:
        return None
    account = sessions.account(request.session.get("name"))
    path = request.scope["path"]
    if account is None and path == METRICS:
        raise HTTPException(401, translatable("Name and password of an account are needed."), WHO)
    if account is None and path not in {LOGIN, LANGUAGE}:
        raise HTTPException(303, translatable("Sign in first."), {"Location": LOGIN})
    return account


async def _basic_account(request: Request) -> Account | None:
    """Return the account of a program, which sends name and password with each request (RFC 7617)."""
    check: PasswordCheck | None = request.app.state.password_check
    if check is None:
        return None
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    try:
        name, colon, password = base64.b64decode(given, validate=True).decode().partition(":")
    except ValueError:
        colon = ""
    if kind.lower() != "basic" or not colon:
        raise HTTPException(401, translatable("Name and password of an account are needed."), WHO)
    try:
        return await check.sign_in(name, password, host_of(request))
    except WrongPasswordError as error:
        if error.wait:
            retry = {"Retry-After": str(error.wait)}
            raise HTTPException(
                429, translatable("Too many wrong passwords. Try again in {wait} s.", wait=error.wait), retry
            ) from error
        await to_thread.run_sync(partial(record, request, Action.WRONG_PASSWORD, detail=error.name))
        raise HTTPException(401, translatable("Name and password do not belong together."), WHO) from error


def _refuse_pages_of_others(request: Request) -> None:
    """Refuse what a page of another site sends: a browser says where it comes from, a program does not."""
    if "origin" in request.headers or request.headers.get("sec-fetch-site", "none") != "none":
        raise HTTPException(
            403, translatable("This address is for programs, not for pages in a browser. Nothing was saved.")
        )


async def _keep_blind(request: Request) -> None:
    """Refuse a reader of a blind reading all pages but those of the reading, new ones too."""
    path, account = request.scope["path"], account_of(request)
    if path in {LOGIN, LOGOUT, LANGUAGE, BLIND} or path.startswith(f"{BLIND}/"):
        return
    name = "" if account is None else account.name
    if not await to_thread.run_sync(BlindReadings(request.app.state.worklist).is_blind, name):
        return
    if account is None:
        raise HTTPException(
            403, translatable("A blind reading is open: only who signs in can see anything. Start `serve` again.")
        )
    if request.method == "GET" and path == "/":
        raise HTTPException(303, translatable("You read blind."), {"Location": BLIND})
    raise HTTPException(403, translatable("You read blind: until you have read all X-rays, nothing else is shown."))
