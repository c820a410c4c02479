"""Subject of a DICOM file by its header: whether it is stated to be something else than an upright frontal chest X-ray.

Only coded statements count. Free texts, such as a description of the series, often hold for several images.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from anomalib_cxr.errors import RadiographError

from .dicom_text import printable, statement

MODALITIES = frozenset({"CR", "DX", "RG"})
"""Accepted defined terms of Modality (0008,0060): computed, digital and film radiography. OT, "other", is refused."""
FRONTAL_VIEWS = frozenset({"AP", "PA"})
"""Accepted defined terms of View Position (0018,5101)."""
STANDARD_ORIENTATION = ("L", "F")
"""Patient Orientation (0020,0020) of an upright frontal view: rows run to the patient's left, columns to the feet."""

_LATERAL_VIEWS = frozenset({"LL", "RL"})
STORAGE_CLASSES = frozenset(
    {
        uid.ComputedRadiographyImageStorage,
        uid.DigitalXRayImageStorageForPresentation,
        uid.DigitalXRayImageStorageForProcessing,
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
        uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
        uid.SecondaryCaptureImageStorage,  # of any modality
    }
)
"""Storage classes of files without a Modality that are accepted; a node accepts these over the network."""
# pydicom compares the codes of SNOMED RT that it knows with those of SNOMED CT.
_FRONTAL_CODES = (
    codes.cid4010.AnteroPosterior,
    codes.cid4010.PosteroAnterior,
    codes.cid4010.Frontal,
    Code("R-10214", "SRT", "postero-anterior"),
)
_CHEST_CODES = (
    codes.cid4009.Chest,
    Code("51185008", "SCT", "Thorax"),  # the code of Chest before 2019
    codes.cid4009.ApexOfLung,
    codes.SCT.Lung,
)
_SNOMED_RT = frozenset({"99SDM", "SNM3"})  # older designators of SRT
_UNSTATED = frozenset({"", "NONE", "OTHER", "UNDEFINED", "UNKNOWN", "UNSPECIFIED"})
_CHEST_WORDS = frozenset({"CHEST", "LUNG", "LUNGS", "PULMO", "THORAX", "TORAX"})
_BESIDE_CHEST = frozenset({"ADULT", "AP", "BEDSIDE", "CHILD", "ERECT", "FRONTAL", "PA", "PORT", "PORTABLE", "SUPINE"})
_FRONTAL_MEANING = re.compile(r"\b(?:ap|pa|(?:antero|postero)[- ]?(?:posterior|anterior)|frontal)\b", re.IGNORECASE)
_OTHER_MEANING = re.compile(r"lateral|oblique|axial|lordotic|decubitus", re.IGNORECASE)


def check_subject(path: Path, dataset: Dataset) -> None:
    r"""Refuse a file whose header states something else than one upright frontal chest X-ray.

    Absent and empty statements are accepted: the pixels decide then. Without a Modality (0008,0060), the SOP Class UID
    (0008,0016) is examined instead. A mirrored or rotated image is refused rather than corrected, since lung masks and
    viewers refer to the pixels as they are stored.

    Args:
        path: The file, for the error.
        dataset: Its header.

    Raises:
        RadiographError: With all contradicting attributes.

    Example:
        >>> dataset = Dataset()
        >>> dataset.Modality, dataset.PatientOrientation = "DX", ["A", "F"]
        >>> check_subject(Path("chest.dcm"), dataset)
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.RadiographError: found: chest.dcm: PatientOrientation (0020,0020) = 'A\F', a lateral view
          expected: 'L\F' or no statement
          next step: leave this file out, or correct the attribute if it is wrong
    """
    found = [contradiction for check in _CHECKS for contradiction in check(dataset)]
    if found:
        raise RadiographError(
            path,
            "; ".join(reason for reason, _ in found),
            "; ".join(expected for _, expected in found),
            "leave this file out, or correct the attribute if it is wrong",
        )


Contradictions = Iterator[tuple[str, str]]
"""What was found, and what was expected."""


def _text(value: object) -> str:
    values = value if isinstance(value, MultiValue) else [value]
    return printable("\\".join("" if part is None else str(part).strip() for part in values)).strip().upper()


