"""The content of the DICOM objects, by highdicom: all but patient, study and dates.

The report is a Comprehensive SR by the template for measurements of images, TID 1500. Names for which neither DICOM nor
SNOMED has a code come from a private scheme, which the report declares.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import highdicom as hd
import numpy as np
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from anomalib_cxr._version import __version__
from anomalib_cxr.screening.case import NOTICE, Case, Decision

from .dicom_export import Origin

_NAME = "anomalib_cxr"
_SCHEME = "99ANOMALIBCXR"
_CAPTURE_SERIES, _REPORT_SERIES = 9901, 9902  # behind those of the machine
_CHEST_XRAY = CodedConcept("399208008", "SCT", "Plain X-ray of chest")


def _own(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value, _SCHEME, meaning)


_FINDING = _own("anomaly", "Anomaly in a chest X-ray")
_DECISION = _own("decision", "Decision of the screening")
_DECISIONS = {decision: _own(decision.name.lower(), decision.value) for decision in Decision}
_MEASUREMENTS = {
    "score": _own("score", "Anomaly score, from 0 to 1"),
    "threshold": _own("threshold", "Least anomaly score that is to be read"),
    "probability": _own("probability", "Probability of disease at the calibration's prevalence"),
    "p_value": _own("p_value", "Share of healthy images that score as high (p-value)"),
}


def make_capture(origin: Origin, heatmap: np.ndarray) -> hd.sc.SCImage:
    """Return a Secondary Capture of an RGB picture `(H, W, 3)`, uint8, without patient."""
    capture = hd.sc.SCImage(
        pixel_array=heatmap,
        photometric_interpretation=hd.PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "F"),  # as a frontal X-ray is shown, where the source does not tell
        study_instance_uid=origin.study_uid,
        series_instance_uid=origin.uid("capture series"),
        series_number=_CAPTURE_SERIES,
        series_description=f"{_NAME} heatmap",
        sop_instance_uid=origin.uid("capture"),
        instance_number=1,
        manufacturer=_NAME,
        manufacturer_model_name=_NAME,
        software_versions=__version__,
        device_serial_number=origin.case.model or None,
    )
    capture.DerivationDescription = "Where the X-ray is unlike healthy ones, as color over it"
    capture.ImageComments = NOTICE
    if origin.is_dicom:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = origin.class_uid, origin.sop_uid
        capture.SourceImageSequence = [reference]
    return capture


def make_report(origin: Origin, capture: Dataset) -> sr.ComprehensiveSR:
    """Return a structured report on a case that refers to the X-ray and the capture, without patient."""
    case = origin.case
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=origin.uid("device"),
        name=_NAME,
        manufacturer_name=_NAME,
        model_name=f"{_NAME} {__version__}",
        serial_number=case.model or None,
    )
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device)),
        procedure_reported=_CHEST_XRAY,
        imaging_measurements=[_group(origin, capture)],
    )
    report[0].ContentSequence.append(_comment(NOTICE))
    document = sr.ComprehensiveSR(
        evidence=[capture, *_evidence(origin)],
        content=report,
        series_instance_uid=origin.uid("report series"),
        series_number=_REPORT_SERIES,
        series_description=f"{_NAME} report",
        sop_instance_uid=origin.uid("report"),
        instance_number=1,
        manufacturer=_NAME,
        manufacturer_model_name=_NAME,
        software_versions=__version__,
        device_serial_number=case.model or None,
        is_complete=True,
        coding_schemes=[CodingSchemeIdentificationItem(_SCHEME, name=f"Private codes of {_NAME}")],
    )
    # highdicom takes whatever made the first evidence, here the capture, for the X-ray machine.
    document.ContributingEquipmentSequence = deepcopy(capture.ContributingEquipmentSequence)
    return document


def _group(origin: Origin, capture: Dataset) -> sr.MeasurementsAndQualitativeEvaluations:
    """Return what is said of the image, in the template's words for one group of measurements."""
    case = origin.case
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=origin.uid("tracking"), identifier="X-ray"),
        finding_type=_FINDING,
        algorithm_id=sr.AlgorithmIdentification(
            name=_NAME, version=__version__, parameters=[f"SHA-256 of the model: {case.model}"]
        ),
        finding_sites=[sr.FindingSite(codes.SCT.Chest)],
        measurements=list(_measurements(case)),
        qualitative_evaluations=[sr.QualitativeEvaluation(_DECISION, _DECISIONS[case.decision])],
        source_images=[sr.SourceImageForMeasurementGroup(origin.class_uid, origin.sop_uid)]
        if origin.is_dicom
        else None,
    )
    picture = sr.ImageContentItem(
        codes.DCM.BestIllustrationOfFinding,
        capture.SOPClassUID,
        capture.SOPInstanceUID,
        relationship_type=sr.RelationshipTypeValues.CONTAINS,
    )
    group[0].ContentSequence.extend([*map(_comment, filter(None, (case.why, case.findings))), picture])
    return group


def _measurements(case: Case) -> Iterator[sr.Measurement]:
    for field, name in _MEASUREMENTS.items():
        value = getattr(case, field)
        if value is not None:
            yield sr.Measurement(name, value, codes.UCUM.NoUnits)


def _comment(text: str) -> sr.TextContentItem:
    return sr.TextContentItem(codes.DCM.Comment, text, sr.RelationshipTypeValues.CONTAINS)


def _evidence(origin: Origin) -> Iterator[Dataset]:
    """Yield what is enough of the X-ray for a reference to it."""
    if origin.is_dicom:
        image = Dataset()
        image.StudyInstanceUID, image.SeriesInstanceUID = origin.study_uid, origin.series_uid
        image.SOPClassUID, image.SOPInstanceUID = origin.class_uid, origin.sop_uid
        yield image
