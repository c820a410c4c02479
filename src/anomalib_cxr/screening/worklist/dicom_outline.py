"""Outline of what is most unusual, as a grayscale softcopy presentation state over the X-ray; needs highdicom."""

from __future__ import annotations

from pathlib import Path

import contourpy
import highdicom as hd
import numpy as np
from highdicom import pr
from pydicom.dataset import Dataset

from anomalib_cxr._version import __version__
from anomalib_cxr.data.reading.dicom_file import as_radiograph_error
from anomalib_cxr.data.reading.dicom_gray import apply_lut
from anomalib_cxr.data.reading.dicom_text import printable
from anomalib_cxr.errors import RadiographError
from anomalib_cxr.screening.case import SHORT_NOTICE

from .dicom_content import NAME, Origin

_SERIES = 9903
_LEVEL = 0.5
"""Share of the greatest heat of an image from which on places are outlined."""
_MAX_OUTLINES = 8
_COLOR = (80.0, 0.0, -60.0)  # CIELab: a light blue, as the outline of the lungs in heatmaps
_MAX_TEXT = 1024  # characters of Unformatted Text Value (0070,0006), VR ST
_GRAY_SCALE = ("RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth", "VOILUTFunction")
_WHITE = 2**16 - 1  # of the entries of a table


def outlines(heat: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    """Return the outlines of the places with at least half of the greatest heat, the largest first.

    Args:
        heat: Anomaly map in [0, 1], `(S, S)`.
        size: Height and width of the X-ray in pixels.

    Returns:
        Closed polygons, `(N, 2)` each, of column and row, the last point the first again; 0 is the edge of the first
        pixel. No heat has no outline.

    Example:
        >>> heat = np.zeros((4, 4))
        >>> heat[1, 2] = 1
        >>> [outline[:-1].mean(axis=0).round(1).tolist() for outline in outlines(heat, (80, 40))]
        [[25.0, 30.0]]
    """
    levels = np.rint(255 * np.clip(heat, 0, 1)) / 255  # as in the file of the layer: the same on each run
    if not levels.max():
        return []
    lines = contourpy.contour_generator(z=np.pad(levels, 1)).lines(_LEVEL * float(levels.max()))
    scale = np.array([size[1] / heat.shape[1], size[0] / heat.shape[0]])
    polygons = [np.clip((np.asarray(line) - 0.5) * scale, 0, size[::-1]) for line in lines]
    return sorted(polygons, key=_area, reverse=True)[:_MAX_OUTLINES]


def make_outline(origin: Origin, source: Dataset, heat: np.ndarray) -> pr.GrayscaleSoftcopyPresentationState | None:
    """Return the presentation state of an X-ray, without patient.

    Args:
        origin: X-ray that the object is about.
        source: Its dataset.
        heat: Anomaly map in [0, 1], `(S, S)`.

    Returns:
        The presentation state; None where there is no DICOM image to refer to, or its gray scale is damaged or has a
        modality table.
    """
    if not origin.is_dicom:
        return None
    try:
        with as_radiograph_error(Path(origin.case.path), "no presentation state"):
            return _make(origin, source, heat)
    except RadiographError:  # the gray scale of a header may hold anything
        return None


def _make(origin: Origin, source: Dataset, heat: np.ndarray) -> pr.GrayscaleSoftcopyPresentationState:
    image = _reference(origin, source)
    layer = pr.GraphicLayer("ANOMALY", 1, f"Most unusual places. {SHORT_NOTICE}", hd.color.CIELabColor(*_COLOR))
    size = (int(image.Rows), int(image.Columns))
    polygons = [
        pr.GraphicObject(pr.GraphicTypeValues.POLYLINE, np.round(polygon, 2), pr.AnnotationUnitsValues.PIXEL)
        for polygon in outlines(heat, size)
    ]
    sentence = printable(f"{SHORT_NOTICE} {origin.case.findings}").strip()[:_MAX_TEXT]
    text = pr.TextObject(
        sentence,
        pr.AnnotationUnitsValues.PIXEL,
        bounding_box=(0.0, 0.0, float(size[1]), max(1.0, size[0] / 16)),
        text_justification=pr.TextJustificationValues.LEFT,
    )
    annotation = pr.GraphicAnnotation([image], layer, graphic_objects=polygons or None, text_objects=[text])
    inverse = str(source.get("PhotometricInterpretation") or "").strip() == "MONOCHROME1"
    shape = hd.enum.PresentationLUTShapeValues.INVERSE if inverse else hd.enum.PresentationLUTShapeValues.IDENTITY
    state = pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[image],
        series_instance_uid=origin.uid("outline series"),
        series_number=_SERIES,
        series_description=f"{NAME} outline",
        sop_instance_uid=origin.uid("outline"),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=__version__,
        device_serial_number=origin.case.model or None,  # type: ignore[arg-type]  # as its docstring says
        content_label="ANOMALY",
        content_description=SHORT_NOTICE,
        graphic_layers=[layer],
        graphic_annotations=[annotation],
        voi_lut_transformations=_tables(origin, source),
        presentation_lut_transformation=hd.content.PresentationLUTTransformation(presentation_lut_shape=shape),
        specific_character_set="ISO_IR 192",
    )
    state.BodyPartExamined = "CHEST"  # not paired: no laterality is needed
    return state


def _reference(origin: Origin, source: Dataset) -> Dataset:
    """Return a dataset with what a presentation state takes over from its X-ray, without the patient."""
    image = Dataset()
    image.StudyInstanceUID, image.SeriesInstanceUID = origin.study_uid, origin.series_uid
    image.SOPClassUID, image.SOPInstanceUID = origin.class_uid, origin.sop_uid
    image.Rows, image.Columns, image.SamplesPerPixel = int(source.Rows), int(source.Columns), 1
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
        setattr(image, keyword, "")
    for keyword in ("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"):
        setattr(image, keyword, "")
    if source.get("ModalityLUTSequence"):
        raise ValueError("a modality table, which is not taken over")
    for keyword in _GRAY_SCALE:
        if source.get(keyword) not in (None, ""):
            image[keyword] = source[keyword]
    return image


def _tables(origin: Origin, source: Dataset) -> list[pr.SoftcopyVOILUTTransformation] | None:
    """Return the first VOI table of an X-ray, whose entries are spread over 16 bits; None for its windows."""
    if not source.get("VOILUTSequence"):
        return None
    table = source.VOILUTSequence[0]
    signed = source.get("PixelRepresentation") == 1 or float(source.get("RescaleIntercept") or 0) < 0
    entries, first = int(table.LUTDescriptor[0]) or 2**16, int(table.LUTDescriptor[1])
    outputs, top = apply_lut(Path(origin.case.path), table, first + np.arange(entries, dtype=float), signed=signed)
    levels = np.rint(outputs / top * _WHITE).astype(np.uint16)
    return [pr.SoftcopyVOILUTTransformation(voi_luts=[hd.content.VOILUT(first, levels)])]


def _area(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return float(abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2)
