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
    with _held(folder / LOCK, f"{folder}: another screening writes there", "wait for it, or choose another folder"):
        yield


@contextmanager
def maintenance_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a worklist for a backup or a purge; screening goes on meanwhile.

    Args:
        folder: Folder of the worklist, which exists.

    Raises:
        ScreeningError: If another program holds it.
    """
    with _held(folder / MAINTENANCE_LOCK, f"{folder}: a backup or a purge runs", "wait for it, and start again"):
        yield


@contextmanager
def _held(file: Path, found: str, next_step: str) -> Iterator[None]:
    try:
        with FileLock(file, timeout=0, mode=0o600):
            yield
    except Timeout as error:
        raise ScreeningError(found, "one at a time", next_step) from error
