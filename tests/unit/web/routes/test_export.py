"""Verdicts as CSV, and agreement."""

from __future__ import annotations

import csv
import io
import sqlite3
from contextlib import ExitStack, closing
from dataclasses import replace

import httpx
import pytest

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.case import Case, Decision, Verdict
from anomalib_cxr.web.app import create_app


def table(client):
    answer = client.get("/verdicts.csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def test_all_verdicts_with_their_cases(client, worklist):
    client.give(1, "abnormal", "seen, twice\nat least", "Ada")
    client.give(4, "unsure", "", "Bo")
    client.give(1, "normal", 'no "finding"', "Bo")
    rows = table(client)
    assert [(row["case"], row["verdict"], row["reader"]) for row in rows] == [
        ("1", "abnormal", "Ada"),
        ("4", "unsure", "Bo"),
        ("1", "normal", "Bo"),
    ]
    case = worklist.case(1)
    assert rows[0]["note"].split() == ["seen,", "twice", "at", "least"]
    assert rows[2]["note"] == 'no "finding"'
    for name in ("path", "study_uid", "sop_uid"):
        assert rows[0][name] == getattr(case, name)
    assert (float(rows[0]["probability"]), float(rows[0]["score"])) == (case.probability, case.score)
    assert rows[0]["decision"] == "to be read"
    assert rows[1]["decision"] == "refused: not a chest <X-ray>"
    assert rows[1]["probability"] == ""


def test_a_verdict_on_an_xray_that_was_replaced_keeps_its_own_case(client, worklist):
    former = worklist.case(1)
    client.give(1, "abnormal", "", "Ada")
    worklist.add([replace(former, content="0" * 64, score=0.2)])
    client.give(5, "normal", "", "Bo")
    first, second = table(client)
    assert (first["case"], first["content"], float(first["score"])) == ("1", former.content, former.score)
    assert first["superseded"]
    assert (second["case"], second["content"], float(second["score"])) == ("5", "0" * 64, 0.2)
    assert second["superseded"] == ""


def test_is_a_snapshot_from_whichever_threads_it_is_sent(worklist, listening):
    """Verdicts and another screening come while it is sent, to several browsers at once."""
    rows = [(1 + number % 3, "normal", "x" * 300, "Ada", "2026-01-31T10:00:00+00:00") for number in range(3000)]
    with closing(sqlite3.connect(worklist.file)) as database, database:
        database.executemany(
            "INSERT INTO verdicts (case_id, verdict, note, reader, given) VALUES (?, ?, ?, ?, ?)", rows
        )
    with listening(create_app(worklist)) as port, ExitStack() as stack:
        client = stack.enter_context(httpx.Client(base_url=f"http://localhost:{port}", timeout=60))
        answers = [stack.enter_context(client.stream("GET", "/verdicts.csv")) for _ in range(8)]
        chunks = [answer.iter_text() for answer in answers]
        begun = [next(each) for each in chunks]
        worklist.add([replace(worklist.case(1), content="0" * 64)])
        worklist.give_verdict(2, Verdict.UNSURE, "Bo", content=worklist.case(2).content)
        texts = [start + "".join(rest) for start, rest in zip(begun, chunks, strict=True)]
        later = client.get("/verdicts.csv").text
    rows = list(csv.DictReader(io.StringIO(texts[0], newline="")))
    assert texts == texts[:1] * 8
    assert [row["reader"] for row in rows] == ["Ada"] * 3000
    assert {row["superseded"] for row in rows} == {""}
    assert [row["reader"] for row in csv.DictReader(io.StringIO(later, newline=""))] == ["Ada"] * 3000 + ["Bo"]


def test_that_fails_is_told_in_place_of_half_a_table(client, worklist, monkeypatch):
    client.give(1)

    def fail():
        yield from ()
        raise ScreeningError("a disk", "another", "change it")

    monkeypatch.setattr(worklist, "verdicts_with_cases", fail)
    answer = client.get("/verdicts.csv")
    assert answer.status_code == 503
    assert "cannot be used" in answer.text


def test_empty(client):
    assert table(client) == []


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r="])
def test_cells_that_a_spreadsheet_would_compute(client, worklist, start):
    worklist.add([Case(f"{start}x.png", 1, 1, Decision.TO_READ, study_uid=f"{start}1")])
    worklist.give_verdict(5, Verdict.NORMAL, f"{start}SUM(A1)", f"{start}cmd", content="")
    (row,) = table(client)
    safe = f"'{start}".replace("\t=", "\t'=")  # a tab separates cells where a spreadsheet is told so
    assert (row["path"], row["study_uid"], row["note"]) == (f"{safe}x.png", f"{safe}1", f"{safe}cmd")
    assert row["reader"] == f"'{f'{start}SUM(A1)'.strip()}"


def test_no_name_of_a_patient(client, worklist):
    worklist.add([Case("/p.png", 1, 1, Decision.TO_READ, patient_name="DOE^JANE", patient_id="4711")])
    worklist.give_verdict(5, Verdict.NORMAL, "Ada", content="")
    for path in ("/verdicts.csv", "/?decision=all", "/case/5"):
        text = client.get(path).text
        assert "DOE" not in text
        assert "4711" not in text


class TestAgreement:
    def test_none_yet(self, client):
        assert "No verdict has been given yet" in client.get("/agreement").text

    def test_last_verdict_of_each_reader_counts(self, client, worklist):
        for number, verdict, reader in [
            (3, Verdict.NORMAL, "Ada"),
            (3, Verdict.ABNORMAL, "Ada"),
            (3, Verdict.NORMAL, "Bo"),
            (3, Verdict.UNSURE, "Cy"),
            (3, Verdict.NORMAL, "Di"),
            (1, Verdict.ABNORMAL, "Ada"),
        ]:
            worklist.give_verdict(number, verdict, reader, content=worklist.case(number).content)
        text = client.get("/agreement").text
        # Wilson's interval of 1 in 4 is 4.6 % to 69.9 %.
        expected = "readers called 1 of 4 abnormal (25 %; 95 % interval 4.6 % to 70 %) and were unsure of 1."
        assert f"Below the calibrated threshold: {expected}" in text
        assert "To be read: readers called 1 of 1 abnormal" in text
        assert "Refused: readers" not in text
