"""HTTP connections that end when the other side falls silent."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

SILENCE = 30.0
"""Seconds in which a request must be there, its body or the reading of an answer must go on."""


class TimedProtocol(H11Protocol):
    """HTTP connection that is closed when a request, its body, or the reading of an answer stands still.

    uvicorn itself only ends connections that are idle after an answer: one that is opened and never used, or breaks off
    in the middle of a request, would be held until the other side ends it, which a machine that lost its network never
    does. All lines before the body have one deadline; the body, and the answer, have to make progress.
    """

    _request_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin to wait for a request.

        Args:
            transport: The connection.
        """
        super().connection_made(transport)
        # So that `pause_writing` tells of each byte that is not taken. That of TLS is paused from `high` bytes on, not
        # above them: 0 would hold a connection of which all is taken.
        transport.set_write_buffer_limits(high=0 if transport.get_extra_info("sslcontext") is None else 1)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request.

        Args:
            data: The part.
        """
        super().data_received(data)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting.

        Args:
            exc: Error that the connection ended by, if any.
        """
        for timer in (self._request_timer, self._reader_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the other side to read."""
        super().pause_writing()
        self._await_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Stop waiting for the other side to read."""
        super().resume_writing()
        if self._reader_timer is not None:
            self._reader_timer.cancel()

    def _await_request(self) -> None:
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering and self._request_timer is not None:  # all lines are there, or a part of the body more
            self._request_timer.cancel()
            self._request_timer = None
        is_complete = is_answering and not self.cycle.more_body
        if self._request_timer is None and not is_complete and not self.transport.is_closing():
            self._request_timer = self.loop.call_later(SILENCE, self._end_silent_request)

    def _end_silent_request(self) -> None:
        self._request_timer = None
        if self.flow.read_paused:  # it is this side that does not read
            self._await_request()
        else:
            self.transport.abort()

    def _await_reader(self, unread: int) -> None:
        self._reader_timer = self.loop.call_later(SILENCE, self._end_silent_reader, unread)

    def _end_silent_reader(self, before: int) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread < before:
            self._await_reader(unread)
        else:
            self.transport.abort()
