"""Metadata of X-rays: clinical readings in text files, and headers of DICOM files."""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import UID

from .content import ImageSource, path_of
from .dicom_file import as_radiograph_error, is_dicom, load_dicom
from .dicom_text import printable, stated_text

_LABELED = re.compile(r"patient.?s\s+(?P<key>sex|age)\s*:(?P<value>.*)", re.IGNORECASE)
_SEX = re.compile(r"\b(?:female|male|f|m)(?![a-z])", re.IGNORECASE)
_AGE = re.compile(r"(?<!\d)(?<!\d[.,])(?<!^-)(?P<count>\d+(?:[.,]\d+)?)\s*(?P<unit>y|m|w|d)", re.IGNORECASE)
_YEARS = {"y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}


class ClinicalReading(NamedTuple):
    """Content of a clinical reading; None for an item that is not stated."""

    sex: str | None = None
    """`M` or `F`."""
    age: float | None = None
    """Age in years."""
    findings: str | None = None
    """The radiologist's findings."""


def _sex(text: str) -> str | None:
    match = _SEX.search(text)
    return None if match is None else match[0][0].upper()


def parse_age(text: str) -> float | None:
    """Parse an age.

    Args:
        text: Text with a number, perhaps with a decimal point or comma, and the first letter of its unit: years,
            months, weeks or days.

    Returns:
        Age in years; None if the text states none.

    Example:
        >>> parse_age("058Y"), parse_age("6 months"), parse_age("34,5 years"), parse_age("unknown")
        (58.0, 0.5, 34.5, None)
    """
    match = _AGE.search(text)
    return None if match is None else float(match["count"].replace(",", ".")) * _YEARS[match["unit"].lower()]


def parse_clinical_reading(text: str) -> ClinicalReading:
    r"""Parse a clinical reading of the Montgomery or the Shenzhen set.

    Montgomery gives sex and age on lines of their own, Shenzhen both on the first line; the findings follow.

    Args:
        text: Content of the file.

    Returns:
        Sex, age and findings, as far as the text states them.

    Example:
        >>> parse_clinical_reading("Patient's Sex: F\nPatient's Age: 032Y\nnormal")
        ClinicalReading(sex='F', age=32.0, findings='normal')
        >>> parse_clinical_reading("male 45yrs\nright PTB")
        ClinicalReading(sex='M', age=45.0, findings='right PTB')
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    labeled = {match["key"].lower(): match["value"] for line in lines if (match := _LABELED.match(line))}
    if labeled:
        sex, age = _sex(labeled.get("sex", "")), parse_age(labeled.get("age", ""))
        findings = [line for line in lines if not _LABELED.match(line)]
    else:
        sex, age = (_sex(lines[0]), parse_age(lines[0])) if lines else (None, None)
        findings = lines if sex is None and age is None else lines[1:]
    return ClinicalReading(sex, age, " ".join(findings) or None)


def read_clinical_reading(path: Path | None) -> ClinicalReading:
    """Read a clinical reading from a text file.

    Args:
        path: The file; None for an empty reading.

    Returns:
        Sex, age and findings, as far as the file states them.

    Example:
        >>> read_clinical_reading(None)
        ClinicalReading(sex=None, age=None, findings=None)
    """
    if path is None:
        return ClinicalReading()
    # A character of another encoding must not stop a training: the reading informs, nothing is computed from it.
    return parse_clinical_reading(path.read_text(encoding="utf-8-sig", errors="replace"))


_PICTURE = "picture"  # source of a file that is not DICOM
_UNKNOWN = "unknown"
_TAGS = (
    *("Modality", "Manufacturer", "ManufacturerModelName", "StudyInstanceUID", "SOPInstanceUID", "PatientID"),
    *("PatientName", "PatientSex", "PatientAge", "PatientBirthDate", "StudyDate", "ViewPosition"),
)
_MAX_CHARACTERS = {"AS": 4, "CS": 16, "DA": 8, "LO": 64, "PN": 64}
"""Length of a value by its VR, PS3.5 table 6.2-1; of a name that of each of its three groups."""


class Header(NamedTuple):
    """Header fields of an image file; a text is empty if the file does not state it."""

    source: str
    """`picture`, or `DICOM` with modality, manufacturer and model."""
    study_uid: str = ""
    """DICOM Study Instance UID."""
    sop_uid: str = ""
    """DICOM SOP Instance UID."""
    patient_id: str = ""
    """DICOM Patient ID."""
    patient_name: str = ""
    """DICOM Patient's Name."""
    sex: str = ""
    """`M`, `F`, or empty."""
    age: float | None = None
    """Age in years, or None if it is not stated."""
    view_position: str = ""
    """DICOM View Position in capitals, such as `PA`."""
    study_date: str = ""
    """DICOM Study Date as `2026-01-31`."""


def read_header(source: ImageSource) -> Header:
    """Read the header of an image file; its pixels are not checked.

    Args:
        source: The file, of which only the header is read, or its content. Any file that is not DICOM counts as a
            picture.

    Returns:
        The header fields. A text has at most the length of its value representation (PS3.5 6.2), and is empty if it is
        damaged: with control characters, or of another representation. Letters whose character set is not stated are
        U+FFFD, unless they are UTF-8. An invalid UID is empty. The age is Patient's
        Age (0010,1010), or else computed from Patient's Birth Date (0010,0030) and Study Date (0008,0020). A missing
        modality or manufacturer is `unknown`.

    Raises:
        RadiographError: The file is missing or empty, or is a DICOM file with a damaged header.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> header = read_header(get_testdata_file("CT_small.dcm"))
        >>> header.source, header.sex, header.age
        ('DICOM CT, GE MEDICAL SYSTEMS RHAPSODE', '', 0.0)
    """
    if not is_dicom(source):
        return Header(_PICTURE)
    with as_radiograph_error(path_of(source), "damaged DICOM header"):
        dataset = load_dicom(source, _TAGS)
        values = {keyword: _text(dataset, keyword) for keyword in _TAGS}
    sex, study_date = values["PatientSex"].upper(), _date(values["StudyDate"])
    return Header(
        source=_source(values["Modality"].upper(), values["Manufacturer"], values["ManufacturerModelName"]),
        study_uid=values["StudyInstanceUID"],
        sop_uid=values["SOPInstanceUID"],
        patient_id=values["PatientID"],
        patient_name=values["PatientName"],
        sex=sex if sex in {"M", "F"} else "",
        age=_age(values["PatientAge"], values["PatientBirthDate"], values["StudyDate"]),
        view_position=values["ViewPosition"].upper(),
        study_date="" if study_date is None else study_date.isoformat(),
    )


def _text(dataset: Dataset, keyword: str) -> str:
    """Return a value as one line of text, if it is one by its value representation (VR, PS3.5 6.2), else nothing.

    A flipped bit in the length of an element makes the elements behind it, such as the patient's name, part of its
    value, with the control characters of their tags.
    """
    vr = dictionary_VR(keyword)
    element = dataset.get(Tag(keyword))
    if element is None or vr != element.VR:
        return ""
    parts = element.value if isinstance(element.value, MultiValue) else [element.value]
    text = " ".join("" if part is None else str(part).strip() for part in parts).strip("\0 ")
    text = stated_text(text, dataset)
    if vr == "UI":
        return text if UID(text).is_valid else ""
    if any(unicodedata.category(character) == "Cc" and not character.isspace() for character in text):
        return ""
    limit = _MAX_CHARACTERS[vr]
    groups = text.split("=") if vr == "PN" else [text]
    return "=".join(" ".join(printable(group).split())[:limit] for group in groups)


def _source(modality: str, manufacturer: str, model: str) -> str:
    return f"DICOM {modality or _UNKNOWN}, {f'{manufacturer} {model}'.strip() or _UNKNOWN}"


def _age(age_string: str, birth_date: str, study_date: str) -> float | None:
    age = parse_age(age_string[:4])  # an age string has four characters
    if age is not None:
        return age
    birth, study = _date(birth_date), _date(study_date)
    return None if birth is None or study is None or study < birth else (study - birth).days / 365.25


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007  # a day has no zone
    except ValueError:
        return None
