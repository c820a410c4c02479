"""Calibration of an exported model with labeled images, which makes it ready to screen."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.progress import track

from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.deploy.runtime import ExportedModel, graph_of, hash_of, hash_of_model, read_white, write_threshold
from anomalib_cxr.errors import DatasetError, ScreeningError
from anomalib_cxr.evaluation.canvas import BLUE, GRAY, new_figure, save_figure
from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.screening.calibration.detection import measure_detection
from anomalib_cxr.screening.calibration.groups import CalibrationTarget, group_name
from anomalib_cxr.screening.calibration.probability import fit_probability, reliability
from anomalib_cxr.screening.calibration.record import (
    CALIBRATED_FILES,
    INPUT_CHECK,
    RECORD,
    Calibration,
    ImageCounts,
    ValidatedRange,
    write_calibration,
)
from anomalib_cxr.screening.calibration.reference import Reference
from anomalib_cxr.screening.calibration.threshold import CalibratedThreshold, calibrate_threshold, sick_needed
from anomalib_cxr.screening.pipeline.exposure import Exposure
from anomalib_cxr.screening.pipeline.image_quality import LEAST_SIDE
from anomalib_cxr.screening.pipeline.input_check import InputCheck, packaged_input_check
from anomalib_cxr.screening.pipeline.pipeline import ImageResult, ScreeningPipeline
from anomalib_cxr.screening.study.comparison import Comparison, compare_models
from anomalib_cxr.screening.study.report import write_study
from anomalib_cxr.screening.study.thresholds import Place
from anomalib_cxr.segmentation.deployed import SEGMENTER_GRAPH, ExportedSegmenter, export_segmenter
from anomalib_cxr.segmentation.network import LungSegmenter
from anomalib_cxr.segmentation.packaged import choose_segmenter
from anomalib_cxr.segmentation.training import fit_segmenter
from anomalib_cxr.utils.provenance import code_record

from .calibration_data import LabeledImages
from .training_overlap import refuse_training_images

logger = logging.getLogger(__name__)

MAX_REFERENCES = 1000
"""Number of healthy images that a segmenter is trained on, at most."""
RELIABILITY = "reliability.png"
_SEGMENTER_SIDE, _SEGMENTER_STEPS = 64, 300  # as in the models
_UNFINISHED = ".calibrating-"


class Study(NamedTuple):
    """Report to write over all thresholds."""

    folder: Path
    """Folder to write."""
    cost_screened: float = 1.0
    """Cost of each person who is screened."""
    cost_read: float = 1.0
    """Further cost of each person whose X-ray is read."""
    compare: Path | None = None
    """Folder of a second exported model to compare on the same images; it is not calibrated."""


def calibrate(
    model: Path | str,
    labeled: LabeledImages,
    target: CalibrationTarget,
    *,
    segmenter: Path | str | None = None,
    data: Any = None,
    device: str = "CPU",
    seed: int = 0,
    force: bool = False,
    study: Study | None = None,
) -> Calibration:
    """Calibrate an exported model, and write the calibrated files beside it: all of them, or none.

    Args:
        model: Folder of the exported model. The threshold of its label becomes the calibrated one.
        labeled: Images that the model was not trained on, and references to train a segmenter on.
        target: Guarantee and prevalence to calibrate for.
        segmenter: File of a lung segmenter; None trains a small one on the references' lung masks, and takes that of
            the package if they have none.
        data: Description of the data for the record.
        device: OpenVINO's name of the device.
        seed: Seed of the segmenter that is trained.
        force: Calibrate a model that does not detect, too, for trials; its record says so.
        study: Folder and costs of a report over all thresholds; None for none.

    Returns:
        The record of the calibration.

    Raises:
        ScreeningError: If there are too few images, for all or for a group, or the model does not detect.
        DatasetError: If an image cannot be used, or the model was trained on it.
    """
    graph = graph_of(model)
    _refuse_too_few(labeled, target)
    second = None if study is None or study.compare is None else graph_of(study.compare)
    for judged in filter(None, (graph, second)):
        _refuse_other_white(judged, labeled)
        refuse_training_images(judged, list(labeled.images.path))
    for left_over in graph.parent.glob(f"{_UNFINISHED}*"):  # of a calibration that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    with TemporaryDirectory(dir=graph.parent, prefix=_UNFINISHED) as name:
        folder = Path(name)
        for file in (graph, graph.with_suffix(".bin")):
            shutil.copyfile(file, folder / file.name)
        pipeline = _fit_pipeline(folder, graph.name, labeled, segmenter, device, seed)
        table = _score(pipeline, labeled.images)
        scored = table[table.score.notna()]
        thresholds = _thresholds(scored, target)
        write_threshold(folder / graph.name, min(group.threshold for group in thresholds.values()))
        is_sick, scores = scored.is_sick.to_numpy(bool), scored.score.to_numpy(float)
        calibration = Calibration(
            model=hash_of_model(folder / graph.name),
            files={file: hash_of([folder / file]) for file in CALIBRATED_FILES},
            grouping=target.grouping,
            thresholds=thresholds,
            detection=measure_detection(is_sick, scores),
            probability=fit_probability(is_sick, scores, target.prevalence),
            reliability=tuple(reliability(is_sick, scores)),
            healthy=tuple(np.sort(scores[~is_sick]).tolist()),
            reference=_reference(_with_thresholds(scored, target), _counts(table), target),
            counts=_counts(table),
            validated=_validated_range(scored, pipeline.model.side),
            data=data,
            sixteen_bit_white=labeled.sixteen_bit_white,
            seed=seed,
            **code_record(),
        )
        if study is not None:  # first: it tells why a model is refused, too
            place = Place(target.prevalence, study.cost_screened, study.cost_read)
            comparison = None if second is None else _compare(pipeline, second, scored, labeled, target, device)
            logger.info("Calibration study: %s", write_study(study.folder, scored, calibration, place, comparison))
        _refuse_undetecting(calibration, force=force)
        save_figure(reliability_figure(calibration), folder / RELIABILITY)
        write_calibration(calibration, folder)
        # The record is moved last, when all files that it holds for are there.
        for moved in (graph.with_suffix(".bin").name, graph.name, *CALIBRATED_FILES, RELIABILITY, RECORD):
            os.replace(folder / moved, graph.parent / moved)  # noqa: PTH105  # tests interrupt it here
    return calibration


def reliability_figure(calibration: Calibration) -> Figure:
    """Plot the observed share of sick images against the predicted probability, with 95 % intervals.

    Args:
        calibration: Record with a reliability curve; where it is empty, the diagonal alone is plotted.

    Returns:
        The figure.
    """
    figure = new_figure(5, 5)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle=":", label="perfect calibration")
    bins = calibration.reliability
    observed = np.array([group.observed for group in bins])
    errors = [observed - [group.low for group in bins], [group.high for group in bins] - observed]
    predicted = [group.predicted for group in bins]
    axes.errorbar(predicted, observed, yerr=errors, color=BLUE, marker="o", capsize=3, label="95 % interval")
    counts = calibration.counts
    axes.set(
        xlabel=f"probability, at {100 * calibration.probability.share:.0f} % sick images as in the calibration",
        ylabel="share of sick images",
        title=f"Reliability: {counts.normal} normal, {counts.sick} sick",
    )
    axes.legend(loc="upper left")
    return figure


def _refuse_other_white(graph: Path, labeled: LabeledImages) -> None:
    learned = read_white(graph)
    if labeled.sixteen_bit_white != learned:
        raise ScreeningError(
            f"labeled images with sixteen_bit_white = {labeled.sixteen_bit_white}",
            f"{learned}, as the model was trained",
            "set it in the data module or by --sixteen_bit_white of a table, or train with the other value",
        )


def _refuse_too_few(labeled: LabeledImages, target: CalibrationTarget) -> None:
    """Refuse, before anything is computed, images that are too few."""
    images = labeled.images
    n_sick, unit = _count_sick(images)
    n_normal = int((~images.is_sick).sum())
    needed = sick_needed(target.sensitivity, target.confidence)
    if n_sick < needed or not n_normal:
        raise ScreeningError(
            f"{n_normal} normal images and {n_sick} sick {unit} to calibrate with",
            f"normal ones, and at least {needed} sick ones to show {target}, if none of them is missed",
            "add labeled images (--parts val,test takes the test part too), or ask for less: --sensitivity, "
            "--confidence",
        )


def _count_sick(images: pd.DataFrame) -> tuple[int, str]:
    """Return the number of sick patients; of sick images where patients are not known."""
    sick = images[images.is_sick]
    return (int(sick.patient.nunique()), "patients") if "patient" in images else (len(sick), "images")


def _refuse_undetecting(calibration: Calibration, *, force: bool) -> None:
    """Refuse a model that is of no use for screening, or warn if it is forced."""
    if not calibration.weaknesses:
        return
    error = ScreeningError(
        "a model that does not detect: " + "; ".join(calibration.weaknesses),
        "a model that tells the sick from the normal images that it is calibrated with",
        "check the labels, train a better model (LungAtlas is the recommended one), or ask for less sensitivity; "
        "--force calibrates this one for trials",
    )
    if not force:
        raise error
    logger.warning("Forced: %s", error)


def _fit_pipeline(
    folder: Path, graph: str, labeled: LabeledImages, segmenter: Path | str | None, device: str, seed: int
) -> ScreeningPipeline:
    """Export the segmenter, and store the input check of the package, so that a calibration keeps its own."""
    references = labeled.references[:MAX_REFERENCES]
    masked = [(path, files) for path, files in zip(references, labeled.masks, strict=False) if files]
    train_one = not segmenter and bool(masked)
    white = labeled.sixteen_bit_white
    network = _train_segmenter(masked, white, seed) if train_one else choose_segmenter(segmenter).network
    export_segmenter(network, folder / SEGMENTER_GRAPH)
    lungs = ExportedSegmenter(folder / SEGMENTER_GRAPH, device)
    check = packaged_input_check()
    (folder / INPUT_CHECK).write_bytes(check)
    input_check = InputCheck.load(folder / INPUT_CHECK, check)
    return ScreeningPipeline(ExportedModel(folder / graph, device), lungs, input_check, sixteen_bit_white=white)


def _train_segmenter(pairs: Sequence[tuple[Path, tuple[str, ...]]], white: int | None, seed: int) -> LungSegmenter:
    """Train a small segmenter on X-rays and the files of their lung masks."""
    logger.info("No segmenter given: one is trained on the lung masks of %d references.", len(pairs))
    size = (_SEGMENTER_SIDE, _SEGMENTER_SIDE)
    images = torch.cat([antialiased_resize(2 * read_radiograph(path, white)[None] - 1, size) for path, _ in pairs])
    lungs = torch.cat([antialiased_resize(read_mask(*files)[None, None].float(), size) for _, files in pairs])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        segmenter = LungSegmenter(_SEGMENTER_SIDE)
    fit_segmenter(segmenter, images, lungs, steps=_SEGMENTER_STEPS, seed=seed)
    return segmenter


def _score(pipeline: ScreeningPipeline, images: pd.DataFrame) -> pd.DataFrame:
    """Score the labeled images. Unreadable ones are an error, which names all of them; the input check may refuse."""
    files = list(images.path)
    results = track(chain.from_iterable(pipeline(files)), "Calibration images", total=len(files), transient=True)
    rows = [_row(result) for result in results]  # without the images, which would fill the memory
    unreadable: dict[str, list[Path]] = {}
    for path, row in zip(files, rows, strict=True):
        if row["least_side"] is None:
            unreadable.setdefault(row["why"], []).append(path)
    if unreadable:
        raise DatasetError(
            f"{sum(map(len, unreadable.values()))} of {len(files)} labeled images that cannot be read",
            "frontal X-rays",
            "repair these files, or leave them out",
            unreadable,
        )
    joined: pd.DataFrame = images.join(pd.DataFrame(rows))
    joined["view"] = joined["view"].where(joined["view"] != "", joined.pop("stated_view"))
    return joined


def _row(result: ImageResult) -> dict[str, Any]:
    return {
        "score": result.score,
        "why": "; ".join(result.refusals),
        "least_side": None if result.height is None or result.width is None else min(result.height, result.width),
        "kind": result.header.source if result.header else "",
        "stated_view": result.header.view_position if result.header else "",
        **(Exposure(math.nan, math.nan) if result.exposure is None else result.exposure)._asdict(),
    }


def _compare(
    pipeline: ScreeningPipeline,
    second: Path,
    scored: pd.DataFrame,
    labeled: LabeledImages,
    target: CalibrationTarget,
    device: str,
) -> Comparison:
    """Compare the model of a pipeline with a second one, whose thresholds are chosen as the first's."""
    other = ScreeningPipeline(
        ExportedModel(second, device),
        pipeline.segmenter,
        pipeline.input_check,
        sixteen_bit_white=labeled.sixteen_bit_white,
    )
    table = _score(other, labeled.images)
    figures = compare_models(*(_with_thresholds(images, target) for images in (scored, table[table.score.notna()])))
    return Comparison(str(second.parent), other.model.sha256, figures)


