"""Backups of a worklist in use, and what is restored from them."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from anomalib_cxr.cli import main
from anomalib_cxr.errors import DatasetError, ScreeningError
from anomalib_cxr.screening.case import Case, Decision, Verdict
from anomalib_cxr.screening.pipeline.explanation import write_png
from anomalib_cxr.screening.worklist.backup import MANIFEST, back_up_worklist, restore_worklist
from anomalib_cxr.screening.worklist.database import DATABASE
from anomalib_cxr.screening.worklist.lock import MAINTENANCE_LOCK
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.screening.worklist.upgrade import upgrade_worklist

FORMAT_5 = Path(__file__).resolve().parents[3] / "fixtures" / "worklist_format_5"


def add(worklist, number):
    """Add a case as a screening does: the images before the row."""
    case = Case(
        f"/xrays/{number}.png",
        1,
        1,
        Decision.TO_READ,
        score=0.5,
        heatmap=f"heatmaps/{number}.png",
        layers=f"layers/{number}",
        content=f"{number:064x}",
        screened="2026-01-31T10:00:00+00:00",
    )
    for name in (case.heatmap, f"{case.layers}-heat.png", f"{case.layers}-lungs.png"):
        write_png(np.full((4, 4), number % 256, np.uint8), worklist.folder / name)
    worklist.add([case])
    return case


@pytest.fixture
def worklist(tmp_path):
    worklist = Worklist(tmp_path / "out", create=True)
    for number in range(1, 4):
        case = add(worklist, number)
        worklist.give_verdict(number, Verdict.NORMAL, "Ada", "a note", content=case.content)
    (worklist.folder / "accounts.json").write_text('{"format": 1, "accounts": []}')
    (worklist.folder / "uploads").mkdir()
    (worklist.folder / "uploads" / "sent.png").write_bytes(b"an X-ray")
    return worklist


def contents(folder):
    """All files of a worklist but those of the database and locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(DATABASE) and path.suffix != ".lock" and path.name != MANIFEST
    }


def test_restored_is_what_was_backed_up(worklist, tmp_path):
    made = back_up_worklist(worklist.folder, tmp_path / "backup")
    restored = tmp_path / "elsewhere" / "again"
    assert restore_worklist(tmp_path / "backup", restored) == made
    assert contents(restored) == contents(worklist.folder)
    again = Worklist(restored)
    assert again.find() == worklist.find()
    assert again.verdicts() == worklist.verdicts()
    again.give_verdict(1, Verdict.UNSURE, "Bob", content=again.case(1).content)
    assert len(worklist.verdicts()) == 3