def _modality(dataset: Dataset) -> Contradictions:
    modality, storage = _text(dataset.get("Modality")), uid.UID(_text(dataset.get("SOPClassUID")))
    if modality:
        if modality not in MODALITIES:
            yield statement("Modality", modality), f"a radiograph: {', '.join(sorted(MODALITIES))}, or no statement"
    elif storage.type and storage not in STORAGE_CLASSES:  # a class of the standard
        yield statement("SOPClassUID", storage.name), "the storage class of a radiograph"


def _view_position(dataset: Dataset) -> Contradictions:
    view = _text(dataset.get("ViewPosition"))
    if view and view not in FRONTAL_VIEWS:
        lateral = ", a lateral view" if view in _LATERAL_VIEWS or "LAT" in view else ""
        yield f"{statement('ViewPosition', view)}{lateral}", "a frontal view: AP, PA or no statement"


def _view_code(dataset: Dataset) -> Contradictions:
    for code in _coded(dataset, "ViewCodeSequence"):
        is_frontal = _FRONTAL_MEANING.search(code.meaning) and not _OTHER_MEANING.search(code.meaning)
        if code not in _FRONTAL_CODES and (_is_standard(code) or not is_frontal):
            yield statement("ViewCodeSequence", _code_text(code)), "the code of a frontal view: AP, PA or none"


def _body_part(dataset: Dataset) -> Contradictions:
    part = _text(dataset.get("BodyPartExamined"))
    if part not in _UNSTATED and not _names_chest(part):
        yield statement("BodyPartExamined", part), "CHEST, THORAX, LUNG or no statement"


def _anatomic_region(dataset: Dataset) -> Contradictions:
    for code in _coded(dataset, "AnatomicRegionSequence"):
        if code not in _CHEST_CODES and (_is_standard(code) or not _names_chest(code.meaning.upper())):
            yield statement("AnatomicRegionSequence", _code_text(code)), "the code of the chest, or none"


def _orientation(dataset: Dataset) -> Contradictions:
    stated = _text(dataset.get("PatientOrientation"))
    # The first letter of each direction is the main one; others refine it.
    main = tuple(direction.strip()[:1] for direction in stated.split("\\"))
    if any(main) and main != STANDARD_ORIENTATION:
        expected = "\\".join(STANDARD_ORIENTATION)
        yield f"{statement('PatientOrientation', stated)}, {_pose(main)}", f"'{expected}' or no statement"


def _pose(main: Sequence[str]) -> str:
    if {"A", "P"} & set(main):
        return "a lateral view" if {"H", "F"} & set(main) else "an axial view"
    poses = {"RF": "mirrored", "LH": "upside down as in a mirror", "RH": "turned by 180 degrees"}
    turned = "turned by 90 degrees" if main[0] in {"H", "F"} else "no upright frontal view"
    return poses.get("".join(main), turned)


def _frames(dataset: Dataset) -> Contradictions:
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        yield statement("NumberOfFrames", frames), "a single image"


_CHECKS: tuple[Callable[[Dataset], Contradictions], ...] = (
    _modality,
    _view_position,
    _view_code,
    _body_part,
    _anatomic_region,
    _orientation,
    _frames,
)


def _coded(dataset: Dataset, keyword: str) -> Iterator[Code]:
    """Yield the codes of a sequence; items without a value and a meaning state nothing."""
    for item in dataset.get(keyword) or ():
        value = str(item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or "").strip()
        scheme, meaning = (
            _text(item.get("CodingSchemeDesignator")),
            printable(str(item.get("CodeMeaning") or "")).strip(),
        )
        if value or meaning:
            yield Code(value, "SRT" if scheme in _SNOMED_RT else scheme, meaning)


def _is_standard(code: Code) -> bool:
    """Tell whether the meaning of a code is defined by the standard; others are known by their meaning alone."""
    return code.scheme_designator in {"SCT", "SRT", "DCM"}


def _code_text(code: Code) -> str:
    return f"{code.meaning} ({code.value}, {code.scheme_designator})"


def _names_chest(text: str) -> bool:
    """Tell whether a text names the chest and nothing else."""
    words = set(re.findall(r"[^\W\d_]+", text))
    return bool(words & _CHEST_WORDS) and words <= _CHEST_WORDS | _BESIDE_CHEST
