"""The loop that screens received files, with a process that is scripted."""

from __future__ import annotations

from threading import Event
from types import SimpleNamespace

import pytest
from filelock import FileLock

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.node import screening as module
from anomalib_cxr.node.quiet import QuietQueue
from anomalib_cxr.node.screening import ScreeningLoop
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.fingerprint import fingerprint_of
from anomalib_cxr.screening.pipeline.screener import ScreenerSettings
from anomalib_cxr.screening.pipeline.screening_process import UnscreenableFileError
from anomalib_cxr.screening.worklist.lock import LOCK
from anomalib_cxr.screening.worklist.store import Worklist

CALIBRATION = SimpleNamespace(model="f" * 64, identity="c" * 64, validated=SimpleNamespace(sources=()))


class ScriptedProcess:
    """A process whose answers are errors by the file's name until they are used up, else a case."""

    def __init__(self):
        self.errors, self.asked, self.closed = {}, [], False

    def cases(self, path):
        self.asked.append(path.name)
        if waiting := self.errors.get(path.name):
            raise waiting.pop(0)
        facts = {"content": path.read_text(), "model": CALIBRATION.model, "calibration": CALIBRATION.identity}
        return [Case(str(path), **fingerprint_of(path)._asdict(), decision=Decision.TO_READ, score=0.5, **facts)]

    def close(self):
        self.closed = True


@pytest.fixture
def process(monkeypatch):
    scripted = ScriptedProcess()
    monkeypatch.setattr(module, "ScreeningProcess", lambda *_, **__: scripted)
    monkeypatch.setattr(module, "PAUSES", (0.01,))
    return scripted


@pytest.fixture
def tables(monkeypatch):
    """Number of rows at each writing of the tables."""
    written = []
    monkeypatch.setattr(module, "write_tables", lambda worklist, *_, **__: written.append(worklist.count()))
    return written


@pytest.fixture
def worklist(tmp_path):
    return Worklist(tmp_path / "out", create=True, wait=0.1)


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{name}.dcm" for name in "abc"]
    for path in paths:
        path.write_text(path.stem)
    return paths


@pytest.fixture
def loop(process, tables, worklist, files):
    queue = QuietQueue(0)
    for path in files:
        queue.add("study", path)
    return ScreeningLoop(ScreenerSettings("model", worklist.folder), CALIBRATION, worklist, queue)


def rows(worklist):
    return {case.file.name: case.decision for case in worklist.cases()}


def test_all_files_become_rows_and_the_tables_have_them(loop, process, worklist, tables):
    loop.run(Event(), until_empty=True)
    assert rows(worklist) == dict.fromkeys(("a.dcm", "b.dcm", "c.dcm"), Decision.TO_READ)
    assert tables == [3]
    assert process.closed


def test_a_file_that_ends_the_process_is_refused_after_a_second_try(loop, process, worklist, caplog):
    process.errors["b.dcm"] = [UnscreenableFileError("a process that ended with code -11", "", "")] * 2
    loop.run(Event(), until_empty=True)
    assert process.asked == ["a.dcm", "b.dcm", "b.dcm", "c.dcm"]
    (refused,) = [case for case in worklist.cases() if case.decision is Decision.REFUSED]
    assert refused.file.name == "b.dcm"
    assert refused.why == "cannot be screened: a process that ended with code -11"
    assert len(refused.content) == 64
    assert len(rows(worklist)) == 3
    assert "Refused" in caplog.text


def test_one_failure_is_not_held_against_a_file(loop, process, worklist):
    process.errors["b.dcm"] = [UnscreenableFileError("", "", "")]
    loop.run(Event(), until_empty=True)
    assert set(rows(worklist).values()) == {Decision.TO_READ}


@pytest.mark.parametrize("error", [ScreeningError("no model.xml in /models", "", ""), OSError("disk")])
def test_what_is_no_fault_of_a_file_is_tried_again(loop, process, worklist, error, caplog):
    process.errors["b.dcm"] = [error] * 3
    loop.run(Event(), until_empty=True)
    assert set(rows(worklist).values()) == {Decision.TO_READ}
    assert len(rows(worklist)) == 3
    assert "2 files wait, tried again in 0.01 s" in caplog.text


def test_a_locked_worklist_loses_nothing(loop, worklist, caplog):
    locked = worklist._database.open()
    with locked as connection:
        connection.execute("BEGIN EXCLUSIVE")
        stop = Event()
        loop._on_pass = lambda: stop.set() if "locked by another program" in caplog.text else None
        loop.run(stop)
    assert worklist.count() == 0
    loop._on_pass = lambda: None
    loop.run(Event(), until_empty=True)
    assert worklist.count() == 3


def test_another_screening_is_waited_for(loop, worklist, caplog):
    stop = Event()
    loop._on_pass = lambda: stop.set() if "another screening writes" in caplog.text else None
    with FileLock(worklist.folder / LOCK):
        loop.run(stop)
    assert worklist.count() == 0


def test_the_end_comes_after_the_file_at_hand(loop, process, worklist):
    stop = Event()
    cases = process.cases
    process.cases = lambda path: (stop.set(), cases(path))[1]
    loop.run(stop)
    assert len(rows(worklist)) == 1
