"""Sessions of readers who are signed in."""

from __future__ import annotations

import math
import secrets
import time

from fastapi import Request

SESSION_SECONDS = 12 * 3600
"""Duration of a session in seconds."""


class Sessions:
    """Sessions of the readers who are signed in.

    A browser's cookie only names its session. One that has ended here cannot be used again, by a copied cookie either.

    Example:
        >>> sessions = Sessions()
        >>> name = sessions.begin()
        >>> sessions.is_open(name), sessions.end(name), sessions.is_open(name)
        (True, None, False)
    """

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}

    def begin(self) -> str:
        """Begin a session and return its name."""
        now = time.monotonic()
        self._ends = {name: end for name, end in self._ends.items() if end > now}
        name = secrets.token_hex(32)
        self._ends[name] = now + SESSION_SECONDS
        return name

    def is_open(self, name: object) -> bool:
        """Return whether a session has begun and not ended.

        Args:
            name: Name of the session, as a cookie has it.
        """
        return isinstance(name, str) and self._ends.get(name, -math.inf) > time.monotonic()

    def end(self, name: object) -> None:
        """End a session, if it is open.

        Args:
            name: Name of the session.
        """
        if isinstance(name, str):
            self._ends.pop(name, None)


def is_signed_in(request: Request) -> bool:
    """Return whether a request comes from a browser that is signed in.

    Args:
        request: The request.
    """
    sessions: Sessions = request.app.state.sessions
    return sessions.is_open(request.scope.get("session", {}).get("name"))
