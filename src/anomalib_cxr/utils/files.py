"""Atomic writing of files and folders, and files that only their owner can read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(path: Path, *, private: bool = False, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and rename it to `path` at the end.

    Args:
        path: File to write; its folder is created. If the block raises an exception, an existing file is unchanged.
        private: Let only the owner read the file (mode 0600) and enter folders that are created (0700). The temporary
            file then exists, empty, and must be written in place.
        durable: Flush the file and its name to the disk: it is there after a power cut.

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
    unfinished = unfinished_path(path)
    if private:
        private_folder(path.parent)
        private_file(unfinished)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield unfinished
        if durable:
            sync(unfinished)
        os.replace(unfinished, path)  # noqa: PTH105  # documented as atomic
        if durable:
            sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk.

    Args:
        path: The file or folder. Windows cannot flush a folder, and needs not.
    """
    if os.name != "posix" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unfinished_path(path: Path) -> Path:
    """Return the temporary path of :func:`atomic_path`, which a process that is killed leaves.

    Args:
        path: File to write.

    Example:
        >>> unfinished_path(Path("heatmaps/a.png")).name
        '.unfinished-a.png'
    """
    return path.with_name(f".unfinished-{path.name}")


def private_folder(folder: Path) -> None:
    """Create a folder that only its owner can enter, and its missing parents alike; an existing one stays as it is.

    Args:
        folder: Folder to create.
    """
    if not folder.is_dir():
        if folder.parent != folder:
            private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def private_file(file: Path) -> None:
    """Create an empty file that only its owner can read and write; an existing one stays as it is.

    Args:
        file: File to create, in an existing folder.

    Example:
        >>> from tempfile import mkdtemp
        >>> file = Path(mkdtemp()) / "secret"
        >>> private_file(file)
        >>> oct(file.stat().st_mode & 0o777)
        '0o600'
    """
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


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


def make_link_relative(link: Path) -> None:
    """Replace a link to something in its own folder by a relative one, which still leads there when both are moved.

    Args:
        link: Path of the link; anything else is left as it is.

    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> (folder / "v0").mkdir()
        >>> (folder / "latest").symlink_to(folder / "v0")
        >>> make_link_relative(folder / "latest")
        >>> (folder / "latest").readlink().as_posix()
        'v0'
    """
    if not link.is_symlink():
        return
    target = link.readlink()
    if target.is_absolute() and target.parent.resolve() == link.parent.resolve():
        with atomic_path(link) as unfinished:
            unfinished.symlink_to(target.name, target_is_directory=True)
