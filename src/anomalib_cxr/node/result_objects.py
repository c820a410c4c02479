"""DICOM objects of a case, made from what its screening has left on the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
)

from anomalib_cxr.data.reading.content import read_content
from anomalib_cxr.data.reading.dicom_file import as_radiograph_error, is_dicom, load_dicom
from anomalib_cxr.errors import RadiographError, ScreeningError
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.pipeline.screener import OBJECTS
from anomalib_cxr.screening.worklist.dicom_export import write_dicom_objects
from anomalib_cxr.utils.path_text import path_as_text

STORAGE_CLASSES: tuple[UID, ...] = (
    SecondaryCaptureImageStorage,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
)
"""Storage classes of the objects."""


def write_objects(case: Case, folder: Path) -> list[Path]:
    """Write the objects of a case: the same case gives the same files.

    Args:
        case: The case.
        folder: Folder of the worklist, with heatmap and layers of the case.

    Returns:
        The files, in the subfolder `dicom`.

    Raises:
        ScreeningError: If the X-ray or its heatmap is gone, or the X-ray is another one by now.
    """
    try:
        content = read_content(case.file)
        if content.sha256 != case.content:
            raise _gone(case, "has another content than the one that was scored")
        source = None
        if is_dicom(content):
            with as_radiograph_error(case.file, "not readable as DICOM"):
                source = load_dicom(content, pixels=False)
        heatmap = heat = None
        if case.decision is not Decision.REFUSED:
            with Image.open(folder / case.heatmap) as image:
                heatmap = np.asarray(image.convert("RGB"))
            with Image.open(folder / f"{case.layers}-heat.png") as image:
                heat = np.asarray(image.convert("L")) / 255
    except (RadiographError, OSError) as error:
        raise _gone(case, error.reason if isinstance(error, RadiographError) else f"{error}") from error
    return write_dicom_objects(case, source, heatmap, folder / OBJECTS, heat)


def _gone(case: Case, reason: str) -> ScreeningError:
    return ScreeningError(
        f"{path_as_text(case.file)}: {reason}", "the X-ray and the heatmap of the case", "screen it again"
    )
