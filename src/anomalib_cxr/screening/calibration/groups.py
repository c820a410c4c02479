"""Groups with a threshold of their own, and the guarantee that a calibration aims at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from anomalib_cxr.errors import SettingError

EVERYONE = ""
"""Name of the group where one threshold holds for all."""
UNKNOWN = "unknown"
"""Name of the group of people whose attribute is not known."""
AGE_LIMITS = (18, 40, 60)
"""First years of the age groups after the youngest."""


Grouping = Literal["none", "hospital", "sex", "age"]


@dataclass(frozen=True)
class CalibrationTarget:
    """Guarantee and prevalence to calibrate for.

    Args:
        sensitivity: Sensitivity to guarantee, in (0, 1).
        confidence: Confidence level of the guarantee, in (0, 1).
        prevalence: Share of sick people among those who are screened, in (0, 1).
        grouping: One threshold for all, or one for each hospital, sex or age group.

    Raises:
        SettingError: If a number is not between 0 and 1.
    """

    sensitivity: float = 0.99
    confidence: float = 0.95
    prevalence: float = 0.05
    grouping: Grouping = "none"

    def __post_init__(self) -> None:
        shares = {"sensitivity": self.sensitivity, "confidence": self.confidence, "prevalence": self.prevalence}
        wrong = {name: share for name, share in shares.items() if not 0 < share < 1}
        if wrong:
            raise SettingError(
                ", ".join(f"{name} = {share}" for name, share in wrong.items()),
                "numbers between 0 and 1",
                "no finite number of images shows a sensitivity or a confidence of 1: choose a number below 1",
            )

    def __str__(self) -> str:
        return f"a sensitivity of {self.sensitivity:g} with a confidence of {self.confidence:g}"


def group_name(grouping: Grouping, hospital: str, sex: str, age: float | None) -> str:
    """Return the name of a person's group.

    Args:
        grouping: Attribute that the groups go by.
        hospital: Name of the hospital; empty where unknown.
        sex: `M`, `F`, or empty.
        age: Age in years, or None.

    Returns:
        The group; `unknown` where the attribute is.

    Example:
        >>> group_name("age", "shenzhen", "F", 40), group_name("age", "", "", None), group_name("none", "a", "M", 1)
        ('40 to 59 years', 'unknown', '')
    """
    if grouping == "none":
        return EVERYONE
    if grouping == "age":
        return UNKNOWN if age is None else _age_group(age)
    return (hospital if grouping == "hospital" else sex) or UNKNOWN


def may_be_group(grouping: Grouping, name: str) -> bool:
    """Return whether a grouping can have a group of this name.

    Args:
        grouping: Attribute that the groups go by.
        name: Name of a group.

    Example:
        >>> may_be_group("sex", "F"), may_be_group("sex", ""), may_be_group("hospital", "north")
        (True, False, True)
    """
    ages = {_age_group(age) for age in (0, *AGE_LIMITS)}
    known = {"none": {EVERYONE}, "sex": {"F", "M", UNKNOWN}, "age": {*ages, UNKNOWN}}
    return name in known[grouping] if grouping in known else name != EVERYONE


def _age_group(age: float) -> str:
    place = int(np.searchsorted(AGE_LIMITS, age, side="right"))
    bounds = (0, *AGE_LIMITS, None)
    low, high = bounds[place], bounds[place + 1]
    return f"{low} years and over" if high is None else f"{low} to {high - 1} years"
