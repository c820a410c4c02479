"""Which files a screening is to look at."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from anomalib_cxr.data.reading.discovery import DICOMDIR, dicomdir_files, radiograph_files
from anomalib_cxr.errors import DatasetError
from anomalib_cxr.screening.worklist.store import UPLOADS

logger = logging.getLogger(__name__)


def find_inputs(inputs: Sequence[Path], output: Path) -> list[Path]:
    """Find the files to be screened.

    Args:
        inputs: Files, folders that are searched through with all folders in them, and DICOMDIR files.
        output: Folder of the worklist, whose pictures are no inputs.

    Returns:
        Absolute paths, each once, in the order of the inputs, those of a folder sorted.

    Raises:
        DatasetError: If an input does not exist, or there is nothing to screen.
    """
    missing = [path for path in inputs if not path.exists()]
    if missing:
        raise DatasetError("inputs that do not exist", "files or folders", "correct them", {"no such path": missing})
    made = output.resolve()
    found = (file.resolve() for given in inputs for file in _files_of(given))
    files = list(dict.fromkeys(file for file in found if made not in file.parents or (made / UPLOADS) in file.parents))
    if not files:
        raise DatasetError(
            f"no radiograph in {', '.join(map(str, inputs))}",
            "PNG, JPEG, TIFF, BMP or DICOM files",
            "correct the inputs",
        )
    return files


def _files_of(given: Path) -> list[Path]:
    if given.is_file():
        return dicomdir_files(given) if given.name == DICOMDIR else [given]
    files, passed_over = radiograph_files(given)
    if passed_over:
        logger.info("%s: passed over %d files that are no pictures", given, passed_over)
    return files
