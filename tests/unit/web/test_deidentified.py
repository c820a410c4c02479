"""Export of chosen cases: all files of the archive, and what is not in them."""

from __future__ import annotations

import io
import json
import stat
import zipfile

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tests.unit.screening.worklist.test_deidentified_dicom import saved, xray
from tests.unit.web.conftest import rescreened

from anomalib_cxr.cli import main
from anomalib_cxr.screening.case import Case, Decision, Verdict
from anomalib_cxr.web.audit import AuditLog


@pytest.fixture
def named(worklist):
    """Case 1 with a name in its picture's metadata, verdicts with names, and case 5, a DICOM file."""
    path = worklist.case(1).file
    information = PngImagePlugin.PngInfo()
    information.add_text("Patient", "Doe")
    Image.open(path).save(path, pnginfo=information)
    assert b"Doe" in path.read_bytes()
    worklist.add([rescreened(worklist.case(1))])
    number = worklist.number_of(path)
    content = worklist.case(number).content
    for reader, verdict in [("Dr. Ada", Verdict.NORMAL), ("Dr. Bob", Verdict.UNSURE), ("Dr. Ada", Verdict.ABNORMAL)]:
        worklist.give_verdict(number, verdict, reader, "Mr. Doe", content=content)
    dicom = saved(xray(), worklist.folder, "Doe.dcm")
    facts = {"patient_name": "Doe^John", "age": 94.0, "source": "DICOM DX, Doe", "study_uid": "1.2.3.4"}
    worklist.add([rescreened(Case(str(dicom), 1, 1, Decision.REFUSED, why="Doe", **facts))])
    return worklist, number, worklist.number_of(dicom)


def files_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_files_and_what_is_not_in_them(browse, named):
    worklist, picture, dicom = named
    answer = browse(worklist).submit("/deidentified", cases=f"{dicom}, {picture} {dicom}")
    assert answer.status_code == 200
    files = files_of(answer.content)
    assert set(files) == {
        "README.txt",
        *(f"case-0001/{name}" for name in ("xray.dcm", "result.json")),
        *(f"case-0002/{name}" for name in ("xray.png", "heatmap.png", "result.json")),
    }
    for words in (b"Doe", b"Ada", b"Bob", b"images/", str(worklist.folder).encode(), b"1.2.3.4", b"2026-01-31"):
        assert [name for name, content in files.items() if words in content] == []
    result = json.loads(files["case-0002/result.json"])
    assert result["verdicts"] == [
        {"reader": "reader 1", "verdict": "normal"},
        {"reader": "reader 2", "verdict": "unsure"},
        {"reader": "reader 1", "verdict": "abnormal"},
    ]
    assert (result["decision"], result["probability"]) == ("to be read", 0.9)
    assert json.loads(files["case-0001/result.json"])["age"] == 90
    gray = np.asarray(Image.open(io.BytesIO(files["case-0002/xray.png"])))
    assert np.array_equal(gray, np.asarray(Image.open(worklist.case(picture).file)).astype(int) * 257)
    assert "NOT TAKEN OUT: text that is burnt into the pixels" in files["README.txt"].decode()


def test_all_cases_that_cannot_be_exported_are_named_and_nothing_is_left(browse, named):
    worklist, picture, _ = named
    worklist.case(2).file.unlink()
    before = sorted(worklist.folder.iterdir())
    client = browse(worklist)
    answer = client.submit("/deidentified", cases=f"{picture}, 2, 4, 99")
    assert answer.status_code == 422
    assert all(f"case {number}: " in answer.text for number in (2, 4, 99))
    assert f"case {picture}:" not in answer.text
    assert set(worklist.folder.iterdir()) - set(before) <= {
        worklist.folder / "audit.jsonl",
        worklist.folder / ".audit.jsonl.lock",
    }


@pytest.mark.parametrize("cases", ["", "a", "1;2", "-1", "1.5", "٣", "9" * 16])
def test_numbers_that_are_none(client, cases):
    assert client.submit("/deidentified", cases=cases).status_code == 400


def test_too_many(client):
    answer = client.submit("/deidentified", cases=" ".join(map(str, range(1, 1002))))
    assert answer.status_code == 422
    assert "1001 cases" in answer.text


def test_is_for_admins_and_logged(outside, worklist):
    outside.sign_in("Ada")
    assert "/deidentified" not in outside.get("/").text
    assert outside.submit("/deidentified", cases="1").status_code == 403
    outside.submit("/logout")
    outside.sign_in("Root")
    assert "/deidentified" in outside.get("/").text
    assert outside.submit("/deidentified", cases="3,1").status_code == 200
    last = list(AuditLog(worklist.folder).verified())[-1]
    assert (last.who, last.action.value, last.cases, last.detail) == ("Root", "exported", (3, 1), "de-identified cases")


def test_verb(named, tmp_path, capsys):
    worklist, picture, dicom = named
    output = tmp_path / "new" / "cases.zip"
    words = ["deidentify", "--worklist", str(worklist.folder), "--output", str(output)]
    main([*words, "--cases", f"{picture},{dicom}"])
    assert "case-0002/xray.dcm" in files_of(output.read_bytes())
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    before = output.read_bytes()
    for cases in ([], ["--cases", "99"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, *cases])
        assert ended.value.code == 1
    assert "case 99: no such case" in capsys.readouterr().err
    assert output.read_bytes() == before
