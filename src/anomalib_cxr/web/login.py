"""Sign-in by the token of the server, and the waiting time after wrong tokens."""

from __future__ import annotations

import hmac
import logging
import math
import secrets
import time
from ipaddress import IPv6Address, ip_address, ip_network

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from .forms import Form
from .rendering import render_page
from .sessions import Sessions

LOGIN, LOGOUT = "/login", "/logout"
FREE_ATTEMPTS = 3
"""Wrong tokens from an address that cost no waiting time."""
MAX_WAIT = 300
"""Waiting time after a wrong token in seconds, at most."""
_MAX_ADDRESSES = 10_000  # in memory
logger = logging.getLogger(__name__)


class Throttle:
    """Waiting time between wrong tokens, doubled with each, for each address.

    Example:
        >>> throttle = Throttle()
        >>> waits = [throttle.fail("192.0.2.7") for _ in range(6)]
        >>> waits, throttle.seconds_left("192.0.2.7") > 3, throttle.seconds_left("192.0.2.8")
        ([0, 0, 0, 1, 2, 4], True, 0.0)
    """

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}  # number, and when the next attempt is admitted

    def fail(self, host: str) -> int:
        """Count a wrong token.

        Args:
            host: Address that sent it.

        Returns:
            Seconds that the address has to wait.
        """
        key = _network(host)
        failures = self._failures.pop(key, (0, 0.0))[0] + 1
        excess = failures - FREE_ATTEMPTS
        wait = 0 if excess <= 0 else min(2 ** min(excess - 1, 16), MAX_WAIT)
        self._failures[key] = failures, time.monotonic() + wait
        while len(self._failures) > _MAX_ADDRESSES:
            del self._failures[next(iter(self._failures))]  # the one that failed the longest time ago
        return wait

    def succeed(self, host: str) -> None:
        """Forget the wrong tokens of an address.

        Args:
            host: Address that sent the right one.
        """
        self._failures.pop(_network(host), None)

    def seconds_left(self, host: str) -> float:
        """Return the seconds until another token is admitted.

        Args:
            host: Address that sends it.
        """
        return max(0.0, self._failures.get(_network(host), (0, 0.0))[1] - time.monotonic())


def _network(host: str) -> str:
    """Return an IPv4 address as it is, and of an IPv6 address the network, in which a machine has any number of them.

    Example:
        >>> _network("192.0.2.7"), _network("2001:db8::7"), _network("testclient")
        ('192.0.2.7', '2001:db8::/64', 'testclient')
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else host


def login_routes(token: str, sessions: Sessions) -> APIRouter:
    """Return the routes that sign readers in and out.

    Args:
        token: Token to sign in with.
        sessions: Open sessions.
    """
    router = APIRouter()
    throttle = Throttle()

    @router.get(LOGIN)
    async def show_login(request: Request) -> Response:
        return render_page(request, "login", {"refusal": ""})

    @router.post(LOGIN)
    async def sign_in(request: Request, form: Form) -> Response:
        host = request.client.host if request.client else "an unknown address"
        if (wait := math.ceil(throttle.seconds_left(host))) > 0:  # for the right token, too, which a guesser may have
            refusal = f"Too many wrong tokens from your address. Try again in {wait} s."
            answer = render_page(request, "login", {"refusal": refusal}, 429)
            answer.headers["Retry-After"] = str(wait)
            return answer
        if not hmac.compare_digest(str(form.get("token", "")).encode(), token.encode()):
            logger.warning("Wrong token from %s; the next one is admitted in %d s", host, throttle.fail(host))
            return render_page(request, "login", {"refusal": "This is not the token of this server."}, 403)
        throttle.succeed(host)
        logger.info("A reader signed in from %s", host)
        request.session.update(csrf=secrets.token_hex(32), name=sessions.begin())
        return RedirectResponse("/", status_code=303)

    @router.post(LOGOUT)
    async def sign_out(request: Request, form: Form) -> Response:  # noqa: ARG001  # checks the form
        sessions.end(request.session.get("name"))
        request.session.clear()
        return RedirectResponse(LOGIN, status_code=303)

    return router
