"""Calibration record `screening.json`, written beside the model that it holds for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anomalib_cxr.deploy.runtime import graph_of, hash_of, hash_of_model, read_threshold
from anomalib_cxr.errors import ScreeningError, SettingError
from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, NOTICE
from anomalib_cxr.segmentation.deployed import SEGMENTER_GRAPH
from anomalib_cxr.utils.files import atomic_path

from .probability import ProbabilityCurve, ReliabilityBin
from .threshold import CalibratedThreshold

RECORD, INPUT_CHECK = "screening.json", "input_check.npz"
CALIBRATED_FILES = (SEGMENTER_GRAPH, "lungs.bin", INPUT_CHECK)
"""Files that a calibration writes beside those of the model and the record."""
EVERYONE = ""
"""Name of the group where one threshold holds for all."""
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


class ImageCounts(BaseModel):
    """Numbers of calibration images; refused ones are not among the normal and the sick ones.

    Attributes:
        normal: Normal images that were scored.
        sick: Sick images that were scored.
        refused_normal: Normal images that the input check refused.
        refused_sick: Sick images that it refused. They would be read, so they are no misses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    normal: int
    sick: int
    refused_normal: int
    refused_sick: int


class ValidatedRange(BaseModel):
    """Range of the calibration images; X-rays outside it are refused.

    Attributes:
        sources: Kinds of source, such as `picture`.
        ages: Youngest and oldest age in years; None where no age was known.
        least_side: Shorter side of the smallest image in pixels, at most 256.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[str, ...]
    ages: tuple[float, float] | None
    least_side: int


class Calibration(BaseModel):
    """Record of a calibration: all that screening needs beside the model.

    Attributes:
        model: SHA-256 of the model's graph and weights.
        files: SHA-256 of each of the `CALIBRATED_FILES`.
        grouping: Attribute that the groups of the thresholds go by.
        thresholds: Threshold with its guarantee by group; of `EVERYONE` where there is one for all.
        probability: Probability of disease by score.
        reliability: Reliability curve of the probability.
        healthy: Scores of the healthy calibration images, sorted.
        counts: Numbers of calibration images.
        validated: Range of the calibration images.
        data: Settings of the data module, or name of the table.
        sixteen_bit_white: White of 16-bit images, in the calibration and in every screening; None for the reader's
            default.
        seed: Seed of the input check, and of the segmenter where one was trained.
        date: Time of the calibration, UTC, ISO 8601.
        versions: Versions of the libraries.
        git: Revision of the checkout and whether it was changed; None outside one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    notice: str = NOTICE
    model: str
    files: dict[str, str]
    grouping: Grouping
    thresholds: dict[str, CalibratedThreshold] = Field(min_length=1)
    probability: ProbabilityCurve
    reliability: tuple[ReliabilityBin, ...]
    healthy: tuple[float, ...]
    counts: ImageCounts
    validated: ValidatedRange
    data: Any
    sixteen_bit_white: int | None = Field(default=None, ge=255, le=65535)
    seed: int
    date: str
    versions: dict[str, str]
    git: dict[str, Any] | None

    @property
    def identity(self) -> str:
        """SHA-256 of all that this record holds: of each number that decides, and of the files by their hashes.

        It is that of the canonical JSON: keys sorted, no spaces, numbers as Python writes them.
        """
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def group_of(self, hospital: str, sex: str, age: float | None) -> str:
        """Return the group whose threshold holds for a person.

        Args:
            hospital: Name of the hospital; empty where unknown.
            sex: `M`, `F`, or empty.
            age: Age in years, or None.

        Returns:
            The person's own group; the one with the lowest threshold where that is unknown or was not calibrated.
        """
        group = group_name(self.grouping, hospital, sex, age)
        thresholds = self.thresholds
        return group if group in thresholds else min(thresholds, key=lambda name: thresholds[name].threshold)

    def refuse_hospital(self, hospital: str) -> None:
        """Refuse a hospital without a threshold where each hospital has its own.

        Args:
            hospital: Name of the hospital; empty where none was given.

        Raises:
            ScreeningError: If the hospital has no threshold.
        """
        if self.grouping == "hospital" and hospital not in self.thresholds:
            raise ScreeningError(
                f"hospital {hospital!r}",
                f"one of {', '.join(self.thresholds)}, which were calibrated",
                "give it by --hospital",
            )

    @property
    def label_threshold(self) -> float:
        """Threshold of the label inside the graph: the lowest of all groups."""
        return min(group.threshold for group in self.thresholds.values())

    @property
    def description(self) -> str:
        """Result of the calibration in sentences, with the notice on scores below a threshold."""
        counts = self.counts
        used = (
            f"{counts.normal} normal and {counts.sick} sick images scored; the input check refused "
            f"{counts.refused_normal} normal and {counts.refused_sick} sick ones."
        )
        groups = (
            f"{f'{name}: ' if name else ''}threshold {group.threshold:g}. {group.guarantee} In the calibration, "
            f"{group.n_sick_below} of {group.n_sick} sick images and {group.n_normal_below} of {group.n_normal} normal "
            f"images were below it; the lower bound on the sensitivity is {100 * group.lower_bound:.1f} %."
            for name, group in self.thresholds.items()
        )
        return "\n".join([used, *groups, BELOW_THRESHOLD_NOTICE])


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
        return "unknown" if age is None else _age_group(age)
    return (hospital if grouping == "hospital" else sex) or "unknown"


def _age_group(age: float) -> str:
    place = int(np.searchsorted(AGE_LIMITS, age, side="right"))
    bounds = (0, *AGE_LIMITS, None)
    low, high = bounds[place], bounds[place + 1]
    return f"{low} years and over" if high is None else f"{low} to {high - 1} years"


def write_calibration(calibration: Calibration, folder: Path) -> None:
    """Write `screening.json`, whole or not at all.

    Args:
        calibration: The record.
        folder: Folder of the model.
    """
    with atomic_path(folder / RECORD) as unfinished:
        unfinished.write_text(calibration.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_calibration(folder: Path) -> Calibration:
    """Read `screening.json`, and check that it belongs to the files beside it.

    Args:
        folder: Folder of the model, or its `model.xml`.

    Returns:
        The record.

    Raises:
        ScreeningError: If a file is missing, damaged, or not the one that was calibrated; names all of them at once.
    """
    graph = graph_of(folder)
    record = graph.parent / RECORD
    calibrate = "run `anomalib-cxr calibrate` on this model"
    missing = [name for name in (RECORD, *CALIBRATED_FILES) if not (graph.parent / name).is_file()]
    if missing:
        raise ScreeningError(f"no {', '.join(missing)} in {graph.parent}", "a calibrated model", calibrate)
    try:
        calibration = Calibration.model_validate_json(record.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise ScreeningError(f"{record}: {error}", "the record of a calibration", f"{calibrate} anew") from error
    differ = [name for name in CALIBRATED_FILES if hash_of([graph.parent / name]) != calibration.files.get(name)]
    if hash_of_model(graph) != calibration.model or read_threshold(graph) != np.float32(calibration.label_threshold):
        differ.insert(0, f"{graph.name} with {graph.stem}.bin")
    if differ:
        raise ScreeningError(
            f"{', '.join(differ)} in {graph.parent}: not the files that were calibrated",
            f"the files whose hashes are in {RECORD}",
            f"put the right files there, or {calibrate} anew",
        )
    return calibration
