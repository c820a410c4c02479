"""The readers' verdicts on the cases of a worklist."""
# ruff: noqa: S608  # values are bound

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from anomalib_cxr.errors import ChangedCaseError, ScreeningError
from anomalib_cxr.screening.case import Agreement, Decision, Verdict, VerdictRecord

from .database import WorklistDatabase

VERDICT_COLUMNS = "case_id, verdict, note, reader, given"
"""Columns of a verdict, as SQL."""
_VERDICTS = f"SELECT {VERDICT_COLUMNS} FROM verdicts"


class VerdictStore:
    """Verdicts in the database of a worklist. None is ever changed or deleted.

    Args:
        database: The database.
    """

    def __init__(self, database: WorklistDatabase) -> None:
        self._database = database

    def give_verdict(self, number: int, verdict: Verdict, reader: str, note: str = "", *, content: str) -> None:
        """Store the verdict of a reader; earlier verdicts are kept.

        Args:
            number: Number of the case.
            verdict: The verdict.
            reader: Name of the reader.
            note: Note of the reader.
            content: `Case.content` of the X-ray that the reader saw.

        Raises:
            ChangedCaseError: If the case has another content by now, as after the worklist was made anew, or is
                superseded: its file was replaced and screened again.
            ScreeningError: If there is no such case, or the reader has no name.
        """
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with self._database.open() as connection:
            connection.execute("BEGIN IMMEDIATE")  # the case cannot change between the check and the verdict
            found = connection.execute("SELECT content, superseded FROM cases WHERE id = ?", [number]).fetchone()
            if found is None or not reader.strip():
                raise ScreeningError(
                    f"case {number}, reader {reader!r}", "a case of the worklist and a reader's name", "correct them"
                )
            if tuple(found) != (content, ""):
                raise ChangedCaseError(
                    f"case {number} whose X-ray was replaced since it was shown",
                    "a verdict on the X-ray that was shown",
                    "open the case again, and look at the X-ray before giving a verdict",
                )
            connection.execute(
                "INSERT INTO verdicts (case_id, verdict, note, reader, given) VALUES (?, ?, ?, ?, ?)",
                [number, verdict.value, note, reader.strip(), time],
            )

    def verdicts(self, number: int | None = None) -> list[VerdictRecord]:
        """Return the verdicts in the order in which they were given.

        Args:
            number: Number of a case; None for the verdicts of all cases.

        Returns:
            The verdicts.
        """
        condition, values = ("1", []) if number is None else ("case_id = ?", [number])
        return [verdict_of(row) for row in self._database.fetch(f"{_VERDICTS} WHERE {condition} ORDER BY id", values)]

    def count_verdicts(self) -> int:
        """Return the number of all verdicts, earlier ones of a reader too."""
        ((count,),) = self._database.fetch("SELECT COUNT(*) FROM verdicts")
        return int(count)

    def latest_verdicts(self, numbers: Sequence[int]) -> dict[int, VerdictRecord]:
        """Return the last verdict of each case that has one.

        Args:
            numbers: Numbers of cases.

        Returns:
            Verdicts by the number of the case.
        """
        marks = ", ".join("?" * len(numbers))
        last = f"SELECT MAX(id) FROM verdicts WHERE case_id IN ({marks}) GROUP BY case_id"
        return {row[0]: verdict_of(row) for row in self._database.fetch(f"{_VERDICTS} WHERE id IN ({last})", numbers)}

    def agreement(self) -> list[Agreement]:
        """Return the number of verdicts by decision; of each case and reader the last verdict counts."""
        rows = self._database.fetch(
            """SELECT decision, verdict, COUNT(*) FROM verdicts JOIN cases ON cases.id = case_id
            WHERE verdicts.id IN (SELECT MAX(id) FROM verdicts GROUP BY case_id, reader)
            GROUP BY decision, verdict ORDER BY decision, verdict"""
        )
        return [Agreement(Decision(decision), Verdict(verdict), int(count)) for decision, verdict, count in rows]


def verdict_of(row: Sequence[Any]) -> VerdictRecord:
    """Return the verdict of a row with the `VERDICT_COLUMNS`.

    Args:
        row: The row.
    """
    number, verdict, *others = row
    return VerdictRecord(number, Verdict(verdict), *others)
