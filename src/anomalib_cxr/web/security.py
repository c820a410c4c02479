"""Who may see the pages, what they may send, and what a browser is told never to do with them."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import FormData, MutableHeaders, UploadFile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .rendering import error_page, page


def login_pages(gate: Gate) -> APIRouter:
    """Return the pages to sign in and out."""
    router = APIRouter()

    @router.get(LOGIN)
    async def ask(request: Request) -> Response:
        return page(request, "login", {"wrong": False})

    @router.post(LOGIN)
    async def sign_in(request: Request, form: Form) -> Response:
        if not gate.admits(str(form.get("token", ""))):
            return page(request, "login", {"wrong": True}, 403)
        request.state.session = gate.new(signed_in=True)
        return RedirectResponse("/", status_code=303)

    @router.post("/logout")
    async def sign_out(request: Request, form: Form) -> Response:  # noqa: ARG001  # the form is checked
        request.state.session = gate.new(signed_in=False)
        return RedirectResponse(LOGIN, status_code=303)

    return router


HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # what shows a patient is not left in a browser's cache
}
HOURS = 12
"""How long a session lasts."""
MAX_FORM = 64 * 1024
"""Bytes of a form without a file."""
MAX_UPLOAD = 200 * 1024**2
"""Bytes of a file that is sent."""
UPLOAD, LOGIN, STATIC = "/upload", "/login", "/static/"


class Session(NamedTuple):
    """What a cookie says of whoever sent it."""

    cookie: str
    signed_in: bool
    csrf: str
    """What each form must carry: another site can make a browser send the form and the cookie, but cannot know this."""


class Gate:
    """Makes and checks sessions. Its secret lives as long as the process, and so do they.

    Args:
        token: What to sign in with; None lets everyone in who reaches the server.
        folder: Of the worklist; two servers on one machine, whose cookies a browser does not tell apart, differ by it.

    Example:
        >>> gate = Gate("a token of some length", Path("out"))
        >>> session = gate.new(signed_in=True)
        >>> gate.read(session.cookie) == session, gate.read(session.cookie.replace(".1.", ".0.")) is None
        (True, True)
    """

    def __init__(self, token: str | None, folder: Path) -> None:
        self.cookie = f"anomalib_cxr_{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"
        self.needs_token = token is not None
        self._token = token
        self._secret = secrets.token_bytes(32)

    def admits(self, token: str) -> bool:
        """Return whether a token is the right one, in a time that does not depend on how much of it is."""
        return self._token is not None and hmac.compare_digest(token.encode(), self._token.encode())

    def new(self, *, signed_in: bool) -> Session:
        """Return a new session."""
        return self._session(f"{secrets.token_urlsafe(16)}.{int(signed_in)}.{int(time.time())}")

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None if it was not made here, or long ago."""
        text, _, _ = cookie.rpartition(".")
        parts = text.split(".")
        if len(parts) != 3:  # noqa: PLR2004  # those that `new` joins
            return None
        session = self._session(text)
        if not hmac.compare_digest(cookie.encode(), session.cookie.encode()):
            return None
        return session if time.time() - int(parts[2]) < HOURS * 3600 else None

    def _session(self, text: str) -> Session:
        return Session(f"{text}.{self._sign('session', text)}", text.split(".")[1] == "1", self._sign("form", text))

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose} {text}".encode(), hashlib.sha256).hexdigest()


class Guard:
    """Stands before all routes: refuses who may not come in and what is too large, and adds the headers.

    Args:
        app: What it stands before.
        gate: Knows the sessions.
    """

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self.app = app
        self.gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        known = self.gate.read(request.cookies.get(self.gate.cookie, ""))
        request.state.session = known or self.gate.new(signed_in=False)
        request.state.needs_token = self.gate.needs_token

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if request.state.session != known:
                    headers.append("Set-Cookie", self._cookie(request))
            await send(message)

        answer = self._refusal(request, known) or self.app
        await answer(scope, _bounded(receive, _limit(request)), send_guarded)

    def _refusal(self, request: Request, known: Session | None) -> ASGIApp | None:
        """Return the answer to who may not come in; None for all others."""
        if not self.gate.needs_token and not is_loopback(_host(request)):
            return error_page(request, 400, "This page is for the machine that it runs on: ask for it as localhost.")
        path, length = request.scope["path"], request.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > _limit(request):
            return error_page(request, 413, too_large())
        is_open = path == LOGIN or path.startswith(STATIC)
        if self.gate.needs_token and not request.state.session.signed_in and not is_open:
            return RedirectResponse(LOGIN, status_code=303)
        if request.method == "POST" and known is None:  # before anything that it sends is read
            return error_page(request, 403, OUTDATED)
        return None

    def _cookie(self, request: Request) -> str:
        answer = Response()
        remember(request, answer, self.gate.cookie, request.state.session.cookie)
        return answer.headers["Set-Cookie"]


OUTDATED = "This form is outdated. Nothing was kept. Go back, load the page again, and send the form again."


def _limit(request: Request) -> int:
    return MAX_FORM + (MAX_UPLOAD if request.scope["path"] == UPLOAD else 0)


def _host(request: Request) -> str:
    """Return the host that a request names, without its port."""
    named = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([^:]+))(?::\d+)?", request.headers.get("Host", ""))
    return (named[1] or named[2]) if named else ""


def too_large() -> str:
    """Return what is said of a file that is too large."""
    return f"Too large: at most {MAX_UPLOAD // 1024**2} MB are taken. Nothing was kept."


def _bounded(receive: Receive, limit: int) -> Receive:
    """Count what comes in, for a sender that does not say how much will come or says it wrongly."""
    count = 0

    async def receive_bounded() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > limit:
            raise HTTPException(413, too_large())
        return message

    return receive_bounded


def remember(request: Request, answer: Response, name: str, value: str) -> None:
    """Have the browser send a value along until it is closed; to this server alone, and out of reach of scripts."""
    secure = request.scope["scheme"] == "https"
    answer.set_cookie(name, value, secure=secure, httponly=True, samesite="strict")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine itself.

    A page of another site whose name is made to point at 127.0.0.1 reaches the server, but under its own name.

    Example:
        >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "192.168.0.7", "attacker.example")]
        [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return False


async def checked_form(request: Request) -> dict[str, str | UploadFile]:
    """Return the fields of a form that one of our own pages sent.

    Raises:
        HTTPException: If it came from elsewhere.
    """
    form: FormData = await request.form(max_files=1, max_fields=10)
    fields = dict(form)
    csrf = fields.get("csrf")
    if not isinstance(csrf, str) or not hmac.compare_digest(csrf.encode(), request.state.session.csrf.encode()):
        raise HTTPException(403, OUTDATED)
    return fields


Form = Annotated[dict[str, str | UploadFile], Depends(checked_form)]
