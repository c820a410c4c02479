"""Loading of DICOM files within bounds of memory, and conversion of their errors."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from anomalib_cxr.errors import RadiographError

from .content import ImageSource, open_source, path_of

_MAX_INFLATED = 2**29  # bytes that a deflated file may hold: the pixels of the largest image, and as much again
_MAX_MESSAGE = 200  # characters kept of pydicom's messages, which may quote a damaged value of any length


def is_dicom(source: ImageSource) -> bool:
    """Return whether a file has the DICOM preamble, whatever its name.

    Args:
        source: The file, or its content.

    Returns:
        True for a DICOM file.

    Raises:
        RadiographError: The file is missing, empty, or cannot be opened.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> is_dicom(Path(get_testdata_file("CT_small.dcm")))
        True
    """
    with open_source(source) as file:
        head = file.read(132)
    return head[128:] == b"DICM"


def load_dicom(source: ImageSource, keywords: Sequence[str] | None = None) -> Dataset:
    """Load a DICOM file; the memory needed is bounded by the file's size, whatever lengths it claims.

    Args:
        source: The file, or its content. Of a file's header no more than the header is read.
        keywords: Attributes of the header to load; None for the whole file.

    Returns:
        The dataset. Errors of pydicom pass through: see :func:`as_radiograph_error`.

    Raises:
        ValueError: The file is deflated and would be larger than any image.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> load_dicom(Path(get_testdata_file("CT_small.dcm")), ["Rows"]).Rows
        128
    """
    with open_source(source) as opened, _BoundedReader(opened, path_of(source)) as file:
        if keywords is None:
            return pydicom.dcmread(file)
        return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(keywords))


class _BoundedReader(io.BufferedReader):
    """File reader that allocates at most the file's size; Python allocates whatever length a damaged element claims."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._path = path
        self._file_size = file.seek(0, io.SEEK_END)
        file.seek(0)
        super().__init__(file)  # type: ignore[arg-type]  # any file that can be read into a buffer

    @property
    def name(self) -> str:
        """Path of the file, which pydicom takes for the dataset's `filename`."""
        return str(self._path)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size >= 0:
            return super().read(min(size, self._file_size))
        rest = super().read()
        _check_inflated_size(rest)  # pydicom reads the whole rest at once only in order to inflate it
        return rest


def _check_inflated_size(deflated: bytes) -> None:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflater.decompress(deflated, _MAX_INFLATED)
    if inflater.unconsumed_tail:
        raise ValueError(f"inflates to more than {_MAX_INFLATED:,} bytes")


class _NoValueWarnings:
    """Reentrant, thread-safe form of pydicom's `disable_value_validation`.

    Validation is a setting of the whole process: the first thread that enters disables it, the last one that leaves
    restores it.
    """

    def __init__(self) -> None:
        self._lock, self._users = Lock(), 0
        self._disabled = disable_value_validation()

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._disabled = disable_value_validation()
                self._disabled.__enter__()
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._disabled.__exit__(None, None, None)


no_value_warnings = _NoValueWarnings()
"""Context without pydicom's warnings of invalid values: they quote the value, and a name must not get into a log."""


@contextmanager
def as_radiograph_error(path: Path, reason: str) -> Iterator[None]:
    """Convert any exception of the block, such as pydicom's and its decoders', to a `RadiographError`.

    Within the block pydicom does not warn of invalid values.

    Args:
        path: The file that the error names.
        reason: Description of the error; the original message follows it.

    Raises:
        RadiographError: The block raises anything but this or a MemoryError.

    Example:
        >>> with as_radiograph_error(Path("chest.dcm"), "not readable as DICOM"):
        ...     raise KeyError("Rows")
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.RadiographError: found: chest.dcm: not readable as DICOM: 'Rows'
          expected: ...
    """
    try:
        with no_value_warnings:
            yield
    except (RadiographError, MemoryError):
        raise
    except Exception as error:
        raise RadiographError(
            path,
            f"{reason}: {str(error)[:_MAX_MESSAGE] or type(error).__name__}",
            "a complete DICOM file (PS3.10) with valid values",
            "export or download the file again",
        ) from error
