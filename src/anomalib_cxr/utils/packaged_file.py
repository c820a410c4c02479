"""Files of weights inside the package."""

from __future__ import annotations

import hashlib
from pathlib import Path

from anomalib_cxr.errors import CxrError


def read_packaged(file: Path, sha256: str, error: type[CxrError], otherwise: str = "") -> bytes:
    """Read a file of the package, after a check of its content.

    Args:
        file: The file.
        sha256: SHA-256 that it has in this version of the package, hexadecimal.
        error: Kind of the error.
        otherwise: What a user can do but install the package again.

    Returns:
        Its content.

    Raises:
        CxrError: `error`, if the file is missing or not the one that was packaged.

    Example:
        >>> read_packaged(Path("nowhere"), "", CxrError)
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.CxrError: found: nowhere: cannot be read: No such file or directory
          expected: ...
    """
    try:
        content = file.read_bytes()
        found = f"SHA-256 {hashlib.sha256(content).hexdigest()}"
    except OSError as reason:
        content, found = b"", f"cannot be read: {reason.strerror or reason}"
    if found != f"SHA-256 {sha256}":
        next_step = "install anomalib-cxr again" + (f"; or {otherwise}" if otherwise else "")
        raise error(f"{file}: {found}", f"the weights of this version of the package, SHA-256 {sha256}", next_step)
    return content
