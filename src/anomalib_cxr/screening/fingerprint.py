"""Recognition of files that have not changed since they were screened, without reading them whole."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import BinaryIO, NamedTuple

BLOCKS, BLOCK = 16, 16 * 1024
"""Number of the blocks of a file that are sampled, and their length in bytes; a file of up to 256 KiB is read whole."""


class FileFingerprint(NamedTuple):
    """What a file is recognized by: a change of any of these is a reason to hash the whole file.

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


def fingerprint_of(path: Path, content: bytes | None = None) -> FileFingerprint:
    """Return the fingerprint of a file.

    Args:
        path: The file.
        content: Its bytes, where they have just been read; None samples the file.

    Returns:
        Its fingerprint, without a sample where it cannot be read; the empty one where there is no file.

    Example:
        >>> fingerprint_of(Path("nowhere.png"))
        FileFingerprint(size=0, modified=0, changed=0, sample='')
    """
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return FileFingerprint()
    found = FileFingerprint(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if content is not None:
        return found._replace(sample=_sample(io.BytesIO(content), len(content)))
    try:
        with path.open("rb") as file:
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
