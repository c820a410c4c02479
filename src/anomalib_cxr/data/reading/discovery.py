"""Which files of a folder may be X-rays, by their names alone; imports nothing that takes time."""

from __future__ import annotations

import logging
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from anomalib_cxr.errors import DatasetError

from .dicom_file import explained, load_dicom

logger = logging.getLogger(__name__)

DICOMDIR = "DICOMDIR"
_IMAGE = "IMAGE"
_FOLDERS = frozenset({"PATIENT", "STUDY", "SERIES"})  # types of records that stand for no file


def dicomdir_files(path: Path | str) -> list[Path]:
    """List the image files of a DICOMDIR.

    Reports, presentation states and whatever else is listed with a record of another type are passed over, as are
    records that are marked as no longer in use.

    Args:
        path: The DICOMDIR.

    Returns:
        The files, absolute, in the order of their records.

    Raises:
        RadiographError: The file is missing or damaged.
        DatasetError: It is no DICOMDIR, or files that it lists are missing or outside its folder; names all of them.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> files = dicomdir_files(get_testdata_file("DICOMDIR"))
        >>> len(files), files[0].name
        (31, '6154')
    """
    path = Path(path).absolute()
    with explained(path, "damaged DICOMDIR"):
        records = [record for record in _records(path) if record.DirectoryRecordType not in _FOLDERS]
        listed = {_file(path.parent, record): record.DirectoryRecordType for record in records}
        files = [file for file, kind in listed.items() if kind == _IMAGE]
        home = path.parent.resolve()
        offenders = {
            "outside the folder": [file for file in files if not file.resolve().is_relative_to(home)],
            "missing": [file for file in files if not file.is_file()],
        }
    offenders = {reason: found for reason, found in offenders.items() if found}
    if offenders:
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
    """Return the records in use, in the order of the tree that they form.

    The tree is followed from record to record: pydicom reads a truncated list without complaint, and a list that is
    too short must not pass for a whole one.
    """
    dataset = load_dicom(path)
    at = {record.seq_item_tell: record for record in dataset.DirectoryRecordSequence}
    found: dict[int, Dataset] = {}
    offsets = [dataset.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity]
    while offsets:
        offset = offsets.pop()
        if not offset:  # the end of a level
            continue
        if offset in found or offset not in at:
            raise ValueError(f"record at byte {offset} is {'listed twice' if offset in found else 'lost'}")
        record = found[offset] = at[offset]
        offsets += [record.OffsetOfTheNextDirectoryRecord, record.OffsetOfReferencedLowerLevelDirectoryEntity]
    return [record for record in found.values() if record.RecordInUseFlag]


def _file(folder: Path, record: Dataset) -> Path:
    parts = record.ReferencedFileID
    return folder.joinpath(*(parts if isinstance(parts, MultiValue) else [parts]))


# fmt: off
_NO_PICTURES = frozenset({
    ".cfg", ".csv", ".db", ".doc", ".docx", ".htm", ".html", ".ini", ".json", ".log", ".md", ".pdf", ".rtf",
    ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".yaml", ".yml",
})
# fmt: on


def _may_be_radiograph(file: Path) -> bool:
    """Tell whatever may be a radiograph, of any name, from what clearly is none."""
    return file.suffix.lower() not in _NO_PICTURES and file.name != DICOMDIR


def radiograph_files(folder: Path) -> tuple[list[Path], int]:
    """Find whatever may be a radiograph in a folder and all folders in it.

    Args:
        folder: The folder. Hidden files, texts and tables by their suffix, and a `DICOMDIR` are passed over.

    Returns:
        The files, sorted, and how many others were passed over, hidden ones not counted.
    """
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    paths = [file for file in files if _may_be_radiograph(file)]
    return paths, len(files) - len(paths)
