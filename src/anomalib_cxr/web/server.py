"""Server of the worklist page: address, and token for other machines."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.worklist.store import Worklist

from .app import create_app
from .protocol import TimedProtocol
from .security import LOOPBACK

MIN_TOKEN = 16
"""Number of characters of a token, at least; a shorter one could be guessed."""
SHUTDOWN_SECONDS = 10
"""Seconds that requests have to end after Ctrl-C."""
TOKEN_VARIABLE = "ANOMALIB_CXR_TOKEN"  # noqa: S105  # its name, not the token
logger = logging.getLogger(__name__)


def run_server(
    worklist: Worklist,
    screen: Callable[[Path], None] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    token: str | None = None,
) -> None:
    """Serve a worklist to browsers until the process is ended.

    Args:
        worklist: The worklist.
        screen: Function that screens a file into the worklist; without it no image can be uploaded.
        host: Address to listen on.
        port: Port to listen on; 0 for any that is free. The address is logged.
        token: Token that readers sign in with, at least 16 characters; needed for any host but this machine.

    Raises:
        ScreeningError: If others could reach the server without a token, the token is short, or the address is taken.
    """
    _check_token(host, token)
    with _listening(host, port) as listener:
        config = server_config(create_app(worklist, screen, token))
        name = f"[{host}]" if ":" in host else host
        logger.info("Worklist: http://%s:%d/  (Ctrl-C to stop)", name, listener.getsockname()[1])
        with suppress(KeyboardInterrupt):  # raised again after an orderly shutdown
            uvicorn.Server(config).run(sockets=[listener])


def server_config(app: FastAPI) -> uvicorn.Config:
    """Return the configuration of the server of an application.

    Args:
        app: The application.
    """
    return uvicorn.Config(
        app,
        http=TimedProtocol,
        ws="none",
        access_log=False,  # addresses of pages contain searches, which may be for a patient
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def read_token(file: Path | None = None) -> str | None:
    """Return the token that readers sign in with, from a file or from the environment variable ANOMALIB_CXR_TOKEN.

    Neither shows in the list of processes, as an argument of the command would.

    Args:
        file: File with the token; it comes before the environment variable.

    Raises:
        ScreeningError: If the file cannot be read.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE)
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ScreeningError(f"{file}: {error}", "a text file with the token", "correct --token_file") from error


def _check_token(host: str, token: str | None) -> None:
    if token is None and host not in LOOPBACK:
        raise ScreeningError(
            f"host = {host!r} without a token",
            f"a token of {MIN_TOKEN} characters at least where others can reach the page",
            f"set {TOKEN_VARIABLE} or give --token_file, or leave out --host, so that only this machine reaches it",
        )
    if token is not None and len(token) < MIN_TOKEN:
        raise ScreeningError(
            f"a token of {len(token)} characters",
            f"{MIN_TOKEN} at least",
            "make one by `python -c 'import secrets; print(secrets.token_urlsafe())'`",
        )


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ScreeningError(
            f"{host}, port {port}: {error}",
            "an address of this machine and a free port",
            "end the other server, or choose another --port or --host",
        ) from error
