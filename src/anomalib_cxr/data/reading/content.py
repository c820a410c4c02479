"""Bytes of an image file, read once, so that pixels, header and hash are those of the same file."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeAlias

from anomalib_cxr.errors import RadiographError

MAX_BYTES = 2**29  # of a file: 16-bit color of the largest image, uncompressed, fits


@dataclass(frozen=True)
class FileContent:
    """Bytes of a file at one moment, with the path that errors name.

    Args:
        path: The file, as the user spelled it.
        data: All its bytes.
        modified: Time of its last change in nanoseconds since the epoch.
        changed: Time of the last change of its content, name or rights; on Windows that of its creation.

    Example:
        >>> content = FileContent(Path("chest.png"), b"abc")
        >>> content.size, content.sha256[:8]
        (3, 'ba7816bf')
    """

    path: Path
    data: bytes = field(repr=False)
    modified: int = 0
    changed: int = 0

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.data)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the bytes, in hexadecimal digits."""
        return hashlib.sha256(self.data).hexdigest()


ImageSource: TypeAlias = Path | str | FileContent
"""A file by its path, or its content that was read before."""


def read_content(path: Path | str) -> FileContent:
    """Read a file as a whole.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        RadiographError: The file is missing, empty, not to be opened, no regular file, larger than 512 MiB, or changed
            while it was read.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> read_content(get_testdata_file("CT_small.dcm")).size
        39206
    """
    path = Path(path)
    with open_source(path) as file:
        before = os.fstat(file.fileno())
        if before.st_size > MAX_BYTES:
            raise RadiographError(
                path,
                f"too large: {before.st_size:,} bytes",
                f"at most {MAX_BYTES:,} bytes",
                "make the image smaller, or compress it without loss",
            )
        try:
            data = file.read(MAX_BYTES)
        except OSError as error:
            raise _not_opened(path, error) from error
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != after.st_size:
        raise RadiographError(
            path, "changed while it was read", "a file that nothing writes to", "read it again when it is complete"
        )
    return FileContent(path, data, after.st_mtime_ns, after.st_ctime_ns)


def path_of(source: ImageSource) -> Path:
    """Return the path of a file or of its content.

    Args:
        source: A path, or the content of a file.

    Returns:
        The path.

    Example:
        >>> path_of(FileContent(Path("chest.png"), b"")).name
        'chest.png'
    """
    return source.path if isinstance(source, FileContent) else Path(source)


@contextmanager
def open_source(source: ImageSource) -> Iterator[BinaryIO]:
    """Open a file, or its content that was read before, for reading.

    Args:
        source: A path, or the content of a file.

    Yields:
        The open binary file, at its start.

    Raises:
        RadiographError: The file is missing, empty, no regular file, or cannot be opened.

    Example:
        >>> with open_source(FileContent(Path("chest.png"), b"abc")) as file:
        ...     file.read(2)
        b'ab'
    """
    path = path_of(source)
    with BytesIO(source.data) if isinstance(source, FileContent) else _opened(path) as file:
        if not file.read(1):
            raise RadiographError(path, "empty file (0 bytes)", "an image", "copy or download the file again")
        file.seek(0)
        yield file


def _opened(path: Path) -> BinaryIO:
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # opening a pipe without a writer would block for ever
            return path.open("rb")
    except OSError as error:
        raise _not_opened(path, error) from error
    raise _not_opened(path, OSError(0, "neither a file nor a folder"))


def _not_opened(path: Path, error: OSError) -> RadiographError:
    return RadiographError(
        path,
        f"cannot be opened: {error.strerror}",
        "an existing, readable file",
        "check the path and the permissions",
    )
