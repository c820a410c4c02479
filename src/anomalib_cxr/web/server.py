"""Server of the worklist page: address, accounts for other machines, and encryption."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.worklist.store import Worklist

from .accounts import Accounts
from .app import create_app
from .protocol import TimedProtocol
from .security import LOOPBACK
from .tls import TlsFiles

SHUTDOWN_SECONDS = 10
"""Seconds that requests have to end after Ctrl-C."""
logger = logging.getLogger(__name__)


def run_server(
    worklist: Worklist,
    screen: Callable[[Path], None] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    tls: TlsFiles | None = None,
) -> None:
    """Serve a worklist to browsers until the process is ended.

    If the worklist has accounts (:class:`anomalib_cxr.web.accounts.Accounts`), everyone has to sign in.

    Args:
        worklist: The worklist.
        screen: Function that screens a file into the worklist; without it no image can be uploaded.
        host: Address to listen on; any but this machine's own needs an account.
        port: Port to listen on; 0 for any that is free. The address is logged.
        tls: Certificate and key of the server, to encrypt all connections.

    Raises:
        ScreeningError: If others could reach the server and there is no account, the certificate cannot be used, or the
            address is taken.
    """
    accounts = _accounts_for(host, worklist.folder)
    if tls is not None:
        tls.check()
    elif host not in LOOPBACK:
        logger.warning(
            "The connection is not encrypted: passwords and X-rays can be read on the network. Give --certificate and "
            "--key, unless a proxy with TLS stands before this server."
        )
    with _listening(host, port) as listener:
        config = server_config(create_app(worklist, screen, accounts), tls)
        name = f"[{host}]" if ":" in host else host
        scheme = "http" if tls is None else "https"
        logger.info("Worklist: %s://%s:%d/  (Ctrl-C to stop)", scheme, name, listener.getsockname()[1])
        with suppress(KeyboardInterrupt):  # raised again after an orderly shutdown
            uvicorn.Server(config).run(sockets=[listener])


def server_config(app: FastAPI, tls: TlsFiles | None = None) -> uvicorn.Config:
    """Return the configuration of the server of an application.

    Args:
        app: The application.
        tls: Certificate and key, to encrypt all connections.
    """
    return uvicorn.Config(
        app,
        http=TimedProtocol,
        ws="none",
        access_log=False,  # addresses of pages contain searches, which may be for a patient
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
    )


def _accounts_for(host: str, folder: Path) -> Accounts | None:
    """Return the accounts to sign in with, or None where there are none and nobody but this machine is listened to."""
    accounts = Accounts(folder)
    if accounts.all():
        return accounts
    if host not in LOOPBACK:
        raise ScreeningError(
            f"host = {host!r}, and no account in {folder}",
            "an account for each person who reads, where others can reach the page",
            f"run `anomalib-cxr users add NAME --role admin --worklist {folder}`, or leave out --host, so that only "
            "this machine reaches the page",
        )
    return None


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ScreeningError(
            f"{host}, port {port}: {error}",
            "an address of this machine and a free port",
            "end the other server, or choose another --port or --host",
        ) from error
    # Connections inherit it. Otherwise the body of an answer waits some 40 ms for the receipt of its header.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