def test_all_is_for_its_owner(worklist, tmp_path):
    back_up_worklist(worklist.folder, tmp_path / "backup")
    restore_worklist(tmp_path / "backup", tmp_path / "again")
    for folder in (tmp_path / "backup", tmp_path / "again"):
        for path in (folder, *folder.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_of_a_worklist_that_is_written(worklist, tmp_path):
    """Screening and readers go on: each backup is of one moment, and has all images of its rows."""
    stop = threading.Event()

    def write():
        number = 10
        while not stop.is_set():
            case = add(worklist, number)
            worklist.give_verdict(worklist.number_of(case.path), Verdict.ABNORMAL, "Ada", content=case.content)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            back_up_worklist(worklist.folder, tmp_path / f"backup{number}")
    finally:
        stop.set()
        writer.join()
    given = worklist.verdicts()
    counts = []
    for number in range(5):
        restore_worklist(tmp_path / f"backup{number}", tmp_path / f"again{number}")
        restored = Worklist(tmp_path / f"again{number}")
        with sqlite3.connect(restored.file) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for case in restored.cases():
            for name in (case.heatmap, f"{case.layers}-heat.png", f"{case.layers}-lungs.png"):
                assert (restored.folder / name).is_file()
        verdicts = restored.verdicts()
        assert verdicts == given[: len(verdicts)]
        counts.append(len(verdicts))
    assert counts == sorted(counts)
    assert counts[-1] > 3


def test_a_file_that_is_appended_to_under_a_lock_is_whole(worklist, tmp_path):
    """As the audit log: while its lock is held, the copy waits."""
    file = worklist.folder / "audit.jsonl"
    file.write_text("one\n")
    lock = FileLock(worklist.folder / ".audit.jsonl.lock")
    with lock:
        file.write_text("one\nhal")
        backup = threading.Thread(target=back_up_worklist, args=(worklist.folder, tmp_path / "backup"))
        backup.start()
        backup.join(0.3)
        assert backup.is_alive()
        file.write_text("one\nhalf\n")
    backup.join()
    assert (tmp_path / "backup" / "audit.jsonl").read_text() == "one\nhalf\n"


def test_of_an_older_format(tmp_path):
    """What is to be upgraded can be backed up before, and upgraded after it was restored."""
    old = Path(shutil.copytree(FORMAT_5, tmp_path / "old"))
    back_up_worklist(old, tmp_path / "backup")
    restore_worklist(tmp_path / "backup", tmp_path / "again")
    assert upgrade_worklist(tmp_path / "again")[0] == 5
    assert Worklist(tmp_path / "again").count() == 6
    with pytest.raises(ScreeningError, match="format 5"):
        Worklist(old)


def test_commands(worklist, tmp_path, caplog):
    with caplog.at_level("INFO"):
        main(["backup", str(worklist.folder), str(tmp_path / "backup")])
        main(["restore", str(tmp_path / "backup"), str(tmp_path / "again")])
    assert caplog.text.count("files, ") == 2
    assert Worklist(tmp_path / "again").count() == 3


class TestRefused:
    @pytest.mark.parametrize("place", ["out/backup", "full", "file"])
    def test_places(self, worklist, tmp_path, place):
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "mine.txt").write_text("mine")
        (tmp_path / "file").write_text("mine")
        with pytest.raises(ScreeningError, match=r"exists|in "):
            back_up_worklist(worklist.folder, tmp_path / place)
        assert not (tmp_path / "out" / "backup").exists()
        assert (tmp_path / "full" / "mine.txt").read_text() == "mine"

    def test_while_a_purge_runs(self, worklist, tmp_path):
        with FileLock(worklist.folder / MAINTENANCE_LOCK), pytest.raises(ScreeningError, match="a purge runs"):
            back_up_worklist(worklist.folder, tmp_path / "backup")
        assert not (tmp_path / "backup").exists()

    def test_no_worklist(self, tmp_path):
        with pytest.raises(ScreeningError, match=f"no {DATABASE}"):
            back_up_worklist(tmp_path, tmp_path / "backup")

    def test_damaged_files_are_all_named(self, worklist, tmp_path):
        backup = tmp_path / "backup"
        back_up_worklist(worklist.folder, backup)
        (backup / "heatmaps" / "1.png").unlink()
        (backup / "heatmaps" / "2.png").write_bytes(b"other")
        (backup / DATABASE).write_bytes((backup / DATABASE).read_bytes()[:-1])
        with pytest.raises(DatasetError, match=r"3 of \d+ files that are damaged") as refused:
            restore_worklist(backup, tmp_path / "again")
        named = {path.name for paths in refused.value.offenders.values() for path in paths}
        assert named == {"1.png", "2.png", DATABASE}
        assert not (tmp_path / "again").exists()

    def test_an_incomplete_backup(self, worklist, tmp_path):
        back_up_worklist(worklist.folder, tmp_path / "backup")
        (tmp_path / "backup" / MANIFEST).unlink()
        with pytest.raises(ScreeningError, match="no complete backup"):
            restore_worklist(tmp_path / "backup", tmp_path / "again")

    def test_a_manifest_that_leads_elsewhere(self, worklist, tmp_path):
        back_up_worklist(worklist.folder, tmp_path / "backup")
        manifest = json.loads((tmp_path / "backup" / MANIFEST).read_text())
        manifest["files"]["../outside"] = [1, "0" * 64]
        (tmp_path / "backup" / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(ScreeningError, match=r"\.\./outside"):
            restore_worklist(tmp_path / "backup", tmp_path / "again")

    def test_into_a_worklist(self, worklist, tmp_path):
        back_up_worklist(worklist.folder, tmp_path / "backup")
        with pytest.raises(ScreeningError, match="exists"):
            restore_worklist(tmp_path / "backup", worklist.folder)
