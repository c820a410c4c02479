"""The process that uploads are screened in: whose fault its end is, with a process of a few scripted steps."""

from __future__ import annotations

import os
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.pipeline import screening_process as module
from anomalib_cxr.screening.pipeline.screening_process import ScreeningProcess, UnscreenableFileError, _Answer

FILE = Path("image.png")
RECEIVED, ANSWER, END, HANG = None, _Answer([]), "end", "hang"
STARTED = [(RECEIVED, ANSWER)]
"""What a process does with the first message, which asks for the model."""


class ScriptedProcess:
    """A process that counts as alive until it is waited for, even if its side of the pipe is closed.

    Args:
        connection: Its side of the pipe.
        script: For each message, what it sends or does.
    """

    pid, exitcode = 1, -9

    def __init__(self, connection, script):
        self.paths = []
        self._connection = Connection(os.dup(connection.fileno()))  # the other one is closed by who started it
        self._killed = threading.Event()
        threading.Thread(target=self._run, args=(script,), daemon=True).start()

    def _run(self, script):
        with self._connection:
            for steps in script:
                self.paths.append(self._connection.recv())
                for step in steps:
                    if step is END:
                        return
                    if step is HANG:
                        self._killed.wait()
                        return
                    self._connection.send(step)

    def is_alive(self):
        return not self._killed.is_set()

    def kill(self):
        self._killed.set()

    join = kill


@pytest.fixture
def run(monkeypatch):
    """Start a screening process whose processes follow scripts, one after the other; return it and them."""

    def make(*scripts):
        started, waiting = [], list(scripts)

        def start_process(_task, connection, *_arguments, daemon):
            assert daemon
            started.append(ScriptedProcess(connection, waiting.pop(0)))
            return started[-1]

        monkeypatch.setattr(module, "start_process", start_process)
        return ScreeningProcess(Path("model"), Path("output"), seconds=0.5), started

    return make


def test_an_answer(run):
    process, started = run([*STARTED, (RECEIVED, ANSWER)])
    assert process.cases(FILE) == []
    assert started[0].paths == [None, FILE]


@pytest.mark.parametrize("end", [[], [(END,)]], ids=["before the file is sent", "with the file unread"])
def test_one_that_ended_before_it_received_the_file_is_replaced(run, end):
    """Also while it still counts as alive, as a killed process does until all of its threads have ended."""
    process, started = run([*STARTED, *end], [*STARTED, (RECEIVED, ANSWER)])
    assert process.cases(FILE) == []
    assert started[1].paths == [None, FILE]
    assert not started[0].is_alive()


def test_one_that_ends_while_it_screens_the_file_is_told(run):
    process, started = run([*STARTED, (RECEIVED, END)], [*STARTED, (RECEIVED, ANSWER)])
    with pytest.raises(ScreeningError, match="a process that ended with code -9"):
        process.cases(FILE)
    assert len(started) == 1  # the file is not tried again
    assert process.cases(FILE) == []


def test_a_second_one_that_ends_at_once_is_told(run):
    process, started = run([*STARTED, (END,)], [*STARTED, (END,)], [*STARTED, (RECEIVED, ANSWER)])
    with pytest.raises(ScreeningError, match="a process that ended with code -9"):
        process.cases(FILE)
    assert len(started) == 2
    assert process.cases(FILE) == []


@pytest.mark.parametrize("steps", [(HANG,), (RECEIVED, HANG)], ids=["before it received the file", "after"])
def test_one_that_takes_too_long_is_told(run, steps):
    process, started = run([*STARTED, steps], [*STARTED, (RECEIVED, ANSWER)])
    with pytest.raises(ScreeningError, match=r"took longer than 0\.5 s"):
        process.cases(FILE)
    assert len(started) == 1
    assert not started[0].is_alive()
    assert process.cases(FILE) == []


@pytest.mark.parametrize(("by_file", "error"), [(True, UnscreenableFileError), (False, ScreeningError)])
def test_what_the_file_is_the_reason_of_is_told_apart(run, by_file, error):
    process, _ = run([*STARTED, (RECEIVED, _Answer([], ("a", "b", "c"), by_file))])
    with pytest.raises(ScreeningError) as raised:
        process.cases(FILE)
    assert type(raised.value) is error


def test_an_end_in_a_file_is_by_the_file(run):
    process, _ = run([*STARTED, (RECEIVED, END)])
    with pytest.raises(UnscreenableFileError):
        process.cases(FILE)
