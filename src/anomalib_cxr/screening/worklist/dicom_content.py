"""Content of the DICOM objects without patient, study and times; needs highdicom.

The report is a Comprehensive SR by template TID 1500, Measurement Report. Concepts for which neither DICOM nor SNOMED
has a code come from a private scheme, which the report declares.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import NamedTuple

import highdicom as hd
import numpy as np
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, generate_uid

from anomalib_cxr._version import __version__
from anomalib_cxr.data.reading.dicom_text import printable
from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, NOT_SCORED_NOTICE, NOTICE, Case, Decision
from anomalib_cxr.screening.heat_colors import EXPLANATION

from .dicom_notice import burn_notice
from .dicom_source import valid_text, valid_texts
from .page_text import draw_refusal

NAME = "anomalib_cxr"
"""Name of manufacturer and device in the objects."""
_SCHEME = "99ANOMALIBCXR"
_CAPTURE_SERIES, _REPORT_SERIES = 9901, 9902  # after the series of the X-ray machine
_CHEST_XRAY = CodedConcept("399208008", "SCT", "Plain X-ray of chest")


def _private(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value, _SCHEME, meaning)


_FINDING = _private("anomaly", "Anomaly in a chest X-ray")
_DECISION = _private("decision", "Result of the screening")
_DECISIONS = {decision: _private(decision.name.lower(), decision.value) for decision in Decision}
_MEASUREMENTS = {
    "score": _private("score", "Anomaly score, from 0 to 1"),
    "threshold": _private("threshold", "Calibrated threshold of the anomaly score"),
    "probability": _private("probability", "Probability of disease at the calibration's prevalence"),
    "p_value": _private("p_value", "Share of healthy images that score as high (p-value)"),
}


_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
_PATIENT = ("IssuerOfPatientID", "PatientID", "PatientName", "PatientBirthDate")


class Origin(NamedTuple):
    """Image that the objects of a case are about, and the study that they are filed under.

    Attributes:
        case: The case.
        study_uid: Study Instance UID; derived from the content where the image has no valid one.
        series_uid: Series Instance UID of the image; empty where there is no valid one, as the next two.
        class_uid: SOP Class UID of the image.
        sop_uid: SOP Instance UID of the image.
        identity: All that tells the image and its result from others.
    """

    case: Case
    study_uid: str
    series_uid: str
    class_uid: str
    sop_uid: str
    identity: tuple[str, ...]

    @property
    def is_dicom(self) -> bool:
        """True if the image can be referred to."""
        return bool(self.series_uid and self.class_uid and self.sop_uid)

    def uid(self, role: str) -> UID:
        """Return the UID of an object: the same for the same image, result and role.

        Args:
            role: Role of the object, such as `report`.
        """
        return generate_uid(entropy_srcs=[*self.identity, role])

    @classmethod
    def of(cls, case: Case, source: Dataset) -> Origin:
        """Return the origin of a case.

        Args:
            case: The case.
            source: Dataset of the X-ray; empty for a file that is no DICOM.
        """
        stated = [f"{keyword}: {valid_texts(source, keyword)}" for keyword in (*_UIDS, *_PATIENT)]
        content = case.content or case.path
        result = (case.model, case.calibration, case.options, case.subgroup, case.decision.value)
        study, series, class_uid, sop = (valid_text(source, keyword) for keyword in _UIDS)
        study = study or generate_uid(entropy_srcs=[content, "study"])
        return cls(case, study, series, class_uid, sop, (*stated, content, *result))


def make_capture(origin: Origin, heatmap: np.ndarray | None) -> hd.sc.SCImage:
    """Return the Secondary Capture of a heatmap, or of the reason of a refusal, without patient.

    Args:
        origin: Image that the object is about.
        heatmap: RGB, `(H, W, 3)`, uint8; the notice is added below it. None where there is none: a picture says why.
    """
    capture = hd.sc.SCImage(
        pixel_array=burn_notice(draw_refusal(origin.case) if heatmap is None else heatmap),
        photometric_interpretation=hd.PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "F"),  # of a frontal X-ray; that of the source replaces it where known
        study_instance_uid=origin.study_uid,
        series_instance_uid=origin.uid("capture series"),
        series_number=_CAPTURE_SERIES,
        series_description=f"{NAME} {'not scored' if heatmap is None else 'heatmap'}",
        sop_instance_uid=origin.uid("capture"),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=__version__,
        device_serial_number=origin.case.model or None,
    )
    capture.BodyPartExamined = "CHEST"  # not paired: no laterality is needed
    capture.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    capture.DerivationDescription = (
        NOT_SCORED_NOTICE if heatmap is None else f"Anomaly map as color over the X-ray. {EXPLANATION}"
    )
    capture.ImageComments = NOTICE
    if origin.is_dicom:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = origin.class_uid, origin.sop_uid
        capture.SourceImageSequence = [reference]
    return capture


def make_report(origin: Origin, capture: Dataset) -> sr.ComprehensiveSR:
    """Return the structured report on a case, which refers to the X-ray and the capture, without patient.

    Args:
        origin: Image that the object is about.
        capture: The Secondary Capture.
    """
    case = origin.case
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=origin.uid("device"),
        name=NAME,
        manufacturer_name=NAME,
        model_name=f"{NAME} {__version__}",
        serial_number=case.model or None,
    )
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device)),
        procedure_reported=_CHEST_XRAY,
        imaging_measurements=[_group(origin, capture)],
    )
    about_score = NOT_SCORED_NOTICE if case.decision is Decision.REFUSED else BELOW_THRESHOLD_NOTICE
    report[0].ContentSequence.extend([_comment(NOTICE), _comment(about_score)])
    document = sr.ComprehensiveSR(
        evidence=[capture, *_evidence(origin)],
        content=report,
        series_instance_uid=origin.uid("report series"),
        series_number=_REPORT_SERIES,
        series_description=f"{NAME} report",
        sop_instance_uid=origin.uid("report"),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=__version__,
        device_serial_number=case.model or None,
        is_complete=True,
        coding_schemes=[CodingSchemeIdentificationItem(_SCHEME, name=f"Private codes of {NAME}")],
    )
    # highdicom takes the equipment of the first evidence, here the capture, for the X-ray machine.
    document.ContributingEquipmentSequence = deepcopy(capture.ContributingEquipmentSequence)
    return document


def _group(origin: Origin, capture: Dataset) -> sr.MeasurementsAndQualitativeEvaluations:
    """Return the measurements and evaluations of the image."""
    case = origin.case
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=origin.uid("tracking"), identifier="X-ray"),
        finding_type=_FINDING,
        algorithm_id=sr.AlgorithmIdentification(
            name=NAME, version=__version__, parameters=[f"SHA-256 of the model: {case.model}"]
        ),
        finding_sites=[sr.FindingSite(codes.SCT.Chest)],
        measurements=list(_measurements(case)),
        qualitative_evaluations=[sr.QualitativeEvaluation(_DECISION, _DECISIONS[case.decision])],
        source_images=[sr.SourceImageForMeasurementGroup(origin.class_uid, origin.sop_uid)]
        if origin.is_dicom
        else None,
    )
    illustration = sr.ImageContentItem(
        codes.DCM.BestIllustrationOfFinding,
        capture.SOPClassUID,
        capture.SOPInstanceUID,
        relationship_type=sr.RelationshipTypeValues.CONTAINS,
    )
    sentences = filter(None, (printable(text).strip() for text in (case.why, case.findings, case.guarantee)))
    group[0].ContentSequence.extend([*map(_comment, sentences), illustration])
    return group


def _measurements(case: Case) -> Iterator[sr.Measurement]:
    for field, name in _MEASUREMENTS.items():
        value = getattr(case, field)
        if value is not None:
            yield sr.Measurement(name, value, codes.UCUM.NoUnits)


def _comment(text: str) -> sr.TextContentItem:
    return sr.TextContentItem(codes.DCM.Comment, text, sr.RelationshipTypeValues.CONTAINS)


def _evidence(origin: Origin) -> Iterator[Dataset]:
    """Yield a dataset with the attributes of the X-ray that a reference needs."""
    if origin.is_dicom:
        image = Dataset()
        image.StudyInstanceUID, image.SeriesInstanceUID = origin.study_uid, origin.series_uid
        image.SOPClassUID, image.SOPInstanceUID = origin.class_uid, origin.sop_uid
        yield image
