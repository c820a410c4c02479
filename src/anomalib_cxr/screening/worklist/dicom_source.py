"""Attributes that a DICOM object takes over from the X-ray that it is about: valid values only.

A damaged header has values of any kind, and one invalid value makes archives refuse the whole object.
"""

from __future__ import annotations

import math
import unicodedata

from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import HTJ2K, JPEG2000, UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from pydicom.valuerep import validate_value

from anomalib_cxr.data.reading.dicom_text import UNREADABLE, stated_text

# Attributes of patient and study, so that an archive files the objects beside the X-ray.
_REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
_OPTIONAL = ("IssuerOfPatientID", "PatientAge", "StudyDescription")
_MAX_BYTES = {"LO": 64, "SH": 16}  # the standard counts characters; dicom3tools and some archives count bytes
_NAME_COMPONENTS = 5  # of a PN, PS3.5 6.2
_ORIENTATION = frozenset("LRAPHF")
_TERMS = {
    "PatientSex": ("M", "F", "O"),
    "PatientIdentityRemoved": ("YES", "NO"),
    "BurnedInAnnotation": ("YES", "NO"),
    "LossyImageCompression": ("00", "01"),
}
_LOSSY_METHODS = {  # PS3.3 C.7.6.1.1.5.1
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
    HTJ2K: "ISO_15444_15",
}
_MAX_RATIOS = 8  # a series of compressions


def valid_text(source: Dataset, keyword: str) -> str:
    """Return the one value of an attribute as text.

    Args:
        source: Dataset of the X-ray.
        keyword: Keyword of an attribute with one value of text.

    Returns:
        The value; empty where there is none, or one that the standard does not allow: too long, with control
        characters or letters of an unstated character set, of another form than its value representation (PS3.5
        6.2), or several values.

    Example:
        >>> source = Dataset()
        >>> source.PatientID, source.StudyID = "A17", "a long name of a study"
        >>> valid_text(source, "PatientID"), valid_text(source, "StudyID")
        ('A17', '')
    """
    values = valid_texts(source, keyword)
    return values[0] if len(values) == 1 else ""


def valid_texts(source: Dataset, keyword: str) -> list[str]:
    """Return the values of an attribute as texts, none if one of them is invalid.

    Args:
        source: Dataset of the X-ray.
        keyword: Keyword of an attribute with values of text.
    """
    try:
        value = source.get(keyword)
    except Exception:  # noqa: BLE001  # pydicom converts a value when it is asked for, and damaged ones raise anything
        return []
    parts = value if isinstance(value, MultiValue | list) else [value or ""]
    texts = [stated_text(str(part).strip(), source) for part in parts]
    return texts if all(_is_valid(keyword, text) for text in texts) else []


def _is_valid(keyword: str, text: str) -> bool:
    vr = dictionary_VR(keyword)
    if vr == "UI":
        return bool(text) and UID(text).is_valid
    try:
        validate_value(vr, text, RAISE)  # leaves control characters, the number of values and terms to others
    except ValueError:
        return False
    return not (
        any(unicodedata.category(character) in ("Cc", "Cs") for character in text)
        or UNREADABLE in text
        or "\\" in text
        or (text and text not in _TERMS.get(keyword, (text,)))
        or len(text.encode("utf-8", "replace")) > _MAX_BYTES.get(vr, math.inf)
        or (vr == "PN" and any(group.count("^") >= _NAME_COMPONENTS for group in text.split("=")))
    )


def copy_patient_and_study(dataset: Dataset, source: Dataset) -> None:
    """Copy the attributes of patient and study, and leave invalid ones empty.

    A value is never shortened: the first characters of an ID may be the ID of another patient.

    Args:
        dataset: The object.
        source: Dataset of the X-ray; empty for a file that is no DICOM.
    """
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _REQUIRED:
        setattr(dataset, keyword, valid_text(source, keyword))  # written in the character set of the object
    for keyword in _OPTIONAL:
        if text := valid_text(source, keyword):
            setattr(dataset, keyword, text)
    if valid_text(source, "PatientIdentityRemoved") == "YES":
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = valid_texts(source, "DeidentificationMethod") or ["as stated in the X-ray"]


def copy_pixel_facts(capture: Dataset, source: Dataset) -> None:
    """Copy what holds for the X-ray inside a heatmap too: orientation, burned-in text, and lossy compression.

    Args:
        capture: The Secondary Capture.
        source: Dataset of the X-ray; empty for a file that is no DICOM.
    """
    orientation = valid_texts(source, "PatientOrientation")
    if len(orientation) == 2 and all(part and _ORIENTATION.issuperset(part) for part in orientation):  # noqa: PLR2004  # rows and columns
        capture.PatientOrientation = orientation
    if burned_in := valid_text(source, "BurnedInAnnotation"):
        capture.BurnedInAnnotation = burned_in
    syntax = source.file_meta.get("TransferSyntaxUID") if hasattr(source, "file_meta") else None
    method = _LOSSY_METHODS.get(UID(syntax or ""))
    stated = valid_text(source, "LossyImageCompression")
    if method or stated:
        capture.LossyImageCompression = "01" if method else stated
    if capture.get("LossyImageCompression") == "01":
        _copy_compressions(capture, source, method)


def _copy_compressions(capture: Dataset, source: Dataset, method: str | None) -> None:
    """Copy ratios and methods, if they belong together; of the file's own compression the method is known."""
    ratios, methods = (
        [text for text in valid_texts(source, f"LossyImageCompression{fact}") if text] for fact in ("Ratio", "Method")
    )
    if ratios and len(ratios) == len(methods) <= _MAX_RATIOS:
        capture.LossyImageCompressionRatio, capture.LossyImageCompressionMethod = ratios, methods
    elif method:
        capture.LossyImageCompressionMethod = method
