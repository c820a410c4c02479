"""SQLite file of a worklist: schema, format and connections.

A crash leaves the file consistent: what a connection writes is there whole or not at all.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from anomalib_cxr.errors import LockedWorklistError, ScreeningError
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.utils.files import private_file, private_folder

from .migrations import FORMAT, other_format
from .page_index import add_page_index, has_page_index

DATABASE = "worklist.sqlite"
COLUMNS = tuple(field.name for field in fields(Case))
"""Columns of the table `cases` beside `id`."""
SEARCH_TEXT = "search_text"
"""Column of :func:`anomalib_cxr.screening.worklist.search.search_text`."""
SORT_KEYS = (
    f"CASE decision WHEN '{Decision.TO_READ.value}' THEN 2 WHEN '{Decision.REFUSED.value}' THEN 0 ELSE 1 END",
    "COALESCE(raw_score, 9e999)",  # a score that is no number is to be read, and read first
    "-id",
)
"""Expressions by which cases are ordered, each falling: to be read, below the threshold, refused; each by its score."""
CURRENT = "superseded = ''"
"""Condition of the cases whose content is the one that their path has in the worklist."""
_TEXTS = ("str", "Decision")  # types of the fields whose columns hold text
_RANK = ", ".join(SORT_KEYS)
_SCHEMA = f"""
CREATE TABLE cases (
    id INTEGER PRIMARY KEY,
    {", ".join(f"{field.name} {'TEXT NOT NULL' if field.type in _TEXTS else 'NUMERIC'}" for field in fields(Case))},
    {SEARCH_TEXT} TEXT NOT NULL,
    UNIQUE (path, content)
);
CREATE INDEX by_rank ON cases ({_RANK}) WHERE {CURRENT};
CREATE INDEX by_decision ON cases (decision, {_RANK}) WHERE {CURRENT};
CREATE INDEX by_day ON cases (screened, decision) WHERE {CURRENT};
CREATE TABLE verdicts (
    id INTEGER PRIMARY KEY,
    case_id INTEGER NOT NULL REFERENCES cases (id),
    verdict TEXT NOT NULL,
    note TEXT NOT NULL,
    reader TEXT NOT NULL,
    given TEXT NOT NULL
);
CREATE INDEX of_case ON verdicts (case_id, id);
CREATE TABLE reference (calibration TEXT PRIMARY KEY, content TEXT NOT NULL);
PRAGMA user_version = {FORMAT};
"""


class WorklistDatabase:
    """SQLite file of a worklist, for its owner only. Each call opens it anew: threads and processes may share it.

    Args:
        folder: Folder of the worklist.
        create: Create folder and file where they are missing.
        wait: Time in seconds to wait at most for another program that locks the file; of a worklist that is open,
            nothing but a write, of some milliseconds, locks it.
        any_format: Open a worklist of any format, as to upgrade it.

    Raises:
        ScreeningError: If there is no worklist, one of another format, or another file in its place.
        LockedWorklistError: If another program locks the file for longer, here and in each method.
    """

    def __init__(self, folder: Path, *, create: bool = False, wait: float = 60, any_format: bool = False) -> None:
        self.file = folder / DATABASE
        self._address = f"{self.file.absolute().as_uri()}?mode=rw"  # a file that went away is not made anew, empty
        self._wait = wait
        self._kept = threading.local()
        if create:
            self._create()
        elif not self.file.is_file():
            raise ScreeningError(
                f"no {DATABASE} in {folder}", "the folder of a worklist", "run `anomalib-cxr screen` first"
            )
        ((version,),) = self.fetch("PRAGMA user_version")
        if version != FORMAT and not any_format:
            raise other_format(self.file, version)
        if version == FORMAT:
            self._complete()

    def _complete(self) -> None:
        """Add the index of the pages to a worklist that an earlier version of the same format wrote."""
        with self.open() as connection:
            if not has_page_index(connection):
                connection.execute("BEGIN IMMEDIATE")
                if not has_page_index(connection):  # of several processes at once, one adds it
                    add_page_index(connection)

    def _create(self) -> None:
        """Create the tables, unless they exist; of several processes at once, one creates them."""
        private_folder(self.file.parent)
        try:
            with FileLock(self.file.parent / f".{DATABASE}.lock", timeout=self._wait, mode=0o600):
                private_file(self.file)  # SQLite gives its further files the same rights
                self._create_tables()
        except Timeout as error:
            raise self._locked() from error

    def _create_tables(self) -> None:
        with self.open() as connection:
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("BEGIN")
                for command in _SCHEMA.split(";"):
                    connection.execute(command)
                add_page_index(connection)

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Open a connection, whose changes are rolled back if the block raises.

        Yields:
            The connection.

        Raises:
            LockedWorklistError: If another program locks the file for too long.
            ScreeningError: If the file cannot be read or written.
        """
        try:
            connection = sqlite3.connect(self._address, timeout=self._wait, uri=True)
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        try:
            connection.execute("PRAGMA synchronous = FULL")  # a verdict survives a power cut
            connection.execute("PRAGMA secure_delete = ON")  # a name that is taken out leaves no trace in the file
            with connection:
                yield connection
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        finally:
            connection.close()

    def _locked(self) -> LockedWorklistError:
        return LockedWorklistError(
            f"{self.file}: locked by another program for more than {self._wait:g} s",
            "a worklist that no other program keeps locked",
            "close the other program, such as a database browser or a backup, and try again; rows and verdicts that "
            "were written before are kept",
        )

    def _unusable(self, error: sqlite3.Error) -> ScreeningError:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return self._locked()
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
        kept: sqlite3.Connection | None = getattr(self._kept, "connection", None)
        with self.open() if kept is None else nullcontext(kept) as connection:
            return connection.execute(command, tuple(values)).fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all :meth:`fetch` of this thread in the block see the same state, by one connection.

        To open a connection takes longer than most queries of a page.

        Raises:
            LockedWorklistError: If another program locks the file for too long.
            ScreeningError: If the file cannot be read.
        """
        with self.open() as connection:
            connection.execute("BEGIN")
            self._kept.connection = connection
            try:
                yield
            finally:
                del self._kept.connection
