"""The clinical reading beside an X-ray: sex, age and findings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

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
    labelled = {match["key"].lower(): match["value"] for line in lines if (match := _LABELLED.match(line))}
    if labelled:
        sex, age = _sex(labelled.get("sex", "")), parse_age(labelled.get("age", ""))
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
