"""Retention: what is erased, what stays, and that nothing else is touched."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest

from anomalib_cxr.cli import main
from anomalib_cxr.errors import SettingError
from anomalib_cxr.node.spool import FOLDER
from anomalib_cxr.node.spool import FORMER as FORMER_NAME
from anomalib_cxr.screening.case import Case, Decision, Verdict
from anomalib_cxr.screening.pipeline.explanation import write_png
from anomalib_cxr.screening.worklist import purge as module
from anomalib_cxr.screening.worklist.dicom_export import write_dicom_objects
from anomalib_cxr.screening.worklist.purge import FORMER, purge_worklist
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.web.audit import Action, AuditLog

NOW = datetime(2026, 3, 31, 12, tzinfo=timezone.utc)
OLD, NEW = "2026-01-01T10:00:00+00:00", "2026-03-30T10:00:00+00:00"
SECRET = "DOE^JANE"  # noqa: S105  # a name


def add(worklist, name, screened, path=None, **facts):
    path = path or f"/xrays/{name}.dcm"
    known = {
        "heatmap": f"heatmaps/{name}.png",
        "layers": f"layers/{name}",
        "study_uid": f"1.2.{len(name)}",
        "sop_uid": f"1.3.{len(name)}",
        "patient_id": f"ID-{name}",
        "patient_name": SECRET,
        "sex": "F",
        "age": 50,
        "findings": "Most unusual: left lung.",
        "source": "DICOM DX, ACME X-100",
        "view": "PA",
        "taken": "2025-12-31",
        "lung_gray": 0.3,
        "tissue_contrast": 0.4,
        "score": 0.5,
        "raw_score": 0.5,
        "content": f"{sum(name.encode()):064x}",
    }
    case = Case(str(path), 1, 1, Decision.TO_READ, screened=screened, **{**known, **facts})
    for file in (case.heatmap, f"{case.layers}-heat.png", f"{case.layers}-lungs.png"):
        write_png(np.zeros((4, 4), np.uint8), worklist.folder / file)
    worklist.add([case])
    return worklist.number_of(case.path)


@pytest.fixture
def worklist(tmp_path):
    """Two old rows and a new one, each with a verdict."""
    worklist = Worklist(tmp_path / "out", create=True)
    for name, screened in {"old": OLD, "older": OLD, "new": NEW}.items():
        number = add(worklist, name, screened)
        note = f"called {SECRET}" if name == "old" else ""
        worklist.give_verdict(number, Verdict.ABNORMAL, "Ada", note, content=worklist.case(number).content)
    return worklist


def purge(worklist, **settings):
    return purge_worklist(worklist.folder, 30, now=NOW, **settings)


def images(worklist):
    return sorted(path.name for path in worklist.folder.rglob("*.png"))


class TestErased:
    def test_what_tells_the_patient(self, worklist):
        found = purge(worklist)
        assert (found.rows, found.notes, found.files, found.before) == (2, 1, 6, "2026-03-01T12:00:00+00:00")
        assert images(worklist) == ["new-heat.png", "new-lungs.png", "new.png"]
        case = worklist.case(1)
        assert case.path == "purged:1"
        for name in ("patient_id", "patient_name", "study_uid", "sop_uid", "sex", "taken", "findings", "heatmap"):
            assert getattr(case, name) == ""
        assert (case.age, case.height, case.is_purged) == (None, None, True)

    def test_no_trace_is_left_in_the_files(self, worklist):
        purge(worklist)
        with sqlite3.connect(worklist.file) as connection:
            assert connection.execute("SELECT COUNT(*) FROM cases WHERE patient_name <> ''").fetchone() == (1,)
        for file in worklist.folder.glob("worklist.sqlite*"):
            content = file.read_bytes()
            assert b"ID-old" not in content
            assert b"/xrays/old" not in content
            assert b"called" not in content
        assert any(b"ID-new" in file.read_bytes() for file in worklist.folder.glob("worklist.sqlite*"))

    def test_is_gone_from_lists_and_tables(self, worklist):
        rows = [{"path": case.path, "patient_id": case.patient_id} for case in worklist.cases()]
        with (worklist.folder / "worklist.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, ["path", "patient_id"])
            table.writeheader()
            table.writerows(rows)
        (worklist.folder / "worklist.json").write_text(json.dumps({"model": "m", "rows": rows}))
        purge(worklist)
        assert [case.path for case in worklist.cases()] == ["/xrays/new.dcm"]
        with (worklist.folder / "worklist.csv").open(newline="") as file:
            assert list(csv.DictReader(file)) == [{"path": "/xrays/new.dcm", "patient_id": "ID-new"}]
        assert json.loads((worklist.folder / "worklist.json").read_text()) == {
            "model": "m",
            "rows": [{"path": "/xrays/new.dcm", "patient_id": "ID-new"}],
        }

    def test_dicom_objects(self, worklist):
        folder = worklist.folder / "dicom"
        heatmap = np.zeros((40, 30, 3), np.uint8)
        kept = [write_dicom_objects(worklist.case(number), None, heatmap, folder) for number in (1, 3)][1]
        (folder / "damaged.dcm").write_bytes(b"no DICOM")
        os.utime(folder / "damaged.dcm", (0, 0))
        purge(worklist)
        assert set(folder.iterdir()) == set(kept)

    def test_own_copies_of_xrays_but_no_others(self, worklist, tmp_path):
        outside = tmp_path / "archive.dcm"
        uploaded = worklist.folder / "uploads" / "a.dcm"
        received = worklist.folder / "received" / "study" / "b.dcm"
        for number, file in enumerate((outside, uploaded, received)):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
            add(worklist, f"own{number}", OLD, path=file, content=f"{number:064x}")
        purge(worklist)
        assert (outside.exists(), uploaded.exists(), received.exists()) == (True, False, False)
        assert not received.parent.exists()

    def test_a_former_xray_without_that_which_replaced_it(self, worklist):
        """Both were received at one path; the former one lies aside."""
        received = worklist.folder / "received" / "study" / "b.dcm"
        former = worklist.folder / FORMER / f"b-{'ab' * 8}.dcm"
        for file in (received, former):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
        add(worklist, "was", OLD, path=received, content="ab" * 32)
        add(worklist, "is", NEW, path=received, content="cd" * 32)
        purge(worklist)
        assert (received.exists(), former.exists()) == (True, False)
        assert [case.content for case in worklist.cases() if "received" in case.path] == ["cd" * 32]

    def test_folder_of_former_ones_is_that_of_the_node(self):
        assert FORMER.parts == (FOLDER, FORMER_NAME)


class TestKept:
    def test_result_and_verdicts(self, worklist):
        before = worklist.case(1)
        agreement = worklist.agreement()
        purge(worklist)
        after = worklist.case(1)
        for name in ("decision", "score", "raw_score", "source", "view", "lung_gray", "content", "screened"):
            assert getattr(after, name) == getattr(before, name)
        assert [(record.case_id, record.verdict, record.note) for record in worklist.verdicts()] == [
            (number, Verdict.ABNORMAL, "") for number in (1, 2, 3)
        ]
        assert worklist.agreement() == agreement

    def test_the_same_xray_can_be_screened_again(self, worklist):
        purge(worklist)
        number = add(worklist, "old", NEW)
        assert number == 4
        assert worklist.earlier(number) == []

    def test_a_dry_run_changes_nothing(self, worklist):
        before = [worklist.case(number) for number in (1, 2, 3)], worklist.verdicts(), images(worklist)
        dry = purge(worklist, dry_run=True)
        assert ([worklist.case(number) for number in (1, 2, 3)], worklist.verdicts(), images(worklist)) == before
        assert dry == purge(worklist)
        assert purge(worklist).rows == 0

    def test_an_interrupted_one_is_continued(self, worklist, monkeypatch):
        """Images go before rows: what is left can be found by the next purge."""
        with monkeypatch.context() as patch:
            patch.setattr(module, "_erase", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                purge(worklist)
        assert worklist.case(1).patient_name == SECRET
        assert purge(worklist).rows == 2
        assert worklist.case(1).is_purged


class TestCommand:
    def test_tells_and_is_audited(self, worklist, caplog):
        log = AuditLog(worklist.folder)
        log.write("Ada", "192.0.2.7", Action.CASE, cases=[1])
        for case in list(worklist.cases()):
            worklist.add([replace(case, screened="2020-01-01T00:00:00+00:00")])
        with caplog.at_level("INFO"):
            main(["purge", str(worklist.folder), "--older_than", "365", "--dry_run"])
            main(["purge", str(worklist.folder), "--older_than", "365"])
        assert "Would be purged: 3 X-rays" in caplog.text
        assert "Purged: 3 X-rays" in caplog.text
        entries = list(log.verified())
        assert [entry.action for entry in entries] == [Action.CASE, Action.PURGE]
        assert entries[1].detail.startswith("3 cases from before ")

    def test_a_day_at_least(self, worklist, capsys):
        with pytest.raises((SettingError, SystemExit)):
            main(["purge", str(worklist.folder), "--older_than", "0"])
        assert "older_than" in capsys.readouterr().err
        assert worklist.count() == 3
