"""The page of monitoring and its CSV file."""

from __future__ import annotations

import csv
import io

import pytest

from anomalib_cxr.screening.monitoring.monitor import MonitorSettings, monitor_worklist
from anomalib_cxr.web.accounts import Accounts, Role


def test_drift_is_said_and_marked(browse, fill_worklist):
    text = browse(fill_worklist(gray=-0.08)).get("/monitor").text
    assert "Drift: the calibration no longer describes the X-rays that come in." in text
    assert 'class="state drift"' in text
    assert 'class="figure drift"' in text
    assert text.count("<polyline") == 6
    assert "does not exclude disease" in text


def test_no_drift(browse, fill_worklist):
    worklist = fill_worklist()
    text = browse(worklist).get("/monitor").text
    assert "No drift" in text
    assert 'class="figure drift"' not in text
    for by in ("Week of 2026-01-26", "Machine DICOM DX, ACME X-100", "View AP"):
        assert by in text


def test_weeks_are_those_of_the_address(browse, fill_worklist):
    worklist = fill_worklist()
    client = browse(worklist)
    for weeks in (1, 2, 0):
        result = monitor_worklist(worklist, MonitorSettings(weeks))
        assert f"{result.n} X-rays from {result.first} to {result.last}" in client.get(f"/monitor?weeks={weeks}").text
    assert client.get("/monitor?weeks=-1").status_code == 404


def test_csv_is_that_of_the_command(browse, fill_worklist):
    worklist = fill_worklist(n=120)
    answer = browse(worklist).get("/monitor.csv?weeks=2")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    result = monitor_worklist(worklist, MonitorSettings(2))
    assert [(row["figure"], row["n"]) for row in rows] == [(each.figure, str(each.n)) for each in result.comparisons]


def test_too_few(browse, fill_worklist):
    text = browse(fill_worklist(n=10)).get("/monitor").text
    assert "Too few X-rays to tell" in text
    assert "<polyline" not in text


def test_a_worklist_without_reference(client):
    """As one of an older version: the page says what to do."""
    answer = client.get("/monitor")
    assert answer.status_code == 200
    assert "calibrate it anew" in answer.text


def test_markup_in_a_machine_is_text(browse, fill_worklist):
    worklist = fill_worklist(n=60)
    with worklist._database.open() as connection:
        connection.execute("UPDATE cases SET source = '<script>alert(1)</script>' WHERE id = 1")
    assert "<script>alert" not in browse(worklist).get("/monitor").text


@pytest.mark.parametrize(("role", "status"), [(Role.READER, 403), (Role.ADMIN, 200)])
@pytest.mark.parametrize("page", ["/monitor", "/monitor.csv"])
def test_is_for_admins(browse, fill_worklist, role, status, page):
    worklist = fill_worklist(n=60)
    accounts = Accounts(worklist.folder)
    accounts.add("Ada", role, "a password of hers")
    client = browse(worklist, accounts=accounts)
    client.submit("/login", "/login", name="Ada", password="a password of hers")  # noqa: S106
    assert client.get(page).status_code == status
