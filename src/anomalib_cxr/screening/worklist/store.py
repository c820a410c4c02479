"""Worklist: screened cases in their order, and the readers' verdicts.

The tables `worklist.csv` and `worklist.json` are written from it. The images of a case are written before its row.
"""
# ruff: noqa: S608  # the names of columns are those of a dataclass; values are bound

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.case import Agreement, Case, Decision, Verdict, VerdictRecord

from .database import COLUMNS, SORT_KEYS, WorklistDatabase

UPLOADS = "uploads"
"""Subfolder for files that are sent from the browser."""
_SELECT = f"SELECT id, {', '.join(COLUMNS)} FROM cases"
_RANK = ", ".join(SORT_KEYS)
_FALLING = f"ORDER BY {', '.join(f'{key} DESC' for key in SORT_KEYS)}"
_UPSERT = f"""
INSERT INTO cases ({", ".join(COLUMNS)}) VALUES ({", ".join("?" * len(COLUMNS))})
ON CONFLICT (path) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])}
"""
_VERDICTS = "SELECT case_id, verdict, note, reader, given FROM verdicts"


@dataclass(frozen=True)
class CaseQuery:
    """Selection of cases.

    Args:
        decision: Only cases with this decision; None for all.
        search: Only cases with this text in their path or UIDs; empty for all.
    """

    decision: Decision | None = None
    search: str = ""

    def condition(self) -> tuple[str, list[str]]:
        """Return the condition in SQL, and the values to bind to its question marks."""
        parts, values = ["1"], []
        if self.decision is not None:
            parts.append("decision = ?")
            values.append(self.decision.value)
        if self.search:
            escaped = self.search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            parts.append("(path LIKE ? ESCAPE '\\' OR study_uid LIKE ? ESCAPE '\\' OR sop_uid LIKE ? ESCAPE '\\')")
            values += [f"%{escaped}%"] * 3
        return " AND ".join(parts), values


ALL_CASES = CaseQuery()