def _with_thresholds(scored: pd.DataFrame, target: CalibrationTarget) -> pd.DataFrame:
    """Add the threshold of each image's group."""
    thresholds = _thresholds(scored, target)
    ruled: pd.DataFrame = scored.assign(threshold=[thresholds[group].threshold for group in _groups(scored, target)])
    return ruled


def _groups(scored: pd.DataFrame, target: CalibrationTarget) -> np.ndarray:
    """Return the group of each image."""
    people = zip(scored.hospital, scored.sex, scored.age, strict=True)
    return np.array(
        [group_name(target.grouping, hospital, sex, None if pd.isna(age) else age) for hospital, sex, age in people]
    )


def _thresholds(scored: pd.DataFrame, target: CalibrationTarget) -> dict[str, CalibratedThreshold]:
    """Return the threshold of each group; refuse groups that are too small, all at once."""
    groups = _groups(scored, target)
    is_sick, scores = scored.is_sick.to_numpy(bool), scored.score.to_numpy(float)
    patients = scored.patient.to_numpy() if "patient" in scored else None
    needed = sick_needed(target.sensitivity, target.confidence)
    n_sick = {str(group): _count_sick(scored[groups == group])[0] for group in np.unique(groups)}
    too_small = {group: count for group, count in n_sick.items() if count < needed}
    n_normal = int((~is_sick).sum())
    if too_small or not n_sick or not n_normal:
        few = (too_small or n_sick).items()
        named = ", ".join(f"{count} of {group}" if group else str(count) for group, count in few) or "none"
        raise ScreeningError(
            f"{n_normal} normal images that the input check accepted, and sick {_count_sick(scored)[1]}: {named}",
            f"normal ones, and at least {needed} sick ones{'' if target.grouping == 'none' else ' in each group'}, "
            f"none of them missed, to show {target}",
            "add labeled images, ask for less (--sensitivity, --confidence), or take one threshold for all: --by none",
        )

    def calibrated(group: str) -> CalibratedThreshold:
        rows = groups == group
        own = None if patients is None else patients[rows]
        return calibrate_threshold(is_sick[rows], scores[rows], target.sensitivity, target.confidence, group, own)

    return {group: calibrated(group) for group in n_sick}


