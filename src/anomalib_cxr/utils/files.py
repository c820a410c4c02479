"""Atomic writing of files and folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and rename it to `path` at the end.

    Args:
        path: File to write; its folder is created. If the block raises an exception, an existing file is unchanged.

    Yields:
        The temporary path.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "new" / "note.txt"
        >>> with atomic_path(path) as unfinished:
        ...     _ = unfinished.write_text("done")
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('done', 1)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        yield unfinished
        os.replace(unfinished, path)  # noqa: PTH105  # documented as atomic
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield the path of a temporary folder, and rename it to `folder` at the end; use it under a lock.

    Args:
        folder: Folder to write, empty or missing. If the block raises an exception, nothing is left.

    Yields:
        Path of a hidden folder beside it, which does not exist.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():  # left by an interrupted process: the lock excludes a running one
        shutil.rmtree(partial)
    try:
        yield partial
        if folder.exists():  # not every system replaces an empty folder
            folder.rmdir()
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