class Worklist:
    """Worklist in a folder; threads and processes may share it.

    Args:
        folder: Folder of the worklist.
        create: Create folder and file where they are missing.

    Raises:
        ScreeningError: If there is no worklist, one of another format, or another file in its place.

    Example:
        >>> from tempfile import mkdtemp
        >>> worklist = Worklist(Path(mkdtemp()), create=True)
        >>> worklist.add([Case("/a.png", 1, 1, Decision.TO_READ, score=0.7, probability=0.2)])
        >>> [(number, case.path) for number, case in worklist.find()], worklist.count()
        ([(1, '/a.png')], 1)
    """

    def __init__(self, folder: Path | str, *, create: bool = False) -> None:
        self.folder = Path(folder)
        self._database = WorklistDatabase(self.folder, create=create)

    @property
    def file(self) -> Path:
        """The SQLite file."""
        return self._database.file

    def add(self, cases: Iterable[Case]) -> None:
        """Write cases, all or none. A known path keeps its number and its verdicts.

        Args:
            cases: The cases.
        """
        rows = [tuple(getattr(value, "value", value) for value in astuple(case)) for case in cases]
        with self._database.open() as connection:
            connection.executemany(_UPSERT, rows)

    def fingerprints(self) -> dict[str, tuple[int, int]]:
        """Return size and time of change of each file in the worklist, by its path."""
        return {
            path: (size, modified)
            for path, size, modified in self._database.fetch("SELECT path, size, modified FROM cases")
        }

    def models(self) -> set[str]:
        """Return the hashes of the models that scored the cases."""
        return {model for (model,) in self._database.fetch("SELECT DISTINCT model FROM cases")}

    def case(self, number: int) -> Case | None:
        """Return a case by its number; None where there is none.

        Args:
            number: Number of the case.
        """
        rows = self._database.fetch(f"{_SELECT} WHERE id = ?", [number])
        return _case(rows[0]) if rows else None

    def number_of(self, path: Path | str) -> int | None:
        """Return the number of the case of a file; None where there is none.

        Args:
            path: The file, absolute.
        """
        rows = self._database.fetch("SELECT id FROM cases WHERE path = ?", [str(path)])
        return int(rows[0][0]) if rows else None

    def find(self, query: CaseQuery = ALL_CASES, limit: int = -1, offset: int = 0) -> list[tuple[int, Case]]:
        """Find cases, ordered by falling probability, refused ones last.

        Args:
            query: Selection of cases.
            limit: Number of cases at most; -1 for all.
            offset: Number of cases to skip.

        Returns:
            Numbers and cases.
        """
        condition, values = query.condition()
        rows = self._database.fetch(
            f"{_SELECT} WHERE {condition} {_FALLING} LIMIT ? OFFSET ?", [*values, limit, offset]
        )
        return [(row[0], _case(row)) for row in rows]

    def cases(self) -> Iterator[Case]:
        """Iterate over all cases by falling probability, as they were when this began.

        Yields:
            One case at a time.
        """
        with self._database.open() as connection:
            yield from map(_case, connection.execute(f"{_SELECT} {_FALLING}"))

    def first_unread(self, query: CaseQuery = ALL_CASES) -> int | None:
        """Return the number of the first case without a verdict; None where all have one.

        Args:
            query: Selection of cases.
        """
        condition, values = query.condition()
        unread = "NOT EXISTS (SELECT 1 FROM verdicts WHERE case_id = cases.id)"
        rows = self._database.fetch(f"SELECT id FROM cases WHERE {condition} AND {unread} {_FALLING} LIMIT 1", values)
        return int(rows[0][0]) if rows else None

    def count(self, query: CaseQuery = ALL_CASES) -> int:
        """Return the number of cases in a selection.

        Args:
            query: Selection of cases.
        """
        condition, values = query.condition()
        ((count,),) = self._database.fetch(f"SELECT COUNT(*) FROM cases WHERE {condition}", values)
        return int(count)

    def neighbors(self, number: int, query: CaseQuery = ALL_CASES) -> tuple[int | None, int | None]:
        """Return the numbers of the cases before and after a case in the order of a selection.

        Args:
            number: Number of the case, which need not be in the selection.
            query: Selection of cases.

        Returns:
            The numbers; None at either end.
        """
        condition, values = query.condition()
        rank = f"(SELECT {_RANK} FROM cases WHERE id = ?)"
        ((before, after),) = self._database.fetch(
            f"""SELECT
                (SELECT id FROM cases WHERE {condition} AND ({_RANK}) > {rank} ORDER BY {_RANK} LIMIT 1),
                (SELECT id FROM cases WHERE {condition} AND ({_RANK}) < {rank} {_FALLING} LIMIT 1)""",
            [*values, number, *values, number],
        )
        return before, after

    def counts(self, day: str = "") -> dict[Decision, int]:
        """Return the number of cases by decision.

        Args:
            day: Only cases screened on this day, UTC, such as `2026-01-31`; empty for all.

        Returns:
            A number for each decision.
        """
        command = "SELECT decision, COUNT(*) FROM cases WHERE screened BETWEEN ? AND ? GROUP BY decision"
        counts = dict(self._database.fetch(command, [day, f"{day}\uffff"]))
        return {decision: int(counts.get(decision.value, 0)) for decision in Decision}

    def give_verdict(self, number: int, verdict: Verdict, reader: str, note: str = "") -> None:
        """Store the verdict of a reader; earlier verdicts are kept.

        Args:
            number: Number of the case.
            verdict: The verdict.
            reader: Name of the reader.
            note: Note of the reader.

        Raises:
            ScreeningError: If there is no such case, or the reader has no name.
        """
        if self.case(number) is None or not reader.strip():
            raise ScreeningError(
                f"case {number}, reader {reader!r}", "a case of the worklist and a reader's name", "correct them"
            )
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with self._database.open() as connection:
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
        return [_verdict(row) for row in self._database.fetch(f"{_VERDICTS} WHERE {condition} ORDER BY id", values)]

    def latest_verdicts(self, numbers: Sequence[int]) -> dict[int, VerdictRecord]:
        """Return the last verdict of each case that has one.

        Args:
            numbers: Numbers of cases.

        Returns:
            Verdicts by the number of the case.
        """
        marks = ", ".join("?" * len(numbers))
        last = f"SELECT MAX(id) FROM verdicts WHERE case_id IN ({marks}) GROUP BY case_id"
        return {row[0]: _verdict(row) for row in self._database.fetch(f"{_VERDICTS} WHERE id IN ({last})", numbers)}

    def agreement(self) -> list[Agreement]:
        """Return the number of verdicts by decision; of each case and reader the last verdict counts."""
        rows = self._database.fetch(
            """SELECT decision, verdict, COUNT(*) FROM verdicts JOIN cases ON cases.id = case_id
            WHERE verdicts.id IN (SELECT MAX(id) FROM verdicts GROUP BY case_id, reader)
            GROUP BY decision, verdict ORDER BY decision, verdict"""
        )
        return [Agreement(Decision(decision), Verdict(verdict), int(count)) for decision, verdict, count in rows]


def _case(row: Sequence[Any]) -> Case:
    values = dict(zip(COLUMNS, row[1:], strict=True))
    return Case(**{**values, "decision": Decision(values["decision"])})


def _verdict(row: Sequence[Any]) -> VerdictRecord:
    number, verdict, *others = row
    return VerdictRecord(number, Verdict(verdict), *others)
