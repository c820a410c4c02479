"""From an exported model and labeled images to a model that screens."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.progress import track

from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.deploy.runtime import ExportedModel, graph_of, hash_of, hash_of_model, write_threshold
from anomalib_cxr.errors import DatasetError, ScreeningError
from anomalib_cxr.evaluation.figures import BLUE, GRAY, new_figure, save_figure
from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.screening.calibration.probability import check_prevalence, fit_probability, reliability
from anomalib_cxr.screening.calibration.record import (
    BESIDE,
    GATE,
    RECORD,
    Calibration,
    Counts,
    Grouping,
    Validated,
    group_name,
    write_calibration,
)
from anomalib_cxr.screening.calibration.threshold import RuleOut, check_wish, rule_out, sick_needed
from anomalib_cxr.screening.pipeline.input_check import fit_gate
from anomalib_cxr.screening.pipeline.pipeline import Look, Station
from anomalib_cxr.segmentation.deployed import LUNGS, LungFinder, export_segmenter
from anomalib_cxr.segmentation.network import LungSegmenter, load_segmenter
from anomalib_cxr.segmentation.training import fit_lungs
from anomalib_cxr.utils.provenance import code_record

from .calibration_data import Labeled

logger = logging.getLogger(__name__)


def reliability_figure(calibration: Calibration) -> Figure:
    """Draw the share of sick images against the probability, with 95 % intervals.

    Args:
        calibration: One with a reliability curve; an empty one leaves the diagonal alone.
    """
    figure = new_figure(5, 5)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle=":", label="as it should be")
    bins = calibration.reliability
    observed = np.array([each.observed for each in bins])
    below, above = observed - [each.low for each in bins], [each.high for each in bins] - observed
    predicted = [each.predicted for each in bins]
    axes.errorbar(predicted, observed, yerr=[below, above], color=BLUE, marker="o", capsize=3, label="95 % interval")
    counts = calibration.counts
    axes.set(
        xlabel=f"probability, at {100 * calibration.probability.share:.0f} % sick images as in the calibration",
        ylabel="share of sick images",
        title=f"Reliability: {counts.normal} normal, {counts.sick} sick",
    )
    axes.legend(loc="upper left")
    return figure


MOST_REFERENCES = 1000
"""Healthy images that the gate learns from at most."""
_SEGMENTER_SIDE, _SEGMENTER_STEPS = 64, 300  # as the models themselves train theirs
RELIABILITY = "reliability.png"
_ASIDE = ".calibrating-"
_LEAST_SIDE = 256  # px; a model is not refused images as large as the open ones because it was given larger ones


@dataclass(frozen=True)
class CalibrationTarget:
    """What a calibration is asked for.

    Args:
        sensitivity: Share of the sick that are to be read, in (0, 1).
        confidence: With which this is to hold, in (0, 1).
        prevalence: Share of sick people among those screened, in (0, 1).
        grouping: One threshold for all, or for each hospital, sex or age group.
    """

    sensitivity: float = 0.99
    confidence: float = 0.95
    prevalence: float = 0.05
    grouping: Grouping = "none"


def calibrate(
    model: Path | str,
    labeled: Labeled,
    wish: CalibrationTarget,
    *,
    segmenter: Path | str | None = None,
    data: Any = None,
    device: str = "CPU",
    seed: int = 0,
) -> Calibration:
    """Calibrate an exported model, and write what screening needs beside it: all of it, or nothing.

    Args:
        model: Folder of the exported model. Its label becomes that of the threshold.
        labeled: Images that the model was not trained on, and references for the gate.
        wish: What is asked for.
        segmenter: File of a lung segmenter; None trains a small one on the references' lung masks.
        data: What the record says of where the images come from.
        device: OpenVINO's name of the device.
        seed: Of the gate, and of the segmenter that is trained.

    Raises:
        ScreeningError: If there are too few images, for all or for a group.
        DatasetError: If an image cannot be used.
    """
    check_wish(wish.sensitivity, wish.confidence)
    check_prevalence(wish.prevalence)
    graph = graph_of(model)
    _refuse_too_few(labeled, wish)
    for left_over in graph.parent.glob(f"{_ASIDE}*"):  # of one that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    with TemporaryDirectory(dir=graph.parent, prefix=_ASIDE) as name:
        aside = Path(name)
        for file in (graph, graph.with_suffix(".bin")):
            shutil.copyfile(file, aside / file.name)
        station = _station(aside, graph.name, labeled, segmenter, device, seed)
        table = _look_at(station, labeled.images)
        passed = table[table.score.notna()]
        thresholds = _thresholds(passed, wish)
        write_threshold(aside / graph.name, min(each.threshold for each in thresholds.values()))
        is_sick, scores = passed.is_sick.to_numpy(bool), passed.score.to_numpy(float)
        record = code_record()
        calibration = Calibration(
            model=hash_of_model(aside / graph.name),
            beside={file: hash_of([aside / file]) for file in BESIDE},
            grouping=wish.grouping,
            rule_out=thresholds,
            probability=fit_probability(is_sick, scores, wish.prevalence),
            reliability=tuple(reliability(is_sick, scores)),
            healthy=tuple(np.sort(scores[~is_sick]).tolist()),
            counts=_counts(table),
            validated=_validated(table),
            data=data,
            seed=seed,
            date=record["date"],
            versions=record["versions"],
            git=record["git"],
        )
        save_figure(reliability_figure(calibration), aside / RELIABILITY)
        write_calibration(calibration, aside)
        # The record comes last: what it holds for is there by then.
        for moved in (graph.with_suffix(".bin").name, graph.name, *BESIDE, RELIABILITY, RECORD):
            os.replace(aside / moved, graph.parent / moved)  # noqa: PTH105  # the word for "atomic"
    return calibration


def _refuse_too_few(labeled: Labeled, wish: CalibrationTarget) -> None:
    """Refuse before anything is computed what cannot be calibrated for lack of images."""
    sick = int(labeled.images.is_sick.sum())
    normal = len(labeled.images) - sick
    needed = sick_needed(wish.sensitivity, wish.confidence)
    if sick < needed or not normal:
        raise ScreeningError(
            f"{normal} normal and {sick} sick images to calibrate with",
            f"normal ones, and at least {needed} sick ones to show a sensitivity of {wish.sensitivity:g} with a "
            f"confidence of {wish.confidence:g}, if none of them is missed",
            "add labeled images (--parts val,test takes the test part too), or ask for less: --sensitivity, "
            "--confidence",
        )


def _station(
    folder: Path, graph: str, labeled: Labeled, segmenter: Path | str | None, device: str, seed: int
) -> Station:
    """Make what stands before the model: the segmenter and the gate."""
    references = labeled.references[:MOST_REFERENCES]
    lungs = load_segmenter(segmenter) if segmenter else _train_segmenter(references, labeled.masks, seed)
    export_segmenter(lungs, folder / LUNGS)
    finder = LungFinder(folder / LUNGS, device)
    images = [finder.reduce(read_radiograph(path)) for path in track(references, "Healthy references", transient=True)]
    reduced = torch.stack(images)  # (N, 1, S, S)
    gate = fit_gate(reduced, np.concatenate([finder(part) for part in torch.split(reduced, 16)]), seed)
    gate.save(folder / GATE)
    return Station(ExportedModel(folder / graph, device), finder, gate)


def _train_segmenter(references: Sequence[Path], masks: Sequence[tuple[str, ...]], seed: int) -> LungSegmenter:
    pairs = [(path, files) for path, files in zip(references, masks, strict=False) if files]
    if not pairs:
        raise DatasetError(
            f"{len(references)} healthy references without a lung mask, and no segmenter",
            "lung masks to train a segmenter on, or a trained one",
            "give one by --segmenter; `anomalib-cxr segment train` makes it",
        )
    logger.info("No segmenter given: one is trained on the lungs of %d references.", len(pairs))
    size = (_SEGMENTER_SIDE, _SEGMENTER_SIDE)
    images = torch.cat([antialiased_resize(2 * read_radiograph(path)[None] - 1, size) for path, _ in pairs])
    lungs = torch.cat([antialiased_resize(read_mask(*files)[None, None].float(), size) for _, files in pairs])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        segmenter = LungSegmenter(_SEGMENTER_SIDE)
    fit_lungs(segmenter, images, lungs, steps=_SEGMENTER_STEPS, seed=seed)
    return segmenter


def _look_at(station: Station, images: pd.DataFrame) -> pd.DataFrame:
    """Score the labeled images; unreadable ones are refused, all at once, since they are no matter of the gate."""
    files = list(images.path)
    seen = track(chain.from_iterable(station.look(files)), "Calibration images", total=len(files), transient=True)
    looks = list(map(_facts, seen))
    unreadable: dict[str, list[Path]] = {}
    for path, facts in zip(files, looks, strict=True):
        if facts["least_side"] is None:
            unreadable.setdefault(facts["why"], []).append(path)
    if unreadable:
        raise DatasetError(
            f"{sum(map(len, unreadable.values()))} of {len(files)} labeled images that cannot be read",
            "frontal X-rays",
            "repair these files, or leave them out",
            unreadable,
        )
    joined: pd.DataFrame = images.join(pd.DataFrame(looks))
    return joined


def _facts(look: Look) -> dict[str, Any]:
    """Return what of a look the calibration keeps; not its pictures."""
    known = look.height is not None and look.width is not None
    return {
        "score": look.score,
        "why": "; ".join(look.refusals),
        "least_side": min(look.height or 0, look.width or 0) if known else None,
        "kind": look.header.source if look.header else "",
    }


def _thresholds(passed: pd.DataFrame, wish: CalibrationTarget) -> dict[str, RuleOut]:
    """Return the threshold of each group; refuse groups that are too small, all at once."""
    people = zip(passed.hospital, passed.sex, passed.age, strict=True)
    groups = np.array(
        [group_name(wish.grouping, hospital, sex, None if pd.isna(age) else age) for hospital, sex, age in people]
    )
    is_sick, scores = passed.is_sick.to_numpy(bool), passed.score.to_numpy(float)
    needed = sick_needed(wish.sensitivity, wish.confidence)
    sick = {str(group): int(is_sick[groups == group].sum()) for group in np.unique(groups)}
    small = {group: count for group, count in sick.items() if count < needed}
    n_normal = int((~is_sick).sum())
    if small or not sick or not n_normal:
        few = (small or sick).items()
        named = ", ".join(f"{count} of {group}" if group else str(count) for group, count in few) or "none"
        raise ScreeningError(
            f"{n_normal} normal images that the gate let pass, and sick ones: {named}",
            f"normal ones, and at least {needed} sick ones{'' if wish.grouping == 'none' else ' in each group'}, none "
            f"of them missed, to show a sensitivity of {wish.sensitivity:g} with a confidence of {wish.confidence:g}",
            "add labeled images, ask for less (--sensitivity, --confidence), or take one threshold for all: --by none",
        )
    return {
        group: rule_out(is_sick[groups == group], scores[groups == group], wish.sensitivity, wish.confidence, group)
        for group in sick
    }


def _counts(table: pd.DataFrame) -> Counts:
    refused = table.score.isna()
    return Counts(
        normal=int((~table.is_sick & ~refused).sum()),
        sick=int((table.is_sick & ~refused).sum()),
        refused_normal=int((~table.is_sick & refused).sum()),
        refused_sick=int((table.is_sick & refused).sum()),
    )


def _validated(table: pd.DataFrame) -> Validated:
    passed = table[table.score.notna()]
    ages = passed.age.dropna()
    return Validated(
        sources=tuple(sorted(set(passed.kind))),
        ages=(float(ages.min()), float(ages.max())) if len(ages) else None,
        least_side=min(_LEAST_SIDE, int(passed.least_side.min())),
    )


def describe_calibration(calibration: Calibration) -> str:
    """Say what a calibration found, in words."""
    counts = calibration.counts
    used = (
        f"{counts.normal} normal and {counts.sick} sick images; the gate refused {counts.refused_normal} and "
        f"{counts.refused_sick} more."
    )
    return "\n".join([used, *(_describe(group, each) for group, each in calibration.rule_out.items())])


def _describe(group: str, found: RuleOut) -> str:
    return (
        f"{group + ': ' if group else ''}under {found.threshold:g} an X-ray is ruled out. Of the sick, at least "
        f"{100 * found.lower_bound:.1f} % are at or over it, with a confidence of {100 * found.confidence:g} % "
        f"({found.n_missed} of {found.n_sick} were under it). Of {found.n_normal} normal images, {found.n_freed} were "
        "ruled out."
    )
