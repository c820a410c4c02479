"""Counts and searches of the pages, against the rows themselves."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timezone

import pytest

from anomalib_cxr.screening.case import Decision
from anomalib_cxr.screening.worklist.database import DATABASE
from anomalib_cxr.screening.worklist.purge import purge_worklist
from anomalib_cxr.screening.worklist.store import CaseQuery, Worklist

QUERIES = [
    CaseQuery(decision, search)
    for decision in (None, *Decision)
    for search in ("", "a", "xr", "xray", "b-1.png", "\0", "no such")
]


@pytest.fixture
def worklist(tmp_path, case_of):
    """Cases of all decisions and several equal scores, of which two were screened again with another content."""
    worklist = Worklist(tmp_path / "out", create=True)
    scores = [None, 0.1, 0.2, 0.2, 0.7, 0.9, 0.9]
    cases = [case_of(f"{'ab'[number % 2]}-{number}", score) for number, score in enumerate(scores)]
    worklist.add(cases)
    worklist.add([case_of("b-1", 0.8, content="other"), case_of("a-4", content="other")])
    worklist.add([case_of("a-6", 0.3)])  # the same content with another decision
    return worklist


def expected(worklist, query):
    """Numbers of a query in their order, by a look at every row."""
    return [
        number
        for number, case in worklist.find()
        if query.decision in {None, case.decision} and query.search in case.path
    ]


def without_index(file):
    """Make a worklist one of an earlier version."""
    with sqlite3.connect(file) as connection:
        for trigger in ("row_added", "row_counted", "text_changed"):
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute("DROP TABLE totals")
        connection.execute("DROP TABLE search_trigrams")


def assert_right(worklist):
    for query in QUERIES:
        numbers = expected(worklist, query)
        assert [number for number, _ in worklist.find(query)] == numbers, query
        assert [number for number, _ in worklist.find(query, 2, 1)] == numbers[1:3], query
        assert worklist.count(query) == len(numbers), query
        assert worklist.first_unread(query) == (numbers[0] if numbers else None), query
        for before, here, after in zip([None, *numbers], numbers, [*numbers[1:], None], strict=False):
            assert worklist.neighbors(here, query) == (before, after), query


def test_queries(worklist):
    assert_right(worklist)


def test_neighbors_of_a_case_outside_of_the_query(worklist):
    order = [number for number, _ in worklist.find()]
    for query in QUERIES:
        numbers = expected(worklist, query)
        for place, outside in enumerate(order):
            before = [number for number in order[:place] if number in numbers]
            after = [number for number in order[place + 1 :] if number in numbers]
            found = (before[-1] if before else None, after[0] if after else None)
            assert worklist.neighbors(outside, query) == found, query


def test_a_worklist_of_an_earlier_version_gets_its_index(worklist, case_of):
    counts = worklist.counts()
    without_index(worklist.folder / DATABASE)
    opened = Worklist(worklist.folder)
    assert opened.counts() == counts
    opened.add([case_of("b-9", 0.95)])
    assert opened.counts()[Decision.TO_READ] == counts[Decision.TO_READ] + 1
    assert_right(opened)


def test_a_purge_leaves_no_trigram(worklist):
    purge_worklist(worklist.folder, days=1, now=datetime(2100, 1, 1, tzinfo=timezone.utc))
    assert worklist.counts() == dict.fromkeys(Decision, 0)
    with sqlite3.connect(worklist.folder / DATABASE) as connection:
        (found,) = connection.execute("SELECT COUNT(*) FROM search_trigrams WHERE search_trigrams MATCH '\"xra\"'")
    assert found == (0,)
    assert b"xra" not in (worklist.folder / DATABASE).read_bytes()
