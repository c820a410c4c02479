"""The worklist on disk: one SQLite file that a crash leaves whole, with what was screened and what readers said of it.

`worklist.csv` and `worklist.json` are written from it. A row is there or is not: its pictures are written before it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.case import Case, Decision, Verdict

DATABASE = "worklist.sqlite"
UPLOADS = "uploads"
"""Folder in that of the worklist where the page puts what is sent to it."""
_FORMAT = 1  # counts up when an older version could not read the file
_COLUMNS = tuple(field.name for field in fields(Case))
_NUMBERS = {"size", "modified", "score", "threshold", "probability", "p_value", "age", "height", "width"}
_PARTS = ("COALESCE(probability, -1)", "COALESCE(score, -1)", "-id")  # refused cases, which have neither, come last
_RANK = ", ".join(_PARTS)
_FALLING = f"ORDER BY {', '.join(f'{part} DESC' for part in _PARTS)}"
_RISING = f"ORDER BY {_RANK}"
_SCHEMA = f"""
CREATE TABLE cases (
    id INTEGER PRIMARY KEY,
    {", ".join(f"{name} {'NUMERIC' if name in _NUMBERS else 'TEXT NOT NULL'}" for name in _COLUMNS)},
    UNIQUE (path)
);
CREATE INDEX by_rank ON cases ({_RANK});
CREATE INDEX by_decision ON cases (decision, {_RANK});
CREATE INDEX by_day ON cases (screened, decision);
CREATE TABLE verdicts (
    id INTEGER PRIMARY KEY,
    case_id INTEGER NOT NULL REFERENCES cases (id),
    verdict TEXT NOT NULL,
    note TEXT NOT NULL,
    reader TEXT NOT NULL,
    given TEXT NOT NULL
);
CREATE INDEX of_case ON verdicts (case_id, id);
PRAGMA user_version = {_FORMAT};
"""
_UPSERT = f"""
INSERT INTO cases ({", ".join(_COLUMNS)}) VALUES ({", ".join("?" * len(_COLUMNS))})
ON CONFLICT (path) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])}
"""  # noqa: S608  # the names are those of a dataclass


class Given(NamedTuple):
    """A verdict as it was given."""

    case_id: int
    verdict: Verdict
    note: str
    reader: str
    given: str
    """When, UTC, ISO 8601."""


class Agreement(NamedTuple):
    """How many cases of a decision got a verdict; of each case and reader the last one counts."""

    decision: Decision
    verdict: Verdict
    cases: int


@dataclass(frozen=True)
class Query:
    """Which cases are asked for.

    Args:
        decision: Only those with this decision; None for all.
        search: Only those whose path or UIDs have this text in them; empty for all.
    """

    decision: Decision | None = None
    search: str = ""

    def condition(self) -> tuple[str, list[str]]:
        """Return the condition in SQL, and what stands for its question marks."""
        parts, values = ["1"], []
        if self.decision is not None:
            parts.append("decision = ?")
            values.append(self.decision.value)
        if self.search:
            escaped = self.search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            parts.append("(path LIKE ? ESCAPE '\\' OR study_uid LIKE ? ESCAPE '\\' OR sop_uid LIKE ? ESCAPE '\\')")
            values += [f"%{escaped}%"] * 3
        return " AND ".join(parts), values


EVERYTHING = Query()


class Worklist:
    """The worklist in a folder. Each call opens the file anew, so that threads and processes may share it.

    Args:
        folder: The folder of the worklist.
        create: Make folder and file where there are none.

    Raises:
        ScreeningError: If there is no worklist, one of another version, or a file that is none.

    Example:
        >>> from tempfile import mkdtemp
        >>> worklist = Worklist(Path(mkdtemp()), create=True)
        >>> worklist.add([Case("/a.png", 1, 1, Decision.TO_READ, score=0.7, probability=0.2)])
        >>> [(number, case.path) for number, case in worklist.find()], worklist.count()
        ([(1, '/a.png')], 1)
    """

    def __init__(self, folder: Path | str, *, create: bool = False) -> None:
        self.folder = Path(folder)
        self.file = self.folder / DATABASE
        if create:
            self._create()
        elif not self.file.is_file():
            raise ScreeningError(
                f"no {DATABASE} in {self.folder}", "a folder that was screened into", "run `anomalib-cxr screen` first"
            )
        with self._open() as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
        if version != _FORMAT:
            raise ScreeningError(
                f"{self.file}: format {version}", f"format {_FORMAT}", "use the version of anomalib_cxr that made it"
            )

    def _create(self) -> None:
        """Make the tables, unless they are there; of several processes at once, one makes them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f".{DATABASE}.lock"), self._open() as database:
            if not database.execute("PRAGMA user_version").fetchone()[0]:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("BEGIN")
                for command in _SCHEMA.split(";"):
                    database.execute(command)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection whose changes are kept whole, or not at all where the block raises."""
        try:
            database = sqlite3.connect(self.file, timeout=60)
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        try:
            database.execute("PRAGMA synchronous = FULL")  # a verdict survives a power cut
            with database:
                yield database
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        finally:
            database.close()

    def _unusable(self, error: sqlite3.Error) -> ScreeningError:
        return ScreeningError(
            f"{self.file}: {error}",
            "a worklist that can be read and written, with space left on the disk",
            "free space, or take another folder; rows that were written before are kept",
        )

    def add(self, cases: Iterable[Case]) -> None:
        """Write cases, all or none; one whose path is known replaces the former, and keeps its number and verdicts."""
        rows = [tuple(getattr(part, "value", part) for part in astuple(case)) for case in cases]
        with self._open() as database:
            database.executemany(_UPSERT, rows)

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Return size and time of change of each file that is in the list, by its path."""
        with self._open() as database:
            rows = database.execute("SELECT path, size, modified FROM cases").fetchall()
        return {path: (size, modified) for path, size, modified in rows}

    def models(self) -> set[str]:
        """Return the hashes of the models that scored what is in the list."""
        with self._open() as database:
            return {model for (model,) in database.execute("SELECT DISTINCT model FROM cases")}

    def case(self, number: int) -> Case | None:
        """Return a case by its number; None where there is none."""
        with self._open() as database:
            row = database.execute(f"SELECT {', '.join(_COLUMNS)} FROM cases WHERE id = ?", [number]).fetchone()  # noqa: S608
        return None if row is None else _case(row)

    def number_of(self, path: Path | str) -> int | None:
        """Return the number of the case of a file; None where there is none."""
        with self._open() as database:
            row = database.execute("SELECT id FROM cases WHERE path = ?", [str(path)]).fetchone()
        return None if row is None else int(row[0])

    def find(self, query: Query = EVERYTHING, limit: int = -1, offset: int = 0) -> list[tuple[int, Case]]:
        """Return cases with their numbers: the most probable disease first, what was refused last."""
        condition, values = query.condition()
        command = f"SELECT id, {', '.join(_COLUMNS)} FROM cases WHERE {condition} {_FALLING} LIMIT ? OFFSET ?"  # noqa: S608
        with self._open() as database:
            rows = database.execute(command, [*values, limit, offset]).fetchall()
        return [(number, _case(row)) for number, *row in rows]

    def cases(self) -> Iterator[Case]:
        """Yield all cases, the most probable disease first, one at a time, as they were when this began."""
        with self._open() as database:
            yield from map(_case, database.execute(f"SELECT {', '.join(_COLUMNS)} FROM cases {_FALLING}"))  # noqa: S608

    def first_unread(self, query: Query = EVERYTHING) -> int | None:
        """Return the number of the first case that has no verdict; None where all have one."""
        condition, values = query.condition()
        command = f"""
            SELECT id FROM cases
            WHERE {condition} AND NOT EXISTS (SELECT 1 FROM verdicts WHERE case_id = cases.id)
            {_FALLING} LIMIT 1"""  # noqa: S608
        with self._open() as database:
            row = database.execute(command, values).fetchone()
        return None if row is None else int(row[0])

    def count(self, query: Query = EVERYTHING) -> int:
        """Return how many cases a query has."""
        condition, values = query.condition()
        with self._open() as database:
            return int(database.execute(f"SELECT COUNT(*) FROM cases WHERE {condition}", values).fetchone()[0])  # noqa: S608

    def beside(self, number: int, query: Query = EVERYTHING) -> tuple[int | None, int | None]:
        """Return the numbers of the cases before and after one in the order of a query; None at either end.

        The case need not be in the query: what counts is its place.
        """
        condition, values = query.condition()
        here = f"(SELECT {_RANK} FROM cases WHERE id = ?)"  # noqa: S608
        command = f"""
            SELECT
                (SELECT id FROM cases WHERE {condition} AND ({_RANK}) > {here} {_RISING} LIMIT 1),
                (SELECT id FROM cases WHERE {condition} AND ({_RANK}) < {here} {_FALLING} LIMIT 1)"""  # noqa: S608
        with self._open() as database:
            before, after = database.execute(command, [*values, number, *values, number]).fetchone()
        return before, after

    def counts(self, day: str = "") -> dict[Decision, int]:
        """Return how many cases have each decision.

        Args:
            day: Only those screened on this day, UTC, such as `2026-01-31`; empty for all.
        """
        with self._open() as database:
            rows = database.execute(
                "SELECT decision, COUNT(*) FROM cases WHERE screened BETWEEN ? AND ? GROUP BY decision",
                [day, f"{day}\uffff"],
            ).fetchall()
        found = {Decision(decision): int(count) for decision, count in rows}
        return {decision: found.get(decision, 0) for decision in Decision}

    def give_verdict(self, number: int, verdict: Verdict, reader: str, note: str = "") -> None:
        """Keep what a reader says of a case; earlier verdicts stay, too.

        Raises:
            ScreeningError: If there is no such case, or the reader has no name.
        """
        if self.case(number) is None or not reader.strip():
            raise ScreeningError(
                f"case {number}, reader {reader!r}", "a case of the worklist and a reader's name", "correct them"
            )
        given = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with self._open() as database:
            database.execute(
                "INSERT INTO verdicts (case_id, verdict, note, reader, given) VALUES (?, ?, ?, ?, ?)",
                [number, verdict.value, note, reader.strip(), given],
            )

    def verdicts(self, number: int | None = None) -> list[Given]:
        """Return all verdicts in the order in which they were given; those of one case where its number is given."""
        condition, values = ("1", []) if number is None else ("case_id = ?", [number])
        command = f"SELECT case_id, verdict, note, reader, given FROM verdicts WHERE {condition} ORDER BY id"  # noqa: S608
        with self._open() as database:
            rows = database.execute(command, values).fetchall()
        return [Given(case, Verdict(verdict), note, reader, given) for case, verdict, note, reader, given in rows]

    def latest_verdicts(self, numbers: Sequence[int]) -> dict[int, Given]:
        """Return the last verdict of each of these cases that has one."""
        marks = ", ".join("?" * len(numbers))
        command = f"""
            SELECT case_id, verdict, note, reader, given FROM verdicts
            WHERE id IN (SELECT MAX(id) FROM verdicts WHERE case_id IN ({marks}) GROUP BY case_id)"""  # noqa: S608
        with self._open() as database:
            rows = database.execute(command, list(numbers)).fetchall()
        return {case: Given(case, Verdict(verdict), note, reader, given) for case, verdict, note, reader, given in rows}

    def agreement(self) -> list[Agreement]:
        """Return how decisions and verdicts go together; of each case and reader the last verdict counts."""
        command = """
            SELECT decision, verdict, COUNT(*) FROM verdicts JOIN cases ON cases.id = case_id
            WHERE verdicts.id IN (SELECT MAX(id) FROM verdicts GROUP BY case_id, reader)
            GROUP BY decision, verdict ORDER BY decision, verdict"""
        with self._open() as database:
            rows = database.execute(command).fetchall()
        return [Agreement(Decision(decision), Verdict(verdict), int(count)) for decision, verdict, count in rows]


def _case(row: Sequence[Any]) -> Case:
    values = dict(zip(_COLUMNS, row, strict=True))
    return Case(**{**values, "decision": Decision(values["decision"])})
