"""Both tables hold the rows of the database, and no more of a patient than was asked for."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, Decision
from anomalib_cxr.screening.worklist import tables
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.screening.worklist.tables import escape_csv_formula, write_left_out, write_tables


@pytest.fixture
def worklist(tmp_path, case_of):
    worklist = Worklist(tmp_path / "out", create=True)
    person = {"patient_name": "PHANTOM^ADA", "patient_id": "SECRET7", "sex": "F", "age": 61.0}
    cases = [
        case_of(f"x{number}", number / 10, findings=f"f{number}", p_value=1 / 3, **person) for number in range(1, 8)
    ]
    worklist.add([*cases, case_of("r", source="DICOM DX, ACME", **person)])
    return worklist


def read(folder):
    with (folder / "worklist.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / "worklist.json").read_text(encoding="utf-8"))


def as_text(value):
    return "" if value is None else str(value)


@pytest.mark.parametrize("names", [False, True])
def test_both_hold_the_rows_of_the_database(worklist, calibration, names):
    write_tables(worklist, calibration, names=names)
    rows, record = read(worklist.folder)
    assert [{name: as_text(value) for name, value in row.items()} for row in record["rows"]] == rows
    expected = [case for _, case in worklist.find()]
    assert [row["path"] for row in rows] == [case.path for case in expected]
    assert [row["decision"] for row in rows] == ["to be read"] * 5 + ["below the calibrated threshold"] * 2 + [
        "refused: blank"
    ]
    for name in (
        "score",
        "raw_score",
        "threshold",
        "guarantee",
        "probability",
        "p_value",
        "findings",
        "source",
        "model",
        "screened",
    ):
        assert [row[name] for row in record["rows"]] == [getattr(case, name) for case in expected]


def test_no_patient_unless_asked_for(worklist, calibration):
    for names in (True, False):  # the second call takes them out again
        write_tables(worklist, calibration, names=names)
        texts = [(worklist.folder / name).read_text() for name in ("worklist.csv", "worklist.json")]
        assert [("PHANTOM^ADA" in text, "SECRET7" in text) for text in texts] == [(names, names)] * 2


def test_the_head_tells_the_model_and_its_guarantee(worklist, calibration):
    write_tables(worklist, calibration)
    _, record = read(worklist.folder)
    assert (record["model"], record["prevalence"]) == (calibration.model, 0.1)
    assert record["thresholds"][""]["threshold"] == calibration.thresholds[""].threshold
    assert "not a medical device" in record["notice"]
    assert BELOW_THRESHOLD_NOTICE in record["notice"]


def test_no_rows(tmp_path, calibration):
    write_tables(Worklist(tmp_path, create=True), calibration)
    rows, record = read(tmp_path)
    assert (rows, record["rows"]) == ([], [])
    assert (tmp_path / "worklist.csv").read_text().startswith("path,study_uid,")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_cells_that_a_spreadsheet_would_compute(tmp_path, case_of, calibration, start):
    evil = f'{start}HYPERLINK("http://x")'
    worklist = Worklist(tmp_path, create=True)
    worklist.add([case_of("a", 0.5, study_uid=evil, patient_name=evil, source=evil)])
    write_tables(worklist, calibration, names=True)
    rows, record = read(tmp_path)
    for name in ("study_uid", "patient_name", "source"):
        assert rows[0][name] == f"'{evil}"
        assert record["rows"][0][name] == evil  # no spreadsheet computes in JSON
    assert float(rows[0]["score"]) == 0.25


def test_odd_texts_survive(tmp_path, case_of, calibration):
    odd = 'a, "b"\nc;ü\u2028'
    worklist = Worklist(tmp_path, create=True)
    worklist.add([case_of("a", 0.5, findings=odd, decision=Decision.TO_READ)])
    write_tables(worklist, calibration)
    rows, record = read(tmp_path)
    assert rows[0]["findings"] == record["rows"][0]["findings"] == odd


def test_an_interruption_leaves_the_former_tables(worklist, calibration, monkeypatch):
    write_tables(worklist, calibration)
    before = {path.name: path.read_bytes() for path in worklist.folder.glob("worklist.[cj]s*")}
    assert set(before) == {"worklist.csv", "worklist.json"}

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tables, "escape_csv_formula", fail)
    with pytest.raises(OSError, match="No space left"):
        write_tables(worklist, calibration)
    assert {path.name: path.read_bytes() for path in worklist.folder.glob("worklist.[cj]s*")} == before


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_formulas_become_text(start):
    assert escape_csv_formula(f"{start}1+1") == f"'{start}1+1"


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", " =1+1", '"=1+1'])
def test_no_part_is_a_formula_where_another_separator_holds(tmp_path, separator, formula):
    """Split as a spreadsheet does whose separator is not the comma, and which does not know the quotes."""
    write_left_out(tmp_path, {"hidden": [Path(f"/xrays/a{separator}{formula}.png")]})
    parts = (tmp_path / "left_out.csv").read_text().splitlines()[1].split(separator)
    assert len(parts) == 2
    assert not [part for part in parts if part.strip(' "')[:1] in ("=", "+", "-", "@")]


def test_left_out_files_by_their_reason(tmp_path):
    write_left_out(tmp_path, {"hidden": [Path("/a/.b.png")], "link to nothing": [Path(os.fsdecode(b"/M\xfcller"))]})
    with (tmp_path / "left_out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [["path", "reason"], ["/a/.b.png", "hidden"], ["/M\\xfcller", "link to nothing"]]


@pytest.mark.parametrize("cell", ["", "a=1", " =1", "1-2", "a; b", "a;b-c", "/x;y/z=1.png", -0.5, 3, None])
def test_all_else_stays(cell):
    assert escape_csv_formula(cell) == cell