def _counts(table: pd.DataFrame) -> ImageCounts:
    refused = table.score.isna()
    return ImageCounts(
        normal=int((~table.is_sick & ~refused).sum()),
        sick=int((table.is_sick & ~refused).sum()),
        refused_normal=int((~table.is_sick & refused).sum()),
        refused_sick=int((table.is_sick & refused).sum()),
    )


def _reference(ruled: pd.DataFrame, counts: ImageCounts, target: CalibrationTarget) -> Reference:
    """Return what a worklist is monitored against; of images of `_with_thresholds`."""
    return Reference(
        is_sick=tuple(map(bool, ruled.is_sick)),
        score=tuple(map(float, ruled.score)),
        is_below=tuple(map(bool, ruled.score < ruled.threshold)),
        lung_gray=tuple(map(float, ruled.lung_gray)),
        tissue_contrast=tuple(map(float, ruled.tissue_contrast)),
        machine=tuple(map(str, ruled.kind)),
        view=tuple(map(str, ruled["view"])),
        refused_normal=counts.refused_normal,
        refused_sick=counts.refused_sick,
        prevalence=target.prevalence,
        sensitivity=target.sensitivity,
    )


def _validated_range(scored: pd.DataFrame, model_side: int | None) -> ValidatedRange:
    """Return the range of the scored images; images that the model need not enlarge are always large enough."""
    ages = scored.age.dropna()
    smallest = int(scored.least_side.min())
    return ValidatedRange(
        sources=tuple(sorted(set(scored.kind))),
        ages=(float(ages.min()), float(ages.max())) if len(ages) else None,
        least_side=smallest if model_side is None else min(smallest, max(model_side, LEAST_SIDE)),
    )
