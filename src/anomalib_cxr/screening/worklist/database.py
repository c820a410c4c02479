"""SQLite file of a worklist: schema, format and connections.

A crash leaves the file consistent: what a connection writes is there whole or not at all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from filelock import FileLock

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.case import Case

DATABASE = "worklist.sqlite"
COLUMNS = tuple(field.name for field in fields(Case))
"""Columns of the table `cases` beside `id`."""
SORT_KEYS = ("COALESCE(probability, -1)", "COALESCE(score, -1)", "-id")  # refused cases have neither, and come last
"""Expressions by which cases are ordered, each falling."""
_FORMAT = 3  # to be raised when older code cannot read the file
_NUMBERS = frozenset(
    ("size", "modified", "score", "threshold", "probability", "p_value", "age", "height", "width", "sixteen_bit_white")
)
_RANK = ", ".join(SORT_KEYS)
_SCHEMA = f"""
CREATE TABLE cases (
    id INTEGER PRIMARY KEY,
    {", ".join(f"{name} {'NUMERIC' if name in _NUMBERS else 'TEXT NOT NULL'}" for name in COLUMNS)},
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


class WorklistDatabase:
    """SQLite file of a worklist. Each call opens it anew, so that threads and processes may share it.

    Args:
        folder: Folder of the worklist.
        create: Create folder and file where they are missing.

    Raises:
        ScreeningError: If there is no worklist, one of another format, or another file in its place.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.file = folder / DATABASE
        if create:
            self._create()
        elif not self.file.is_file():
            raise ScreeningError(
                f"no {DATABASE} in {folder}", "the folder of a worklist", "run `anomalib-cxr screen` first"
            )
        ((version,),) = self.fetch("PRAGMA user_version")
        if version != _FORMAT:
            raise ScreeningError(
                f"{self.file}: format {version}", f"format {_FORMAT}", "use the version of anomalib_cxr that wrote it"
            )

    def _create(self) -> None:
        """Create the tables, unless they exist; of several processes at once, one creates them."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.file.parent / f".{DATABASE}.lock"), self.open() as connection:
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("BEGIN")
                for command in _SCHEMA.split(";"):
                    connection.execute(command)

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Open a connection, whose changes are rolled back if the block raises.

        Yields:
            The connection.

        Raises:
            ScreeningError: If the file cannot be read or written.
        """
        try:
            connection = sqlite3.connect(self.file, timeout=60)
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        try:
            connection.execute("PRAGMA synchronous = FULL")  # a verdict survives a power cut
            with connection:
                yield connection
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        finally:
            connection.close()

    def _unusable(self, error: sqlite3.Error) -> ScreeningError:
        return ScreeningError(
            f"{self.file}: {error}",
            "a worklist that can be read and written, with space left on the disk",
            "free space, or take another folder; rows that were written before are kept",
        )

    def fetch(self, command: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        """Run a query.

        Args:
            command: The query.
            values: Values to bind to its question marks.

        Returns:
            All rows.
        """
        with self.open() as connection:
            return connection.execute(command, tuple(values)).fetchall()
