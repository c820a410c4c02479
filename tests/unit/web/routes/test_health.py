"""State of the server."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from anomalib_cxr.screening.worklist.store import Worklist


def test_is_told_without_sign_in_and_nothing_else(outside):
    answer = outside.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "Set-Cookie" not in answer.headers


def test_of_an_empty_worklist(browse, tmp_path):
    assert browse(Worklist(tmp_path, create=True)).get("/health").json() == {"status": "ok"}


def test_of_one_that_is_locked_for_reading(browse, worklist):
    patient = Worklist(worklist.folder, wait=0.2)
    with closing(sqlite3.connect(worklist.file)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("DELETE FROM verdicts")
        answer = browse(patient).get("/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})
    assert browse(patient).get("/health").status_code == 200


def test_of_one_that_went_away(browse, worklist):
    client = browse(worklist)
    for file in worklist.folder.glob("worklist.sqlite*"):
        file.unlink()
    assert client.get("/health").status_code == 503


def test_another_site_cannot_ask(client):
    assert client.get("/health", headers={"Host": "attacker.example"}).status_code == 400
