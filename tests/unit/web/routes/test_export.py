"""Verdicts as CSV, and agreement."""

from __future__ import annotations

import csv
import io

import pytest

from anomalib_cxr.screening.case import Case, Decision, Verdict


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


def test_empty(client):
    assert table(client) == []


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r="])
def test_cells_that_a_spreadsheet_would_compute(client, worklist, start):
    worklist.add([Case(f"{start}x.png", 1, 1, Decision.TO_READ, study_uid=f"{start}1")])
    worklist.give_verdict(5, Verdict.NORMAL, f"{start}SUM(A1)", f"{start}cmd", content="")
    (row,) = table(client)
    assert (row["path"], row["study_uid"], row["note"]) == (f"'{start}x.png", f"'{start}1", f"'{start}cmd")
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
