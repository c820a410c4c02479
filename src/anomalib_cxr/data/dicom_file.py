"""What all that reads DICOM files shares: which files they are, and one error for all that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from pydicom.config import disable_value_validation

from anomalib_cxr.errors import RadiographError

_QUIET = Lock()  # pydicom's checks of values are a setting of the whole process


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


@contextmanager
def explained(path: Path, reason: str) -> Iterator[None]:
    """Turn whatever pydicom and its decoders raise, which is no closed list, into one error with the file's name.

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
        yield
    except (RadiographError, MemoryError):
        raise
    except Exception as error:
        raise RadiographError(
            path,
            f"{reason}: {error or type(error).__name__}",
            "a complete DICOM file (PS3.10) with valid values",
            "export or download the file again",
        ) from error


@contextmanager
def unquoted() -> Iterator[None]:
    """Keep pydicom from warnings that quote values: a date of birth that is no date must not get into a log.

    Example:
        >>> from pydicom.dataset import Dataset
        >>> with unquoted():
        ...     Dataset().PatientBirthDate = "long ago"
    """
    with _QUIET, disable_value_validation():
        yield
