"""One page about a case, as a PDF encapsulated in DICOM; needs highdicom."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import highdicom as hd
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from anomalib_cxr._version import __version__
from anomalib_cxr.screening.case import (
    BELOW_THRESHOLD_NOTICE,
    NOT_SCORED_NOTICE,
    NOTICE,
    SHORT_NOTICE,
    Case,
    Decision,
)
from anomalib_cxr.screening.heat_colors import EXPLANATION

from .dicom_content import NAME, Origin
from .page_text import FONT, drawn_lines

_SERIES = 9904
_PAGE = (8.27, 11.69)  # inches, A4
_LINE = 95  # characters
_SETTINGS: Any = {
    "pdf.fonttype": 3,
    "pdf.compression": 6,
    "text.parse_math": False,
    "text.usetex": False,
    "font.family": [FONT],
}
"""Glyphs as drawings, a third of the work of subsets of a font; a text with dollar signs is no formula."""


def draw_page(case: Case, heatmap: np.ndarray | None) -> bytes:
    """Draw the page: heatmap, result and notices, without the patient's name and ID.

    Args:
        case: The case.
        heatmap: Heatmap over the X-ray, RGB, `(H, W, 3)`, uint8; None where there is none.

    Returns:
        A PDF of one page: the same bytes for the same case.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=_PAGE)
        figure.text(0.5, 0.96, f"{NAME}: {SHORT_NOTICE}", ha="center", va="top", weight="bold", color="darkred")
        if heatmap is not None:
            axes = figure.add_axes((0.1, 0.40, 0.8, 0.53))
            axes.imshow(heatmap, interpolation="nearest")
            axes.set_axis_off()
        top = 0.90 if heatmap is None else 0.38
        figure.text(0.1, top, _heading(case), ha="left", va="top", size=12, weight="bold")
        lines = "\n".join(drawn_lines(list(_facts(case)), _LINE))
        figure.text(0.1, top - 0.03, lines, ha="left", va="top", size=8.5, linespacing=1.4)
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Title": f"{NAME}: {SHORT_NOTICE}"})
    return buffer.getvalue()


def _heading(case: Case) -> str:
    return "Not scored" if case.decision is Decision.REFUSED else f"Result of the screening: {case.decision.value}"


def _facts(case: Case) -> Iterator[str]:
    """Yield the paragraphs of the page; empty ones are left out."""
    is_refused = case.decision is Decision.REFUSED
    if is_refused:
        yield f"Reason: {case.why}"
    else:
        yield f"Anomaly score {_number(case.score)}, calibrated threshold {_number(case.threshold)}"
        yield f"Probability of disease at the calibration's prevalence {_number(case.probability)}"
        yield f"Share of healthy images that score as high {_number(case.p_value)}"
        yield from (case.findings, case.guarantee, f"Heatmap: {EXPLANATION}")
    yield f"X-ray: SOP Instance UID {case.sop_uid or 'none'}, SHA-256 {case.content or 'unknown'}"
    yield f"Model: SHA-256 {case.model or 'unknown'}, screened {case.screened}, {NAME} {__version__}"
    yield from (NOTICE, NOT_SCORED_NOTICE if is_refused else BELOW_THRESHOLD_NOTICE)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def make_document(origin: Origin, heatmap: np.ndarray | None) -> hd.SOPClass:
    """Return the encapsulated page, without patient.

    Args:
        origin: Image that the object is about.
        heatmap: Heatmap over the X-ray, RGB, `(H, W, 3)`, uint8; None where there is none.
    """
    document = hd.SOPClass(
        study_instance_uid=origin.study_uid,
        series_instance_uid=origin.uid("document series"),
        series_number=_SERIES,
        series_description=f"{NAME} page",
        sop_instance_uid=origin.uid("document"),
        sop_class_uid=EncapsulatedPDFStorage,
        instance_number=1,
        modality="DOC",
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=__version__,
        device_serial_number=origin.case.model or None,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    pdf = draw_page(origin.case, heatmap)
    document.ConversionType = "WSD"
    for keyword in ("ContentDate", "ContentTime", "AcquisitionDateTime"):
        setattr(document, keyword, "")
    document.BurnedInAnnotation = "NO"  # no name, no ID
    document.DocumentTitle = f"{NAME}: {SHORT_NOTICE}"
    document.ConceptNameCodeSequence = []
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocumentLength = len(pdf)
    document.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    if origin.is_dicom:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = origin.class_uid, origin.sop_uid
        document.SourceInstanceSequence = [reference]
    return document
