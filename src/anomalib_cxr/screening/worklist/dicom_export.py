"""What screening says of an X-ray as DICOM objects: the heatmap as a Secondary Capture, and a structured report."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, generate_uid

from anomalib_cxr.data.reading.dicom_file import no_value_warnings
from anomalib_cxr.errors import ScreeningError, require_extra
from anomalib_cxr.screening.case import Case
from anomalib_cxr.utils.files import atomic_path

# Of the patient and the study, as the X-ray has them: an archive files the objects beside it.
_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")
_IF_THERE = ("IssuerOfPatientID", "PatientAge", "PatientIdentityRemoved", "DeidentificationMethod", "StudyDescription")


class Origin(NamedTuple):
    """What the objects of a case are filed under, and the image that they are about."""

    case: Case
    study_uid: str
    series_uid: str
    """Of the image; empty where there is none to refer to, as all below."""
    class_uid: str
    sop_uid: str

    @property
    def is_dicom(self) -> bool:
        """Tell whether the image can be referred to."""
        return bool(self.series_uid and self.class_uid and self.sop_uid)

    def uid(self, role: str) -> UID:
        """Return the UID of what has this role: the same for the same image and model."""
        return generate_uid(entropy_srcs=[self.sop_uid or self.case.path, self.case.model, role])

    @classmethod
    def of(cls, case: Case, source: Dataset | None) -> Origin:
        """Take what an X-ray tells of its origin; a study that it does not tell is derived from its path."""
        told = source if source is not None else Dataset()
        keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
        study, *others = (str(told.get(keyword) or "") for keyword in keywords)
        return cls(case, study or generate_uid(entropy_srcs=[case.path, "study"]), *others)


def write_dicom_objects(
    case: Case, source: Dataset | None, heatmap: np.ndarray, folder: Path | str
) -> tuple[Path, Path]:
    """Write the heatmap of a case as a Secondary Capture, and what is said of it as a structured report.

    Both are new series of the X-ray's study. Their UIDs come from the X-ray's SOP Instance UID (the path of a file
    without one) and the hash of the model: a case that is screened again by the same model gives the same files.

    Args:
        case: The case; `screened` has to be set, the date of both objects.
        source: The X-ray's dataset; its pixels are not needed. None for a picture that is no DICOM: the patient is
            then empty, and the UID of the study is derived from the path.
        heatmap: The picture of where to look as a person is to see it, such as the X-ray with the heat laid over it:
            RGB, `(H, W, 3)`, uint8, of any size.
        folder: Folder of the files, to be created.

    Returns:
        The Secondary Capture and the report, `<SOP Instance UID>.dcm` each.

    Raises:
        MissingExtraError: If highdicom is not installed.
        ScreeningError: If the heatmap is of another kind.

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
    from .dicom_content import make_capture, make_report  # noqa: PLC0415  # needs the optional highdicom

    with no_value_warnings:
        origin = Origin.of(case, source)
        capture = make_capture(origin, heatmap)
        report = make_report(origin, capture)
        for made in (capture, report):
            _add_patient_and_study(made, source)
            _date(made, datetime.fromisoformat(case.screened))
        if source is not None and source.get("PatientOrientation"):
            capture.PatientOrientation = source.PatientOrientation
        capture_path, report_path = (_write(made, Path(folder)) for made in (capture, report))
    return capture_path, report_path


def _add_patient_and_study(made: Dataset, source: Dataset | None) -> None:
    """Copy values as they are: one that breaks a rule has to be found beside its image, too."""
    told = source if source is not None else Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    for keyword in (*_PATIENT, *_STUDY, *_IF_THERE):
        value = told.get(keyword)
        if value is not None or keyword not in _IF_THERE:
            # As text, which is then written in the character set of the object and not of the source.
            setattr(made, keyword, "" if value is None else _text(value))


def _text(value: object) -> str:
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)


def _date(made: Dataset, screened: datetime) -> None:
    """Put the time of screening, in the zone of this machine as DICOM has it, in place of now."""
    local = screened.astimezone()
    now = {"Date": local.strftime("%Y%m%d"), "Time": local.strftime("%H%M%S")}
    for name in ("InstanceCreation{}", "Content{}", "{}OfSecondaryCapture"):
        for part, value in now.items():
            if name.format(part) in made:
                setattr(made, name.format(part), value)
    for equipment in made.ContributingEquipmentSequence:
        equipment.ContributionDateTime = now["Date"] + now["Time"]


def _write(made: Dataset, folder: Path) -> Path:
    path = folder / f"{made.SOPInstanceUID}.dcm"
    with atomic_path(path) as unfinished:
        made.save_as(unfinished, enforce_file_format=True)
    return path
