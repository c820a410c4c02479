"""Files that a DICOMDIR, the index of a DICOM disc, lists."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from anomalib_cxr.errors import DatasetError

from .dicom_file import as_radiograph_error, load_dicom

logger = logging.getLogger(__name__)

DICOMDIR = "DICOMDIR"
"""Name of the file, in lower case on some mounted discs."""
_SUFFIX = ".dcm"
_IMAGE = "IMAGE"
_LEVELS = frozenset({"PATIENT", "STUDY", "SERIES"})  # types of records without a file


def dicomdir_files(path: Path | str) -> list[Path]:
    """List the image files of a DICOMDIR.

    Records of other types, such as reports and presentation states, are skipped, and so are records that are marked as
    no longer in use. Names are found in lower case too, as mounted discs show them, and with `.dcm`.

    Args:
        path: The DICOMDIR.

    Returns:
        The files, absolute, in the order of their records.

    Raises:
        RadiographError: The DICOMDIR is missing or damaged, or the file is not a DICOMDIR.
        DatasetError: Listed files are missing or outside its folder; the error names all of them.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> files = dicomdir_files(get_testdata_file("DICOMDIR"))
        >>> len(files), files[0].name
        (31, '6154')
    """
    path = Path(path).absolute()
    with as_radiograph_error(path, "damaged DICOMDIR"):
        records = [record for record in _records(path) if record.DirectoryRecordType not in _LEVELS]
        names = _Names()
        listed = {names.find(path.parent, _parts(record)): record.DirectoryRecordType for record in records}
        files = [file for file, kind in listed.items() if kind == _IMAGE]
        home = path.parent.resolve()
        offenders = {
            "outside the folder": [file for file in files if not file.resolve().is_relative_to(home)],
            "missing": [file for file in files if not file.is_file()],
        }
    if any(offenders.values()):
        raise DatasetError(
            f"{path}: files in its list that cannot be used",
            "a DICOMDIR beside the files that it lists",
            "copy the whole disc or folder again, or name the folder in place of its DICOMDIR",
            offenders,
        )
    if len(files) < len(listed):
        logger.info("%s: passed over %d files that are no images", path, len(listed) - len(files))
    return files


def _records(path: Path) -> list[Dataset]:
    """Return the records in use, in depth-first order of their tree.

    The tree is followed by its offsets, because pydicom reads a truncated list without an error.
    """
    dataset = load_dicom(path)
    by_offset = {record.seq_item_tell: record for record in dataset.DirectoryRecordSequence}
    visited: dict[int, Dataset] = {}
    offsets = [dataset.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity]
    while offsets:
        offset = offsets.pop()
        if not offset:  # the end of a level
            continue
        if offset in visited or offset not in by_offset:
            raise ValueError(f"record at byte {offset} is {'listed twice' if offset in visited else 'lost'}")
        record = visited[offset] = by_offset[offset]
        offsets += [record.OffsetOfTheNextDirectoryRecord, record.OffsetOfReferencedLowerLevelDirectoryEntity]
    return [record for record in visited.values() if record.RecordInUseFlag]


def _parts(record: Dataset) -> list[str]:
    parts = record.ReferencedFileID
    return list(parts) if isinstance(parts, MultiValue) else [parts]


class _Names:
    """Names in folders, each folder listed once."""

    def __init__(self) -> None:
        self._listed: dict[Path, list[str]] = {}

    def find(self, folder: Path, parts: Sequence[str]) -> Path:
        """Return the file of some parts of a name, exact or in another case and with `.dcm`; exact if there is none."""
        exact = folder.joinpath(*parts)
        if exact.is_file():
            return exact
        found = folder
        for number, part in enumerate(parts, 1):
            spellings = [part, f"{part}{_SUFFIX}"] if number == len(parts) else [part]
            name = next(filter(None, (self._only(found, spelling) for spelling in spellings)), None)
            if name is None:
                return exact
            found /= name
        return found

    def _only(self, folder: Path, spelling: str) -> str | None:
        """Return the name that equals a spelling but for its case; None without one, and where several do."""
        if folder not in self._listed:
            self._listed[folder] = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208  # names alone
        same = [name for name in self._listed[folder] if name.casefold() == spelling.casefold()]
        return same[0] if len(same) == 1 else None
