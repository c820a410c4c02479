"""What all that reads DICOM files shares: which files they are, how they are loaded, and one error for all damage."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from anomalib_cxr.errors import RadiographError

_INFLATED = 2**29  # bytes that a deflated file may hold: the pixels of the largest image, and as much again
_SAID = 200  # characters of what pydicom raises; it may quote a damaged value, which may be of any length


def is_dicom(path: Path) -> bool:
    """Tell a DICOM file by its preamble, whatever it is called.

    Args:
        path: The file.

    Raises:
        RadiographError: The file is missing, empty, or cannot be opened.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> is_dicom(Path(get_testdata_file("CT_small.dcm")))
        True
    """
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError as error:
        raise RadiographError(
            path,
            f"cannot be opened: {error.strerror}",
            "an existing, readable file",
            "check the path and the permissions",
        ) from error
    if not head:
        raise RadiographError(path, "empty file (0 bytes)", "an image", "copy or download the file again")
    return head[128:] == b"DICM"


def load_dicom(path: Path, keywords: Sequence[str] | None = None) -> Dataset:
    """Load a DICOM file in memory that goes with its size, whatever lengths it claims.

    Args:
        path: The file.
        keywords: The attributes that are needed of its header; None for the whole file.

    Returns:
        The dataset. What pydicom raises passes through: see :func:`explained`.

    Raises:
        ValueError: If the file is deflated and would be larger than any image.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> load_dicom(Path(get_testdata_file("CT_small.dcm")), ["Rows"]).Rows
        128
    """
    with _Bounded(path) as file:
        if keywords is None:
            return pydicom.dcmread(file)
        return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(keywords))


class _Bounded(io.BufferedReader):
    """A file that reserves no more for a read than it can give: of a length that is damaged Python reserves it all."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._total = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:  # of all the rest at once pydicom reads what it inflates
            return _harmless(super().read())
        return super().read(min(size, self._total))


def _harmless(deflated: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflater.decompress(deflated, _INFLATED)
    if inflater.unconsumed_tail:
        raise ValueError(f"inflates to more than {_INFLATED:,} bytes")
    return deflated


class _Unquoted:
    """Keeps pydicom from warnings that quote values: a name or a date of birth must not get into a log.

    Its checks of values are a setting of the whole process: the first thread that reads stops them, the last one starts
    them again.
    """

    def __init__(self) -> None:
        self._lock, self._readers = Lock(), 0
        self._stopped = disable_value_validation()

    def __enter__(self) -> None:
        with self._lock:
            if not self._readers:
                self._stopped = disable_value_validation()
                self._stopped.__enter__()
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if not self._readers:
                self._stopped.__exit__(None, None, None)


unquoted = _Unquoted()
"""Context without pydicom's warnings of invalid values, which quote them: a name must not get into a log."""


@contextmanager
def explained(path: Path, reason: str) -> Iterator[None]:
    """Turn whatever pydicom and its decoders raise, which is no closed list, into one error with the file's name.

    Meanwhile nothing is logged that quotes a value.

    Args:
        path: The file.
        reason: What is wrong with it; what was raised follows.

    Raises:
        RadiographError: If the block raises anything but this or a MemoryError.

    Example:
        >>> with explained(Path("chest.dcm"), "not readable as DICOM"):
        ...     raise KeyError("Rows")
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.RadiographError: found: chest.dcm: not readable as DICOM: 'Rows'
          expected: ...
    """
    try:
        with unquoted:
            yield
    except (RadiographError, MemoryError):
        raise
    except Exception as error:
        raise RadiographError(
            path,
            f"{reason}: {str(error)[:_SAID] or type(error).__name__}",
            "a complete DICOM file (PS3.10) with valid values",
            "export or download the file again",
        ) from error
