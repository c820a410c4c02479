"""Recognition of files that have not changed since they were screened, without reading them whole."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import BinaryIO, NamedTuple

from anomalib_cxr.data.reading.content import FileContent

BLOCKS, BLOCK = 16, 16 * 1024
"""Number of the blocks of a file that are sampled, and their length in bytes; a file of up to 256 KiB is read whole."""


class FileFingerprint(NamedTuple):
    """Size, times and sample of a file; a change of any of these is a reason to hash the whole file.

    A tool can set the time of change back, but not the time of its status, which the system sets at every write,
    renaming and change of rights (on Windows it is the time of creation). For file systems without it there is the
    sample.
    """

    size: int = 0
    """Size in bytes."""
    modified: int = 0
    """Time of the last change, in ns."""
    changed: int = 0
    """Time of the last change of content, name or rights, in ns."""
    sample: str = ""
    """SHA-256 of the size and of 16 blocks of 16 KiB, the first and the last of the file among them."""


NO_FINGERPRINT = FileFingerprint()
"""Fingerprint where there is no file or none was read; no existing file has it."""


def fingerprint_of(source: Path | FileContent) -> FileFingerprint:
    """Return the fingerprint of a file.

    Args:
        source: The file, or its content as it was read before.

    Returns:
        Its fingerprint, without a sample where it cannot be read; `NO_FINGERPRINT` where there is no file.

    Example:
        >>> fingerprint_of(Path("nowhere.png"))
        FileFingerprint(size=0, modified=0, changed=0, sample='')
    """
    if isinstance(source, FileContent):
        sample = _sample(io.BytesIO(source.data), source.size)
        return FileFingerprint(source.size, source.modified, source.changed, sample)
    try:
        status = source.stat()
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return NO_FINGERPRINT
    found = FileFingerprint(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    try:
        with source.open("rb") as file:
            return found._replace(sample=_sample(file, found.size))
    except OSError:
        return found


def _sample(file: BinaryIO, size: int) -> str:
    digest = hashlib.sha256(b"%d\n" % size)
    step = max(BLOCK, (size - BLOCK) / (BLOCKS - 1))  # blocks of a small file follow each other without a gap
    for number in range(BLOCKS):
        file.seek(round(number * step))
        digest.update(file.read(BLOCK))
    return digest.hexdigest()
