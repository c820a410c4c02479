"""`screening.json`: what a calibration found, beside the model that it holds for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anomalib_cxr.deploy.runtime import graph_of, hash_of, hash_of_model, read_threshold
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.case import NOTICE
from anomalib_cxr.segmentation.deployed import LUNGS
from anomalib_cxr.utils.files import atomic_path

from .probability import ProbabilityCurve, ReliabilityBin
from .threshold import RuleOut

RECORD, GATE = "screening.json", "gate.npz"
BESIDE = (LUNGS, "lungs.bin", GATE)
"""What a calibration writes beside the model's two files and its own."""
EVERYONE = ""
"""Name of the group where one threshold holds for all."""
AGE_LIMITS = (18, 40, 60)
"""Years at which a new age group begins."""

Grouping = Literal["none", "hospital", "sex", "age"]


class Counts(BaseModel):
    """Images that the calibration was made on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    normal: int
    sick: int
    refused_normal: int
    """By the gate; not among the normal ones above."""
    refused_sick: int
    """By the gate; not among the sick ones above. They would be read, so they are no misses."""


class Validated(BaseModel):
    """What the calibration images were like; others are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[str, ...]
    """Kinds of source, such as `picture`."""
    ages: tuple[float, float] | None
    """Youngest and oldest, in years; None where no age was known."""
    least_side: int
    """Of the smallest image, in pixels; at most 256."""


class Calibration(BaseModel):
    """All that screening needs to know beside the model.

    Attributes:
        model: SHA-256 of the model's graph and weights.
        beside: SHA-256 of each file beside it.
        grouping: What each group's threshold goes by.
        rule_out: Threshold and guarantee of each group; of `EVERYONE` where there is one for all.
        probability: Probability of disease by score.
        reliability: How far such probabilities can be believed.
        healthy: Scores of the healthy calibration images, sorted.
        counts: Images that it was made on.
        validated: What these were like.
        data: Settings of the data, or the name of the table.
        seed: Of the gate, and of the segmenter where one was trained.
        date: UTC, ISO 8601.
        versions: Of the libraries.
        git: Revision of the checkout and whether it was changed; None outside one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    notice: str = NOTICE
    model: str
    beside: dict[str, str]
    grouping: Grouping
    rule_out: dict[str, RuleOut] = Field(min_length=1)
    probability: ProbabilityCurve
    reliability: tuple[ReliabilityBin, ...]
    healthy: tuple[float, ...]
    counts: Counts
    validated: Validated
    data: Any
    seed: int
    date: str
    versions: dict[str, str]
    git: dict[str, Any] | None

    def group_of(self, hospital: str, sex: str, age: float | None) -> str:
        """Return the group of a person; the one with the lowest threshold where it is not known or not calibrated."""
        group = group_name(self.grouping, hospital, sex, age)
        return group if group in self.rule_out else min(self.rule_out, key=lambda name: self.rule_out[name].threshold)

    @property
    def label_threshold(self) -> float:
        """Return the threshold of the label inside the graph: the lowest of all groups."""
        return min(each.threshold for each in self.rule_out.values())


def group_name(grouping: Grouping, hospital: str, sex: str, age: float | None) -> str:
    """Return the name of a person's group.

    Example:
        >>> group_name("age", "shenzhen", "F", 40), group_name("age", "", "", None), group_name("none", "a", "M", 1)
        ('40 to 59 years', 'unknown', '')
    """
    if grouping == "none":
        return EVERYONE
    if grouping == "age":
        return "unknown" if age is None else _age_group(age)
    return (hospital if grouping == "hospital" else sex) or "unknown"


def _age_group(age: float) -> str:
    place = int(np.searchsorted(AGE_LIMITS, age, side="right"))
    bounds = (0, *AGE_LIMITS, None)
    low, high = bounds[place], bounds[place + 1]
    return f"{low} years and over" if high is None else f"{low} to {high - 1} years"


def write_calibration(calibration: Calibration, folder: Path) -> None:
    """Write `screening.json` into the folder of the model, whole or not at all."""
    with atomic_path(folder / RECORD) as unfinished:
        unfinished.write_text(calibration.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_calibration(folder: Path) -> Calibration:
    """Read `screening.json`, and make sure that it belongs to the files beside it.

    Args:
        folder: The folder of the model.

    Raises:
        ScreeningError: If a file is missing, damaged, or not the one that was calibrated; tells all at once.
    """
    graph = graph_of(folder)
    record = graph.parent / RECORD
    calibrate = "run `anomalib-cxr calibrate` on this model"
    missing = [name for name in (RECORD, *BESIDE) if not (graph.parent / name).is_file()]
    if missing:
        raise ScreeningError(f"no {', '.join(missing)} in {graph.parent}", "a calibrated model", calibrate)
    try:
        calibration = Calibration.model_validate_json(record.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise ScreeningError(f"{record}: {error}", "what a calibration wrote", f"{calibrate} anew") from error
    differ = [name for name in BESIDE if hash_of([graph.parent / name]) != calibration.beside.get(name)]
    if hash_of_model(graph) != calibration.model or read_threshold(graph) != np.float32(calibration.label_threshold):
        differ.insert(0, f"{graph.name} with {graph.stem}.bin")
    if differ:
        raise ScreeningError(
            f"{', '.join(differ)} in {graph.parent}: not what was calibrated",
            f"the files whose hashes {RECORD} has",
            f"put the right files there, or {calibrate} anew",
        )
    return calibration
