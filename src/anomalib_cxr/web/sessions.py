"""Sessions of people who are signed in."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from fastapi import HTTPException, Request

from .accounts import Account, Accounts, Role
from .translation import translatable

SESSION_SECONDS, IDLE_SECONDS = 12 * 3600, 30 * 60
"""Longest duration of a session, and of a pause in it, in seconds."""


@dataclass
class _Session:
    account: Account
    end: float
    """Time at which it ends, however it is used."""
    idle_end: float
    """Time at which it ends, unless it is used."""

    def is_open(self, now: float) -> bool:
        return now < min(self.end, self.idle_end)


class Sessions:
    """Sessions of the people who are signed in.

    A browser's cookie only names its session. One that has ended here cannot be used again, by a copied cookie either.
    A session ends with its account, and when the account gets another password or role.

    Args:
        accounts: Accounts that have sessions.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._sessions: dict[str, _Session] = {}

    def begin(self, account: Account) -> str:
        """Begin a session and return its name.

        Args:
            account: Account that signed in.
        """
        now = time.monotonic()
        self._sessions = {name: session for name, session in self._sessions.items() if session.is_open(now)}
        name = secrets.token_hex(32)
        self._sessions[name] = _Session(account, now + SESSION_SECONDS, now + IDLE_SECONDS)
        return name

    def account(self, name: object) -> Account | None:
        """Return the account of a session that has begun and not ended, and prolong it; None for any other.

        Args:
            name: Name of the session, as a cookie has it.
        """
        session = self._sessions.get(name) if isinstance(name, str) else None
        now = time.monotonic()
        if session is None or not session.is_open(now) or self._accounts.find(session.account.name) != session.account:
            self.end(name)
            return None
        session.idle_end = now + IDLE_SECONDS
        return session.account

    def end(self, name: object) -> None:
        """End a session, if it is open.

        Args:
            name: Name of the session.
        """
        if isinstance(name, str):
            self._sessions.pop(name, None)


def account_of(request: Request) -> Account | None:
    """Return the account that a request was admitted with; None where nobody signs in.

    Args:
        request: The request.
    """
    account: Account | None = getattr(request.state, "account", None)
    return account


async def require_admin(request: Request) -> None:
    """Refuse a request of an account that is no admin; where nobody signs in, everyone is one.

    Args:
        request: The request.

    Raises:
        HTTPException: If it is refused.
    """
    account = account_of(request)
    if account is not None and account.role is not Role.ADMIN:
        raise HTTPException(403, translatable("This page is for admins. Ask one, or sign in as one."))
