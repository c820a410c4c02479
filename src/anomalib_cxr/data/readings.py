"""The clinical reading beside an X-ray: sex, age and findings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_SEX = re.compile(r"\b(?P<female>female|f)\b|\b(?P<male>male|m)\b", re.IGNORECASE)
_AGE = re.compile(r"(?P<count>\d+)\s*(?P<unit>y|m|d)", re.IGNORECASE)
_YEARS = {"y": 1.0, "m": 1 / 12, "d": 1 / 365.25}


class Reading(NamedTuple):
    """What a clinical file says."""

    sex: str | None
    """`M`, `F`, or None where it is not told."""
    age: float | None
    """Age in years, or None where it is not told."""
    findings: str | None
    """The radiologist's words."""


NO_READING = Reading(None, None, None)


def _sex(text: str) -> str | None:
    match = _SEX.search(text)
    return None if match is None else "F" if match["female"] else "M"


def _age(text: str) -> float | None:
    match = _AGE.search(text)
    return None if match is None else int(match["count"]) * _YEARS[match["unit"].lower()]


def parse_reading(text: str) -> Reading:
    """Read both sets' clinical files.

    Montgomery gives sex and age on lines of their own, Shenzhen both on the first line; the findings follow.

    Args:
        text: Content of the file.

    Example:
        >>> parse_reading("Patient's Sex: F\\nPatient's Age: 032Y\\nnormal")
        Reading(sex='F', age=32.0, findings='normal')
        >>> parse_reading("male 45yrs\\nright PTB")
        Reading(sex='M', age=45.0, findings='right PTB')
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    labelled = {key: line for line in lines for key in ("sex", "age") if line.lower().startswith(f"patient's {key}")}
    if labelled:
        sex, age = (labelled.get(key, "").partition(":")[2] for key in ("sex", "age"))
        findings = [line for line in lines if line not in labelled.values()]
    else:
        sex = age = lines[0] if lines else ""
        findings = lines[1:]
    return Reading(_sex(sex), _age(age), " ".join(findings) or None)


def read_reading(path: Path | None) -> Reading:
    """Read a clinical file; one that is missing tells nothing."""
    return NO_READING if path is None else parse_reading(path.read_text(encoding="utf-8", errors="replace"))
