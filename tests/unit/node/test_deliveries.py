"""Queue of results in the database of a worklist."""

from __future__ import annotations

import pytest

from anomalib_cxr.node.deliveries import DeliveryStore, State, describe_deliveries
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.worklist.store import Worklist


def scored(name, folder="/received/", **facts):
    known = {"decision": Decision.TO_READ, "score": 0.5, "content": name, "model": "m", "calibration": "c"}
    return Case(f"{folder}{name}.dcm", 1, 1, **{**known, "source": "DICOM DX, ACME", **facts})


@pytest.fixture
def worklist(tmp_path):
    worklist = Worklist(tmp_path / "out", create=True)
    refused = {"decision": Decision.REFUSED, "score": None, "why": "blank", "source": "DICOM OT, ACME"}
    worklist.add([scored("a"), scored("b"), scored("no", **refused), scored("other", "/inbox/")])
    return worklist


@pytest.fixture
def store(worklist):
    return DeliveryStore(worklist)


def states(store):
    return [(each.case_id, each.destination, each.state) for each in store.all()]


def test_scored_cases_of_the_folder_are_queued_once_for_each_destination(store):
    assert store.enqueue(["PACS", "folder"], "/received/") == 4
    assert store.enqueue(["PACS", "folder"], "/received/") == 0
    assert states(store) == [(n, name, State.WAITING) for name in ("PACS", "folder") for n in (1, 2)]


def test_a_result_that_changes_is_queued_again_and_one_that_does_not_is_not(store, worklist):
    store.enqueue(["PACS"], "/received/")
    worklist.add([scored("a", screened="2026-02-02T10:00:00+00:00")])
    assert store.enqueue(["PACS"], "/received/") == 0
    worklist.add([scored("a", decision=Decision.BELOW_THRESHOLD)])
    assert store.enqueue(["PACS"], "/received/") == 1


def test_the_number_of_a_purged_case_is_given_to_another_one(store, worklist):
    """As SQLite does: what was sent of the former case says nothing about the new one."""
    store.enqueue(["PACS"], "/received/")
    store.sent([delivery.number for delivery in store.all()])
    with worklist._database.open() as connection:
        connection.execute("DELETE FROM cases")
    worklist.add([scored("new")])
    assert store.enqueue(["PACS"], "/received/") == 1
    ((_, case),) = store.due("PACS", now=1.0)
    assert case.content == "new"


def test_what_waits_for_a_purged_case_is_taken_out(store, worklist):
    store.enqueue(["PACS"], "/received/")
    with worklist._database.open() as connection:
        connection.execute("DELETE FROM cases WHERE content = 'a'")
    store.enqueue(["PACS"], "/received/")
    assert [delivery.case_id for delivery in store.all()] == [2]


def test_a_replaced_xray_is_queued_as_a_case_of_its_own(store, worklist):
    store.enqueue(["PACS"], "/received/")
    worklist.add([scored("a", content="corrected")])
    assert store.enqueue(["PACS"], "/received/") == 1


def test_what_is_due(store):
    store.enqueue(["PACS"], "/received/")
    (first, case), (second, _) = store.due("PACS", now=1.0)
    assert case.content == "a"
    store.failed([first.number], "no answer", due=60.0)
    store.sent([second.number])
    assert store.due("PACS", now=59.0) == []
    ((again, _),) = store.due("PACS", now=60.0)
    assert (again.number, again.attempts, again.error) == (first.number, 1, "no answer")


def test_dead_letters_are_kept_told_and_revived(store, worklist):
    store.enqueue(["PACS"], "/received/")
    (first, _), (second, _) = store.due("PACS", now=1.0)
    store.failed([first.number], "status A900", due=None)
    store.failed([second.number], "no answer", due=9e9)
    assert store.due("PACS", now=8e9) == []
    other = DeliveryStore(worklist)  # as after a restart
    assert describe_deliveries(other).splitlines() == [
        "PACS: 1 dead",
        "PACS: 1 waiting",
        "case 1 to PACS: not sent after 1 attempts: status A900",
        "case 2 to PACS: waits after 1 attempts: no answer",
    ]
    assert other.revive() == 1
    assert len(store.due("PACS", now=1.0)) == 1


def test_a_worklist_without_a_queue(store):
    assert describe_deliveries(store) == "no results to send"
