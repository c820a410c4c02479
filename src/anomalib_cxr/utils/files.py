"""Files that are whole or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Lend a temporary name in the folder of `path`, and move what was written there to `path` at the end.

    Args:
        path: The file to write; its folder is made. If the block raises, a former file stays as it was.

    Yields:
        The temporary name.

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
        os.replace(unfinished, path)  # noqa: PTH105  # the word for "atomic"
    finally:
        unfinished.unlink(missing_ok=True)
