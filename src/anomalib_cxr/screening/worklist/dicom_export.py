"""DICOM export of a case: heatmap, structured report, outline and a page to read."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from anomalib_cxr.data.reading.dicom_file import no_value_warnings
from anomalib_cxr.errors import ScreeningError, require_extra
from anomalib_cxr.screening.case import Case
from anomalib_cxr.utils.files import atomic_path

from .dicom_source import copy_patient_and_study, copy_pixel_facts


def write_dicom_objects(
    case: Case, source: Dataset | None, heatmap: np.ndarray | None, folder: Path | str, heat: np.ndarray | None = None
) -> list[Path]:
    """Write a case as DICOM objects: heatmap, structured report, a page to read, and the outline over the X-ray.

    They are a Secondary Capture, a Comprehensive SR, an encapsulated PDF and a grayscale softcopy presentation state,
    and new series of the X-ray's study. Their UIDs are derived from the identifiers of patient, study and image,
    the file's content, the model and its calibration: the same case gives the same files, and files of two patients or
    two contents never have the same names, even if their headers do. Invalid values of the X-ray's header are left
    empty, so that archives accept the objects.

    Args:
        case: The case; `screened`, the date of both objects, must be set.
        source: Dataset of the X-ray, whose pixels are not needed. None for a file that is no DICOM: the patient is then
            empty, and the UID of the study is derived from the content.
        heatmap: Heatmap over the X-ray, RGB, `(H, W, 3)`, uint8, of any size. None for a refused case: the objects then
            say that it was not scored, and why.
        folder: Folder for the files, created where it is missing.
        heat: Anomaly map in [0, 1], `(S, S)`, whose greatest values are outlined; None for no outline.

    Returns:
        Paths of the Secondary Capture, the report, the page, and the outline, each `<SOP Instance UID>.dcm`. There is
        no outline without `heat`, and none over a file that is no DICOM or whose gray scale is damaged.

    Raises:
        MissingExtraError: If highdicom is not installed.
        ScreeningError: If the heatmap has another shape or type.

    Example:
        >>> from tempfile import mkdtemp
        >>> from pydicom import dcmread
        >>> from anomalib_cxr.screening.case import Decision
        >>> case = Case("/a.png", 1, 1, Decision.TO_READ, score=0.7, screened="2026-01-31T10:00:00+00:00")
        >>> paths = write_dicom_objects(case, None, np.zeros((40, 30, 3), np.uint8), mkdtemp())
        >>> [dcmread(path).Modality for path in paths]
        ['OT', 'SR', 'DOC']
    """
    if heatmap is not None and (heatmap.dtype != np.uint8 or heatmap.ndim != 3 or heatmap.shape[2] != 3):  # noqa: PLR2004
        raise ScreeningError(
            f"heatmap of shape {heatmap.shape} and type {heatmap.dtype}", "(H, W, 3) of uint8", "convert it to RGB"
        )
    require_extra("highdicom", "dicom")
    from .dicom_content import Origin, make_capture, make_report  # noqa: PLC0415  # needs highdicom
    from .dicom_document import make_document  # noqa: PLC0415
    from .dicom_outline import make_outline  # noqa: PLC0415

    with no_value_warnings:
        original = source if source is not None else Dataset()
        origin = Origin.of(case, original)
        capture = make_capture(origin, heatmap)
        outline = None if heat is None else make_outline(origin, original, heat)
        made = [capture, make_report(origin, capture), make_document(origin, heatmap), outline]
        objects = [dataset for dataset in made if dataset is not None]
        for dataset in objects:
            copy_patient_and_study(dataset, original)
            _set_time(dataset, datetime.fromisoformat(case.screened))
        copy_pixel_facts(capture, original)
        return [_write(dataset, Path(folder)) for dataset in objects]


def _set_time(dataset: Dataset, screened: datetime) -> None:
    """Set all times to that of the screening, in the local time zone as DICOM has it."""
    local = screened.astimezone()
    now = {"Date": local.strftime("%Y%m%d"), "Time": local.strftime("%H%M%S")}
    for name in ("InstanceCreation{}", "Content{}", "{}OfSecondaryCapture", "PresentationCreation{}"):
        for part, value in now.items():
            if name.format(part) in dataset:
                setattr(dataset, name.format(part), value)
    for equipment in dataset.get("ContributingEquipmentSequence", ()):
        equipment.ContributionDateTime = now["Date"] + now["Time"]


def _write(dataset: Dataset, folder: Path) -> Path:
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    with atomic_path(path, private=True) as unfinished:
        dataset.save_as(unfinished, enforce_file_format=True)
    return path
