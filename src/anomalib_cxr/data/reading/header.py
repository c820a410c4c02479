"""What an image file says of its patient and its origin, without its pixels."""

from __future__ import annotations

import re
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from .dicom_file import explained, is_dicom, load_dicom

_LABELLED = re.compile(r"patient.?s\s+(?P<key>sex|age)\s*:(?P<value>.*)", re.IGNORECASE)
_SEX = re.compile(r"\b(?:female|male|f|m)(?![a-z])", re.IGNORECASE)
_AGE = re.compile(r"(?P<count>\d+)\s*(?P<unit>y|m|w|d)", re.IGNORECASE)
_YEARS = {"y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}


class Reading(NamedTuple):
    """What a clinical file says."""

    sex: str | None
    """`M`, `F`, or None where it is not told."""
    age: float | None
    """Age in years, or None where it is not told."""
    findings: str | None
    """The radiologist's words, or None where there are none."""


NO_READING = Reading(None, None, None)


def _sex(text: str) -> str | None:
    match = _SEX.search(text)
    return None if match is None else match[0][0].upper()


def parse_age(text: str) -> float | None:
    """Read an age.

    Args:
        text: A number with the first letter of its unit, years, months, weeks or days.

    Returns:
        Age in years, or None where the text tells none.

    Example:
        >>> parse_age("058Y"), parse_age("6 months"), parse_age("unknown")
        (58.0, 0.5, None)
    """
    match = _AGE.search(text)
    return None if match is None else int(match["count"]) * _YEARS[match["unit"].lower()]


def parse_reading(text: str) -> Reading:
    r"""Read both sets' clinical files.

    Montgomery gives sex and age on lines of their own, Shenzhen both on the first line; the findings follow.

    Args:
        text: Content of the file.

    Returns:
        Sex, age and findings, as far as the text tells them.

    Example:
        >>> parse_reading("Patient's Sex: F\nPatient's Age: 032Y\nnormal")
        Reading(sex='F', age=32.0, findings='normal')
        >>> parse_reading("male 45yrs\nright PTB")
        Reading(sex='M', age=45.0, findings='right PTB')
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    labeled = {match["key"].lower(): match["value"] for line in lines if (match := _LABELLED.match(line))}
    if labeled:
        sex, age = _sex(labeled.get("sex", "")), parse_age(labeled.get("age", ""))
        findings = [line for line in lines if not _LABELLED.match(line)]
    else:
        sex, age = (_sex(lines[0]), parse_age(lines[0])) if lines else (None, None)
        findings = lines if sex is None and age is None else lines[1:]
    return Reading(sex, age, " ".join(findings) or None)


def read_reading(path: Path | None) -> Reading:
    """Read a clinical file; one that is missing tells nothing.

    Args:
        path: The file, or None where there is none.

    Returns:
        Sex, age and findings, as far as the file tells them.

    Example:
        >>> read_reading(None)
        Reading(sex=None, age=None, findings=None)
    """
    # A character of another encoding must not stop a training: the reading informs, nothing is computed from it.
    return NO_READING if path is None else parse_reading(path.read_text(encoding="utf-8-sig", errors="replace"))


PICTURE = "picture"
UNKNOWN = "unknown"
_TAGS = (
    *("Modality", "Manufacturer", "ManufacturerModelName", "StudyInstanceUID", "SOPInstanceUID", "PatientID"),
    *("PatientName", "PatientSex", "PatientAge", "PatientBirthDate", "StudyDate", "ViewPosition"),
)


class Header(NamedTuple):
    """Facts of a file; a text is empty where the file does not tell it."""

    source: str
    """Kind of source: `picture`, or `DICOM` with modality, manufacturer and model."""
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
    """Age in years, or None where it is not told."""
    view_position: str = ""
    """DICOM View Position in capitals, such as `PA`."""


def read_header(path: Path | str) -> Header:
    """Read the header of a file; whether the image is of use is for `read_radiograph` to tell.

    Args:
        path: The file. One that is no DICOM is a picture, whatever is in it.

    Returns:
        What it tells. The age is Patient's Age (0010,1010), or else reckoned from Patient's Birth Date (0010,0030) and
        Study Date (0008,0020). A manufacturer that is not told is `unknown`, and so is a modality.

    Raises:
        RadiographError: The file is missing or empty, or is a DICOM file with a damaged header.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> header = read_header(get_testdata_file("CT_small.dcm"))
        >>> header.source, header.sex, header.age
        ('DICOM CT, GE MEDICAL SYSTEMS RHAPSODE', '', 0.0)
    """
    path = Path(path)
    if not is_dicom(path):
        return Header(PICTURE)
    with explained(path, "damaged DICOM header"):
        dataset = load_dicom(path, _TAGS)
        told = {keyword: _text(dataset, keyword) for keyword in _TAGS}
    sex = told["PatientSex"].upper()
    return Header(
        source=_source(told["Modality"].upper(), told["Manufacturer"], told["ManufacturerModelName"]),
        study_uid=told["StudyInstanceUID"],
        sop_uid=told["SOPInstanceUID"],
        patient_id=told["PatientID"],
        patient_name=told["PatientName"],
        sex=sex if sex in {"M", "F"} else "",
        age=_age(told["PatientAge"], told["PatientBirthDate"], told["StudyDate"]),
        view_position=told["ViewPosition"].upper(),
    )


def _text(dataset: Dataset, keyword: str) -> str:
    """Return a value as one line of printable text, its blanks tidied."""
    value = dataset.get(keyword)
    parts = value if isinstance(value, MultiValue) else [value or ""]
    text = " ".join(map(str, parts))
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _source(modality: str, manufacturer: str, model: str) -> str:
    return f"DICOM {modality or UNKNOWN}, {f'{manufacturer} {model}'.strip() or UNKNOWN}"


def _age(age: str, born: str, study: str) -> float | None:
    told = parse_age(age[:4])  # longer is no age string
    if told is not None:
        return told
    birth, taken = _date(born), _date(study)
    return None if birth is None or taken is None or taken < birth else (taken - birth).days / 365.25


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007  # a day has no zone
    except ValueError:
        return None
