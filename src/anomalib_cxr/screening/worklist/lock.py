"""Lock of a worklist for programs that write many rows or files; one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from anomalib_cxr.errors import ScreeningError

LOCK = ".screening.lock"
"""Name of the file that is locked, in the folder of the worklist."""
MAINTENANCE_LOCK = ".maintenance.lock"
"""The same for backups and purges."""


@contextmanager
def worklist_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a worklist; readers, and verdicts from the browser, need none.

    Args:
        folder: Folder of the worklist, which exists.

    Raises:
        ScreeningError: If another program holds it.
    """
    try:
        with FileLock(folder / LOCK, timeout=0, mode=0o600):
            yield
    except Timeout as error:
        raise ScreeningError(
            f"{folder}: another screening writes there", "one at a time", "wait for it, or choose another folder"
        ) from error


@contextmanager
def maintenance_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a worklist for a backup or a purge; screening goes on meanwhile.

    Args:
        folder: Folder of the worklist, which exists.

    Raises:
        ScreeningError: If another program holds it.
    """
    try:
        with FileLock(folder / MAINTENANCE_LOCK, timeout=0, mode=0o600):
            yield
    except Timeout as error:
        raise ScreeningError(
            f"{folder}: a backup or a purge runs", "one at a time", "wait for it, and start again"
        ) from error
