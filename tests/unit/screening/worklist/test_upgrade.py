"""Upgrade of a worklist of format 5, which a former version made of phantoms."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from filelock import FileLock

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.case import Decision, Verdict
from anomalib_cxr.screening.worklist.database import DATABASE
from anomalib_cxr.screening.worklist.lock import LOCK
from anomalib_cxr.screening.worklist.migrations import FORMAT
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.screening.worklist.upgrade import upgrade_worklist

FORMAT_5 = Path(__file__).resolve().parents[3] / "fixtures" / "worklist_format_5"
OWN = {"cases": "id", "verdicts": "id"}


def rows(file, table):
    with sqlite3.connect(file) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY id")]  # noqa: S608


def schema(file):
    """Columns of each table with type and whether they may be null, and the indexes."""
    with sqlite3.connect(file) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {
            table: {column[1:4] for column in connection.execute(f"PRAGMA table_info({table})")} for table in tables
        }
        indexes = set(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index'"))
    return columns, indexes


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copytree(FORMAT_5, tmp_path / "old"))


@pytest.mark.parametrize("create", [True, False])
def test_is_asked_for(old, create):
    before = (old / DATABASE).read_bytes()
    with pytest.raises(ScreeningError, match=rf"format 5, of an older version\n.*format {FORMAT}\n.*upgrade {old}"):
        Worklist(old, create=create)
    assert (old / DATABASE).read_bytes() == before


def test_keeps_everything(old):
    before = {table: rows(old / DATABASE, table) for table in OWN}
    assert len(before["cases"]) == 7
    assert len(before["verdicts"]) == 4
    assert upgrade_worklist(old) == (5, FORMAT)
    for table, kept in before.items():
        after = rows(old / DATABASE, table)
        assert [{name: row[name] for name in kept[0]} for row in after] == kept
    worklist = Worklist(old)
    assert worklist.counts() == {Decision.BELOW_THRESHOLD: 0, Decision.TO_READ: 5, Decision.REFUSED: 1}
    assert worklist.counts() == {decision: len(worklist_of(worklist, decision)) for decision in Decision}
    replaced = worklist.number_of("/xrays/replaced.png")
    ((number, former),) = worklist.earlier(replaced)
    assert former.superseded
    assert [record.verdict for record in worklist.verdicts(number)] == [Verdict.UNSURE]
    sent = worklist.case(worklist.number_of("/xrays/sent.dcm"))
    assert (sent.patient_name, sent.view, sent.taken, sent.lung_gray) == ("PHANTOM^0002", "", "", None)
    assert worklist.reference() is None


def worklist_of(worklist, decision):
    return [case for case in worklist.cases() if case.decision is decision]


def test_is_as_a_new_one(old, tmp_path):
    """Tables, columns and indexes are those that this version creates."""
    upgrade_worklist(old)
    Worklist(tmp_path / "new", create=True)
    assert schema(old / DATABASE) == schema(tmp_path / "new" / DATABASE)


def test_takes_new_rows_and_verdicts(old):
    upgrade_worklist(old)
    worklist = Worklist(old)
    case = worklist.case(1)
    worklist.add([case])
    worklist.give_verdict(1, Verdict.NORMAL, "Cy", content=case.content)
    assert [record.reader for record in worklist.verdicts(1)] == ["Cy"]


def test_again_changes_nothing(old):
    upgrade_worklist(old)
    before = rows(old / DATABASE, "cases")
    assert upgrade_worklist(old) == (FORMAT, FORMAT)
    assert rows(old / DATABASE, "cases") == before


class TestRefused:
    @pytest.mark.parametrize("version", [4, FORMAT + 1])
    def test_of_an_unknown_format(self, old, version):
        with sqlite3.connect(old / DATABASE) as connection:
            connection.execute(f"PRAGMA user_version = {version}")
        with pytest.raises(ScreeningError, match=f"format {version}\n.*format {FORMAT}"):
            upgrade_worklist(old)

    def test_while_a_screening_writes(self, old):
        with FileLock(old / LOCK), pytest.raises(ScreeningError, match="another screening writes there"):
            upgrade_worklist(old)
        with pytest.raises(ScreeningError, match="format 5"):
            Worklist(old)

    def test_halfway_leaves_the_old_format(self, old):
        """A step that fails undoes those before it."""
        with sqlite3.connect(old / DATABASE) as connection:
            connection.execute("CREATE TABLE reference (other TEXT)")
        before = schema(old / DATABASE)
        with pytest.raises(ScreeningError, match="reference"):
            upgrade_worklist(old)
        assert schema(old / DATABASE) == before
        with pytest.raises(ScreeningError, match="format 5"):
            Worklist(old)

    def test_no_worklist(self, tmp_path):
        with pytest.raises(ScreeningError, match=f"no {DATABASE}"):
            upgrade_worklist(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_damaged(self, old):
        content = bytearray((old / DATABASE).read_bytes())
        content[8192:12288] = bytes(4096)
        (old / DATABASE).write_bytes(content)
        with pytest.raises(ScreeningError, match=r"damaged|malformed"):
            upgrade_worklist(old)
