"""Retention: old rows of a worklist lose all that tells a patient, and their images are deleted.

What stays of a row is its number, decision, score, machine, view and exposure, the hash of its file, and the verdicts
without their notes: agreement, a blind reading and the audit log keep their meaning.
"""
# ruff: noqa: S608  # the names of columns are those of a dataclass; values are bound

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from anomalib_cxr.screening.case import PURGED
from anomalib_cxr.utils.path_text import text_as_path

from .database import SEARCH_TEXT, WorklistDatabase
from .lock import maintenance_lock
from .page_index import forget_trigrams
from .tables import rewrite_tables

OBJECTS = "dicom"
"""Subfolder of the worklist for DICOM objects."""
FORMER = Path("received", "former")
"""Subfolder of the worklist for received objects that others with the same identifiers replaced."""
ERASED = (
    *("study_uid", "sop_uid", "patient_id", "patient_name", "sex", "taken", "findings", "heatmap", "layers", "sample"),
    "options",
)
"""Columns that are emptied."""
NULLED = ("age", "height", "width")
"""Columns that become unknown."""
_OLD = f"screened < ? AND path NOT LIKE '{PURGED}%'"
_BATCH = 500  # rows that are purged together


@dataclass(frozen=True)
class PurgeResult:
    """Rows and files that were purged, or would be.

    Attributes:
        before: Time before which rows were screened, UTC, ISO 8601.
        rows: Number of rows.
        notes: Number of notes of verdicts.
        files: Number of files.
        size: Size of these files in bytes.
    """

    before: str
    rows: int
    notes: int
    files: int
    size: int


class _OldRow(NamedTuple):
    number: int
    path: str
    content: str
    heatmap: str
    layers: str


def purge_worklist(folder: Path, days: int, *, dry_run: bool = False, now: datetime | None = None) -> PurgeResult:
    """Purge rows that were screened long ago; an interrupted purge is continued by the next one.

    Files outside the folder of the worklist are never deleted.

    Args:
        folder: Folder of the worklist.
        days: Age in days from which a row is purged.
        dry_run: Only count.
        now: Time to count from, with a time zone; None for the present.

    Returns:
        What was purged, or would be.

    Raises:
        ScreeningError: If there is no worklist, or a backup or another purge runs.
    """
    before = (now or datetime.now(timezone.utc)).astimezone(timezone.utc) - timedelta(days=days)
    limit = before.isoformat(timespec="seconds")
    database = WorklistDatabase(folder)
    with maintenance_lock(folder):
        rows = [
            _OldRow(*row)
            for row in database.fetch(f"SELECT id, path, content, heatmap, layers FROM cases WHERE {_OLD}", [limit])
        ]
        kept = {path for (path,) in database.fetch(f"SELECT path FROM cases WHERE NOT ({_OLD})", [limit])}
        objects = list(_old_objects(folder / OBJECTS, before))
        files = [file for row in rows for file in _files(folder, row, kept)] + objects
        sizes = {file: file.stat().st_size for file in files if file.is_file()}
        ((notes,),) = database.fetch(
            f"SELECT COUNT(*) FROM verdicts JOIN cases ON cases.id = case_id WHERE note <> '' AND {_OLD}", [limit]
        )
        if not dry_run:
            for start in range(0, len(rows), _BATCH):
                batch = rows[start : start + _BATCH]
                for row in batch:  # before the row: no file is left that no row knows
                    _delete(file for file in _files(folder, row, kept))
                _erase(database, batch)
            _delete(objects)
            rewrite_tables(folder)
            _empty_log(database)
        return PurgeResult(limit, len(rows), int(notes), len(sizes), sum(sizes.values()))


def _files(folder: Path, row: _OldRow, kept: set[str]) -> Iterator[Path]:
    """Yield the files of a row that lie in the folder of the worklist."""
    if row.heatmap:
        yield folder / row.heatmap
    if row.layers:
        yield from (folder / f"{row.layers}-{kind}.png" for kind in ("heat", "lungs"))
    path = text_as_path(row.path)
    if path.is_relative_to(folder.resolve()) or path.is_relative_to(folder.absolute()):  # uploaded or received
        if row.path not in kept:
            yield path
        if row.content:
            yield from (folder / FORMER).glob(f"*-{row.content[:16]}.dcm")


def _old_objects(folder: Path, before: datetime) -> Iterator[Path]:
    """Yield the DICOM objects that a screening wrote before a time; those of it, too, that cannot be read."""
    for file in sorted(folder.glob("*.dcm")):
        try:
            stated = dcmread(file, specific_tags=["InstanceCreationDate", "InstanceCreationTime"])
            text = f"{stated.InstanceCreationDate}{str(stated.InstanceCreationTime)[:6]}"
            written = datetime.strptime(text, "%Y%m%d%H%M%S").astimezone()  # of this machine's zone
        except (InvalidDicomError, AttributeError, ValueError, OSError):
            written = datetime.fromtimestamp(file.stat().st_mtime, timezone.utc)
        if written < before:
            yield file


def _delete(files: Iterator[Path] | list[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
        if file.parent.parent.name == FORMER.parent.name:  # the folder of a received study
            with suppress(OSError):  # others are in it
                file.parent.rmdir()


def _erase(database: WorklistDatabase, rows: list[_OldRow]) -> None:
    time = datetime.now(timezone.utc).isoformat(timespec="seconds")
    numbers = [(row.number,) for row in rows]
    emptied = ", ".join(
        [
            *(f"{name} = ''" for name in ERASED),
            *(f"{name} = NULL" for name in NULLED),
            "size = 0, modified = 0, changed = 0",
            f"{SEARCH_TEXT} = ''",
            f"path = '{PURGED}' || id",
            "superseded = ?",
        ]
    )
    with database.open() as connection:
        connection.executemany(f"UPDATE cases SET {emptied} WHERE id = ?", [(time, *number) for number in numbers])
        connection.executemany("UPDATE verdicts SET note = '' WHERE case_id = ?", numbers)
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'deliveries'").fetchone():
            connection.executemany("DELETE FROM deliveries WHERE case_id = ?", numbers)


def _empty_log(database: WorklistDatabase) -> None:
    """Forget the trigrams of erased texts, and empty the write-ahead log, which has former contents of the file."""
    with database.open() as connection:
        forget_trigrams(connection)
    with database.open() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
