"""Connections that fall silent, tried with sockets on the server as it is configured."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time

import pytest
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from anomalib_cxr.web import protocol
from anomalib_cxr.web.app import create_app

from .conftest import content_of, csrf_of

SILENCE = 1.0
LINES = b"POST /upload HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def connect(monkeypatch, worklist, screen, listening):
    """Open connections to a server that waits a second."""
    monkeypatch.setattr(protocol, "SILENCE", SILENCE)
    with listening(create_app(worklist, screen)) as port:
        yield lambda: socket.create_connection(("127.0.0.1", port), timeout=20)


def answer(connection):
    """Return all that comes until the other side ends the connection."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def opened(connect, path):
    """Return a page, and the cookie that came with it."""
    with connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        page = answer(connection).decode()
    return page, page.split("set-cookie: ")[1].split(";")[0]


def drip(connection, parts):
    """Send parts slowly, but none so late that nothing would be heard for too long."""
    for part in parts:
        time.sleep(SILENCE / 4)
        connection.sendall(part)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", LINES, LINES + b"Content-Length: 1000\r\n\r\nhalf"])
def test_silent_ones_are_ended(connect, sent):
    with connect() as connection:
        connection.sendall(sent)
        assert b"200 OK" not in answer(connection)  # without a time limit of the server, this times out


def test_lines_that_drip_are_ended(connect):
    with connect() as connection:
        connection.sendall(LINES)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            drip(connection, [b"X: 1\r\n"] * 40)


def test_a_slow_body_is_awaited(connect, worklist):
    page, cookie = opened(connect, "/case/1")
    body = f"csrf={csrf_of(page)}&content={content_of(page)}&verdict=normal&reader=Ada".encode()
    lines = f"POST /case/1/verdict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: {cookie}\r\n"
    kind = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    step = -(-len(body) // 8)
    with connect() as connection:
        connection.sendall((lines + kind).encode())
        drip(connection, [body[start : start + step] for start in range(0, len(body), step)])
        assert b"303 See Other" in answer(connection)
    assert [record.reader for record in worklist.verdicts(1)] == ["Ada"]


def test_a_reader_that_stops_is_ended(monkeypatch, listening):
    """It is sent more than any buffer between the two sides takes."""
    monkeypatch.setattr(protocol, "SILENCE", SILENCE)
    ended = threading.Event()

    async def endless():
        try:
            while True:
                yield bytes(2**20)
                await asyncio.sleep(0)  # lets the server hear that the connection has ended
        finally:
            ended.set()

    app = Starlette(routes=[Route("/", lambda _: StreamingResponse(endless()))])
    with listening(app) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert ended.wait(30)


def test_an_upload_that_breaks_off_leaves_a_line_at_most(connect, client, worklist, caplog):
    page, cookie = opened(connect, "/")
    body = f'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{csrf_of(page)}\r\n--x\r\nContent-Disp'
    head = f"Cookie: {cookie}\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 90000\r\n\r\n"
    with caplog.at_level(logging.DEBUG), connect() as connection:
        connection.sendall(LINES + (head + body).encode())
        time.sleep(SILENCE / 2)
    time.sleep(SILENCE / 2)
    assert "Traceback" not in caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert not (worklist.folder / "uploads").exists()
