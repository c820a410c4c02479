"""Upgrade of a worklist that an older version wrote."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from anomalib_cxr.errors import ScreeningError

from .database import DATABASE, WorklistDatabase
from .lock import worklist_lock
from .migrations import FORMAT, STEPS, other_format
from .page_index import add_page_index, has_page_index


def upgrade_worklist(folder: Path) -> tuple[int, int]:
    """Bring a worklist to the format of this version, as a whole or not at all; all rows and verdicts are kept.

    Args:
        folder: Folder of the worklist.

    Returns:
        The format before and after; the same where nothing was to be done.

    Raises:
        ScreeningError: If there is no worklist, its format is unknown, it is damaged, or a screening writes there.
    """
    database = WorklistDatabase(folder, any_format=True)
    with worklist_lock(folder), database.open() as connection:
        connection.execute("BEGIN IMMEDIATE")
        before = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if before != FORMAT and before not in STEPS:
            raise other_format(database.file, before)
        for version in range(before, FORMAT):
            for command in STEPS[version]:
                connection.execute(command)
        if not has_page_index(connection):
            add_page_index(connection)
        _refuse_damage(database.file, connection)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    return before, FORMAT


def _refuse_damage(file: Path, connection: sqlite3.Connection) -> None:
    problems = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    if problems != ["ok"]:
        raise ScreeningError(
            f"{file}: damaged: {'; '.join(problems[:3])}",
            f"a sound {DATABASE}",
            "restore a backup; this file was not changed",
        )
