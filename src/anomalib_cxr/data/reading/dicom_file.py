"""Loading of DICOM files within bounds of memory, and conversion of their errors."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import pydicom
from pydicom.config import disable_value_validation
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from anomalib_cxr.errors import RadiographError

from .content import ImageSource, open_source, path_of
from .dicom_text import printable

_MAX_INFLATED = 2**29  # bytes that a deflated file may hold: the pixels of the largest image, and as much again
_HEAD = 2048  # bytes that are enough for the preamble, or for the first elements of a dataset
_ELEMENTS = 3  # examined in a file without a preamble
_FIRST_GROUPS = frozenset({0x0002, 0x0004, 0x0008})
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
# fmt: off
_VRS = _LONG_VRS | frozenset({
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
})
# fmt: on
_QUOTED = re.compile(r"""['"]([^'"]*)['"]?""")
_QUOTED_TYPES = frozenset({"Dataset", "FileDataset"})
_MAX_MESSAGE = 200  # characters kept of pydicom's messages, which may quote a damaged value of any length


def is_dicom(source: ImageSource) -> bool:
    """Return whether a file is DICOM, whatever its name.

    Args:
        source: The file, or its content.

    Returns:
        True for a file with the DICOM preamble, and for one without that begins with a dataset: old devices and
        exports leave out the preamble and the file meta information.

    Raises:
        RadiographError: The file is missing, empty, or cannot be opened.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> is_dicom(Path(get_testdata_file("CT_small.dcm")))
        True
    """
    with open_source(source) as file:
        head = file.read(_HEAD)
    return _has_preamble(head) or _is_dataset(head)


def _has_preamble(head: bytes) -> bool:
    return head[128:132] == b"DICM"


def _is_dataset(head: bytes, order: str = "<") -> bool:
    """Return whether bytes begin with elements of DICOM, of the first groups, in rising order, with sound lengths."""
    if order == "<" and head[:1] == b"\0":  # groups are below 256
        return _is_dataset(head, ">")
    place, previous, elements = 0, (0, 0), 0
    while elements < _ELEMENTS and place + 8 <= len(head):
        group, number, vr, short = struct.unpack_from(f"{order}HH2sH", head, place)
        if group not in _FIRST_GROUPS or (group, number) <= previous:
            return False
        if vr in _VRS:
            is_long = vr in _LONG_VRS
            if is_long and place + 12 > len(head):
                return False
            length = struct.unpack_from(f"{order}I", head, place + 8)[0] if is_long else short
            place += (12 if is_long else 8) + length
        else:  # implicit
            length = struct.unpack_from(f"{order}I", head, place + 4)[0]
            place += 8 + length
        if length % 2 or length > len(head):
            return False
        previous, elements = (group, number), elements + 1
    return elements >= _ELEMENTS


def load_dicom(source: ImageSource, keywords: Sequence[str] | None = None, *, pixels: bool = True) -> Dataset:
    """Load a DICOM file; the memory needed is bounded by the file's size, whatever lengths it claims.

    Args:
        source: The file, or its content. Of a file's header no more than the header is read.
        keywords: Attributes of the header to load; None for all attributes.
        pixels: Whether to load pixels, where all attributes are loaded.

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
        head = file.read(_HEAD)
        file.seek(0)
        force = not _has_preamble(head) and _is_dataset(head)
        if keywords is None:
            return pydicom.dcmread(file, force=force, stop_before_pixels=not pixels)
        return pydicom.dcmread(file, force=force, stop_before_pixels=True, specific_tags=list(keywords))


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
        reason: Description of the error. The original message follows, up to the first value that it quotes: a damaged
            length can make a patient's name part of any value.

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
            f"{reason}: {_without_values(str(error)) or type(error).__name__}",
            "a complete DICOM file (PS3.10) with valid values",
            "export or download the file again",
        ) from error


def _without_values(message: str) -> str:
    for quoted in _QUOTED.finditer(message):
        if quoted[1] not in _QUOTED_TYPES and tag_for_keyword(quoted[1]) is None:
            message = f"{message[: quoted.start()]}..."
            break
    return printable(message[:_MAX_MESSAGE])
