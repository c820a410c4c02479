"""DICOM export of a case: the heatmap as a Secondary Capture, and a structured report."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from anomalib_cxr.data.reading.dicom_file import no_value_warnings
from anomalib_cxr.errors import ScreeningError, require_extra
from anomalib_cxr.screening.case import Case
from anomalib_cxr.utils.files import atomic_path

# Attributes of patient and study are copied from the X-ray, so that an archive files the objects beside it.
_REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
_OPTIONAL = ("IssuerOfPatientID", "PatientAge", "PatientIdentityRemoved", "DeidentificationMethod", "StudyDescription")


def write_dicom_objects(
    case: Case, source: Dataset | None, heatmap: np.ndarray, folder: Path | str
) -> tuple[Path, Path]:
    """Write the heatmap of a case as a Secondary Capture, and its result as a structured report.

    Both are new series of the X-ray's study. Their UIDs are derived from the X-ray's SOP Instance UID (the path of a
    file without one) and the hash of the model: the same case and model give the same files.

    Args:
        case: The case; `screened`, the date of both objects, must be set.
        source: Dataset of the X-ray, whose pixels are not needed. None for a file that is no DICOM: the patient is then
            empty, and the UID of the study is derived from the path.
        heatmap: Heatmap over the X-ray, RGB, `(H, W, 3)`, uint8, of any size.
        folder: Folder for the files, created where it is missing.

    Returns:
        Paths of the Secondary Capture and of the report, each `<SOP Instance UID>.dcm`.

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
        ['OT', 'SR']
    """
    if heatmap.dtype != np.uint8 or heatmap.ndim != 3 or heatmap.shape[2] != 3:  # noqa: PLR2004
        raise ScreeningError(
            f"heatmap of shape {heatmap.shape} and type {heatmap.dtype}", "(H, W, 3) of uint8", "convert it to RGB"
        )
    require_extra("highdicom", "dicom")
    from .dicom_content import Origin, make_capture, make_report  # noqa: PLC0415  # needs highdicom

    with no_value_warnings:
        origin = Origin.of(case, source)
        capture = make_capture(origin, heatmap)
        report = make_report(origin, capture)
        for dataset in (capture, report):
            _copy_patient_and_study(dataset, source)
            _set_time(dataset, datetime.fromisoformat(case.screened))
        if source is not None and source.get("PatientOrientation"):
            capture.PatientOrientation = source.PatientOrientation
        return _write(capture, Path(folder)), _write(report, Path(folder))


def _copy_patient_and_study(dataset: Dataset, source: Dataset | None) -> None:
    """Copy values as they are, invalid ones too: the objects must be filed beside their image."""
    original = source if source is not None else Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword in (*_REQUIRED, *_OPTIONAL):
        value = original.get(keyword)
        if value is not None or keyword in _REQUIRED:
            # As text, which is then written in the character set of the object and not of the source.
            setattr(dataset, keyword, "" if value is None else _text(value))


def _text(value: object) -> str:
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)


def _set_time(dataset: Dataset, screened: datetime) -> None:
    """Set all times to that of the screening, in the local time zone as DICOM has it."""
    local = screened.astimezone()
    now = {"Date": local.strftime("%Y%m%d"), "Time": local.strftime("%H%M%S")}
    for name in ("InstanceCreation{}", "Content{}", "{}OfSecondaryCapture"):
        for part, value in now.items():
            if name.format(part) in dataset:
                setattr(dataset, name.format(part), value)
    for equipment in dataset.ContributingEquipmentSequence:
        equipment.ContributionDateTime = now["Date"] + now["Time"]


def _write(dataset: Dataset, folder: Path) -> Path:
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    with atomic_path(path, private=True) as unfinished:
        dataset.save_as(unfinished, enforce_file_format=True)
    return path
