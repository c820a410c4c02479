"""Discovery of X-ray files in folders and DICOMDIRs."""

from __future__ import annotations

import logging
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from anomalib_cxr.errors import DatasetError

from .dicom_file import as_radiograph_error, load_dicom

logger = logging.getLogger(__name__)

DICOMDIR = "DICOMDIR"
_IMAGE = "IMAGE"
_LEVELS = frozenset({"PATIENT", "STUDY", "SERIES"})  # types of records without a file
# fmt: off
_OTHER_SUFFIXES = frozenset({
    ".cfg", ".csv", ".db", ".doc", ".docx", ".htm", ".html", ".ini", ".json", ".log", ".md", ".pdf", ".rtf",
    ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".yaml", ".yml",
})
# fmt: on


def dicomdir_files(path: Path | str) -> list[Path]:
    """List the image files of a DICOMDIR.

    Records of other types, such as reports and presentation states, are skipped, and so are records that are marked as
    no longer in use.

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
        listed = {_file(path.parent, record): record.DirectoryRecordType for record in records}
        files = [file for file, kind in listed.items() if kind == _IMAGE]
        home = path.parent.resolve()
        offenders = {
            "outside the folder": [file for file in files if not file.resolve().is_relative_to(home)],
            "missing": [file for file in files if not file.is_file()],
        }
    offenders = {reason: paths for reason, paths in offenders.items() if paths}
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


def _file(folder: Path, record: Dataset) -> Path:
    parts = record.ReferencedFileID
    return folder.joinpath(*(parts if isinstance(parts, MultiValue) else [parts]))


def radiograph_files(folder: Path) -> tuple[list[Path], int]:
    """List the files in a folder and its subfolders that may be radiographs, judged by their names only.

    Args:
        folder: The folder. Hidden files, texts and tables by their suffix, and a `DICOMDIR` are skipped.

    Returns:
        The files, sorted, and the number of skipped files, hidden ones not counted.
    """
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    paths = [file for file in files if file.suffix.lower() not in _OTHER_SUFFIXES and file.name != DICOMDIR]
    return paths, len(files) - len(paths)
