"""Calibration record `screening.json`, written beside the model that it holds for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from anomalib_cxr.deploy.runtime import graph_of, hash_of, hash_of_model, read_threshold
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, NOTICE
from anomalib_cxr.segmentation.deployed import SEGMENTER_GRAPH
from anomalib_cxr.utils.files import atomic_path

from .detection import Detection
from .fields import ROUNDING, Count, Digest, Positive, RecordPart
from .groups import Grouping, group_name, may_be_group
from .phantom_scores import PhantomScores
from .probability import ProbabilityCurve, ReliabilityBin
from .reference import Reference
from .threshold import CalibratedThreshold

RECORD, INPUT_CHECK = "screening.json", "input_check.safetensors"
CALIBRATED_FILES = (SEGMENTER_GRAPH, "lungs.bin", INPUT_CHECK)
"""Files that a calibration writes beside those of the model and the record."""
_FORMAT: Literal[5] = 5
_DIGEST = "digest"  # the identity, beside the fields that it is the hash of
_GRAPH_ROUNDING = 1e-6
"""Greatest difference between a score that the graph clamps to [0, 1] in float32, such as 0.99999994, and its raw score
clamped to [0, 1]."""
_Age = Annotated[float, Field(ge=0, le=150)]


class ImageCounts(RecordPart):
    """Numbers of calibration images; refused ones are not among the normal and the sick ones.

    Attributes:
        normal: Normal images that were scored.
        sick: Sick images that were scored.
        refused_normal: Normal images that the input check refused.
        refused_sick: Sick images that it refused. They would be read, so they are no misses.
    """

    normal: Positive
    sick: Positive
    refused_normal: Count
    refused_sick: Count


class ValidatedRange(RecordPart):
    """Range of the calibration images; X-rays outside it are refused.

    Attributes:
        sources: Kinds of source, such as `picture`.
        ages: Youngest and oldest age in years; None where no age was known.
        least_side: Shorter side in pixels that an image needs: that of the smallest calibration image, or less if the
            model reduces all images to fewer pixels.
    """

    sources: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    ages: tuple[_Age, _Age] | None
    least_side: Positive

    @model_validator(mode="after")
    def _check_order(self) -> ValidatedRange:
        if self.ages is not None and self.ages[0] > self.ages[1]:
            raise ValueError(f"ages from {self.ages[0]} to {self.ages[1]} years")
        return self


class Calibration(RecordPart):
    """Record of a calibration: all that screening needs beside the model.

    Attributes:
        model: SHA-256 of the model's graph and weights.
        files: SHA-256 of each of the `CALIBRATED_FILES`.
        grouping: Attribute that the groups of the thresholds go by.
        thresholds: Threshold with its guarantee by group; of `EVERYONE` where there is one for all.
        detection: AUROC of the raw scores of the calibration images.
        probability: Probability of disease by raw score.
        reliability: Reliability curve of the probability.
        healthy: Raw scores of the healthy calibration images, sorted.
        reference: Scores, exposure, machine and view of the calibration images, which a worklist is monitored against.
        phantoms: Scores of phantoms, by which the model is tested elsewhere.
        counts: Numbers of calibration images.
        validated: Range of the calibration images.
        data: Settings of the data module, or name of the table.
        sixteen_bit_white: White of 16-bit images, in the calibration and in every screening; None for the reader's
            default.
        date: Time of the calibration, UTC, ISO 8601.
        versions: Versions of the libraries.
        git: Revision of the checkout and whether it was changed; None outside one.
    """

    format: Literal[5] = _FORMAT
    notice: str = NOTICE
    model: Digest
    files: dict[str, Digest]
    grouping: Grouping
    thresholds: dict[str, CalibratedThreshold] = Field(min_length=1)
    detection: Detection
    probability: ProbabilityCurve
    reliability: tuple[ReliabilityBin, ...]
    healthy: tuple[float, ...] = Field(min_length=1)
    reference: Reference
    phantoms: PhantomScores
    counts: ImageCounts
    validated: ValidatedRange
    data: Any
    sixteen_bit_white: int | None = Field(default=None, ge=255, le=65535)
    date: str
    versions: dict[str, str]
    git: dict[str, Any] | None

    @model_validator(mode="after")
    def _check_consistency(self) -> Calibration:
        """Refuse parts of which each is possible, and not all of them together."""
        counts, groups = self.counts, list(self.thresholds.values())
        n_images = counts.normal + counts.sick
        n_sick, n_sick_groups = counts.sick, sum(group.n_sick for group in groups)
        rules = {
            f"files other than {', '.join(CALIBRATED_FILES)}": set(self.files) == set(CALIBRATED_FILES),
            f"groups that grouping {self.grouping!r} does not have": all(
                may_be_group(self.grouping, group) for group in self.thresholds
            ),
            "groups with different guarantees": len({(g.sensitivity, g.confidence, g.unit) for g in groups}) == 1,
            "other normal images in the groups than in counts": sum(g.n_normal for g in groups) == counts.normal,
            "other sick images in the groups than in counts": (
                n_sick_groups == n_sick if groups[0].unit == "images" else n_sick_groups <= n_sick
            ),
            "other healthy scores than normal images": len(self.healthy) == counts.normal,
            "healthy scores that are not sorted": list(self.healthy) == sorted(self.healthy),
            "another reference than healthy scores, counts and prevalence": self._is_own(self.reference),
            "other images in reliability than in counts": sum(part.n for part in self.reliability) in {0, n_images},
            "another share of sick images than in counts": abs(self.probability.share - n_sick / n_images) < ROUNDING,
        }
        broken = [name for name, holds in rules.items() if not holds]
        if broken:
            raise ValueError("; ".join(broken))
        return self

    def _is_own(self, reference: Reference) -> bool:
        """Return whether the reference is of the images that the rest of the record is of."""
        healthy = [score for score, is_sick in zip(reference.score, reference.is_sick, strict=True) if not is_sick]
        clamped = [min(max(score, 0), 1) for score in self.healthy]
        refused = self.counts.refused_normal, self.counts.refused_sick
        return (
            np.allclose(sorted(healthy), clamped, rtol=0, atol=_GRAPH_ROUNDING)
            and sum(reference.is_sick) == self.counts.sick
            and (reference.refused_normal, reference.refused_sick) == refused
            and reference.prevalence == self.probability.prevalence
        )

    @property
    def weaknesses(self) -> tuple[str, ...]:
        """Reasons why this model is not to screen.

        It does not tell sick from normal calibration images, or no normal one is below its threshold. A calibration
        with one is written only if that was forced.
        """
        n_below = sum(group.n_normal_below for group in self.thresholds.values())
        found = {
            f"AUROC {self.detection}, not shown to be better than chance": not self.detection.is_shown,
            "its probability of disease does not rise with the score": self.probability.slope <= 0,
            f"none of {self.counts.normal} normal images is below the threshold": n_below == 0,
        }
        return tuple(reason for reason, holds in found.items() if holds)

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
            f"{group.n_sick_below} of {group.n_sick} sick {group.unit} and {group.n_normal_below} of {group.n_normal} "
            f"normal images were below it; the lower bound on the sensitivity is {100 * group.lower_bound:.1f} %."
            for name, group in self.thresholds.items()
        )
        forced = [f"Not fit to screen, calibrated by --force: {reason}." for reason in self.weaknesses]
        return "\n".join([*forced, used, f"AUROC {self.detection}.", *groups, BELOW_THRESHOLD_NOTICE])


def write_calibration(calibration: Calibration, folder: Path) -> None:
    """Write `screening.json` with its own digest, whole or not at all.

    Args:
        calibration: The record.
        folder: Folder of the model.
    """
    content = {**calibration.model_dump(mode="json"), _DIGEST: calibration.identity}
    with atomic_path(folder / RECORD) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _parse(text: str) -> Calibration:
    """Parse the content of `screening.json`.

    Raises:
        ValueError: If it is no record or one of another format, a number is out of its range, or the digest is not that
            of the rest.
    """
    content = json.loads(text)
    version = content.get("format") if isinstance(content, dict) else None
    if version != _FORMAT:
        raise ValueError(f"format {version}, as another version of this package writes it, instead of {_FORMAT}")
    digest = content.pop(_DIGEST, None)
    calibration = Calibration.model_validate_json(json.dumps(content))
    if digest != calibration.identity:
        raise ValueError(f"its digest is {digest}, that of its content is {calibration.identity}: it was changed")
    return calibration


def read_calibration(folder: Path) -> Calibration:
    """Read `screening.json`, and check its digest, and that it belongs to the files beside it.

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
        calibration = _parse(record.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # among them pydantic's and those of text that is no JSON
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
