"""Sign-in by name and password, and the waiting time after wrong ones."""

from __future__ import annotations

import logging
import math
import secrets
from functools import partial

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from .accounts import Account, Accounts
from .audit import Action, record
from .forms import Form
from .names import composed
from .rendering import render_page
from .sessions import Sessions
from .throttle import Throttle, network_of
from .translation import translatable

LOGIN, LOGOUT = "/login", "/logout"
logger = logging.getLogger(__name__)


class WrongPasswordError(Exception):
    """Name and password do not belong together, or nobody may try at the moment.

    Args:
        wait: Seconds until the next attempt is admitted, where this one was not looked at.
        name: Name of the account, if there is one. A name that nobody has may be a password in the wrong field.
    """

    def __init__(self, wait: int = 0, name: str = "") -> None:
        super().__init__(f"wait {wait} s" if wait else "wrong")
        self.wait = wait
        self.name = name


class PasswordCheck:
    """Checks names and passwords one after the other; wrong ones are counted by address and by name.

    Args:
        accounts: Accounts to sign in with.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._throttle = Throttle()
        self._turn = CapacityLimiter(1)  # a hash takes a core and 64 MiB, and attempts at once must be counted

    async def sign_in(self, name: str, password: str, host: str) -> Account:
        """Return the account of a name and a password.

        Args:
            name: Name of the account.
            password: Its password.
            host: Address that sent them.

        Raises:
            WrongPasswordError: If they are wrong, or have to wait: right ones, too, which a guesser may have.
        """
        return await to_thread.run_sync(self._check, name, password, host, limiter=self._turn)

    def _check(self, name: str, password: str, host: str) -> Account:
        keys = f"address {network_of(host)}", f"name {composed(name).casefold()[:200]}"
        if (wait := math.ceil(max(map(self._throttle.seconds_left, keys)))) > 0:
            raise WrongPasswordError(wait)
        account = self._accounts.check(name, password)
        if account is None:
            seconds = max([self._throttle.fail(key) for key in keys])
            known = self._accounts.find(name)
            whose = f"of {known.name!r}" if known else "of an unknown name"
            logger.warning("Wrong password %s from %s; the next one is admitted in %d s", whose, host, seconds)
            raise WrongPasswordError(name=known.name if known else "")
        for key in keys:
            self._throttle.succeed(key)
        return account


def host_of(request: Request) -> str:
    """Return the address that a request comes from.

    Args:
        request: The request.
    """
    return request.client.host if request.client else "an unknown address"


def login_routes(check: PasswordCheck, sessions: Sessions) -> APIRouter:
    """Return the routes that sign people in and out.

    Args:
        check: Check of names and passwords.
        sessions: Open sessions.
    """
    router = APIRouter()

    @router.get(LOGIN)
    async def show_login(request: Request) -> Response:
        return render_page(request, "login", {"refusal": ""})

    @router.post(LOGIN)
    async def sign_in(request: Request, form: Form) -> Response:
        host = host_of(request)
        try:
            account = await check.sign_in(str(form.get("name", "")), str(form.get("password", "")), host)
        except WrongPasswordError as error:
            if not error.wait:
                await to_thread.run_sync(partial(record, request, Action.WRONG_PASSWORD, detail=error.name))
            return _refused(request, error.wait)
        request.state.account = account
        await to_thread.run_sync(record, request, Action.SIGN_IN)
        logger.info("%s signed in from %s", account.name, host)
        request.session.update(csrf=secrets.token_hex(32), name=sessions.begin(account))
        return RedirectResponse("/", status_code=303)

    @router.post(LOGOUT)
    async def sign_out(request: Request, form: Form) -> Response:  # noqa: ARG001  # checks the form
        await to_thread.run_sync(record, request, Action.SIGN_OUT)
        sessions.end(request.session.get("name"))
        request.session.clear()
        return RedirectResponse(LOGIN, status_code=303)

    return router


def _refused(request: Request, wait: int) -> Response:
    if not wait:
        return render_page(
            request, "login", {"refusal": translatable("Name and password do not belong together.")}, 403
        )
    refusal = translatable(
        "Too many wrong passwords for this name or from your address. Try again in {wait} s.", wait=wait
    )
    answer = render_page(request, "login", {"refusal": refusal}, 429)
    answer.headers["Retry-After"] = str(wait)
    return answer
