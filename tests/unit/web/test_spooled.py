"""Answers that are sent while they are written."""

from __future__ import annotations

from threading import Event

import pytest

from anomalib_cxr.web.spooled import CHUNK, Spooled


def test_the_first_part_does_not_wait_for_the_last_one(tmp_path):
    may_end = Event()

    def parts():
        yield b"first"
        may_end.wait()
        yield b"last"

    chunks = iter(Spooled(parts(), tmp_path))
    assert next(chunks) == b"first"
    may_end.set()
    assert b"".join(chunks) == b"last"


def test_all_is_written_however_slowly_it_is_read(tmp_path):
    is_written = Event()

    def parts():
        for number in range(5):
            yield bytes([number]) * CHUNK
        is_written.set()

    spooled = Spooled(parts(), tmp_path)
    assert is_written.wait(60)
    assert b"".join(spooled) == b"".join(bytes([number]) * CHUNK for number in range(5))


def test_nothing(tmp_path):
    assert list(Spooled((part for part in ()), tmp_path)) == []


def test_an_error_at_the_beginning_is_raised_at_once(tmp_path):
    def parts():
        yield from ()
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        Spooled(parts(), tmp_path)


def test_a_later_error_is_raised_in_place_of_the_rest(tmp_path):
    def parts():
        yield b"first"
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):  # already of the constructor, where the error comes that fast
        list(Spooled(parts(), tmp_path))


def test_a_browser_that_goes_away_ends_it(tmp_path):
    may_go_on, is_closed = Event(), Event()

    def parts():
        try:
            yield b"first"
            may_go_on.wait()
            yield b"last"
            yield b"never"
        finally:
            is_closed.set()

    chunks = iter(Spooled(parts(), tmp_path))
    assert next(chunks) == b"first"
    chunks.close()
    may_go_on.set()
    assert is_closed.wait(60)
