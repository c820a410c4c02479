"""Calibration of an exported model with labeled images, which makes it ready to screen."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from anomalib_cxr.deploy.runtime import ExportedModel, graph_of, hash_of, hash_of_model, read_white, write_threshold
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.calibration.detection import measure_detection
from anomalib_cxr.screening.calibration.group_thresholds import group_thresholds, refuse_too_few, with_thresholds
from anomalib_cxr.screening.calibration.groups import CalibrationTarget
from anomalib_cxr.screening.calibration.probability import fit_probability, reliability
from anomalib_cxr.screening.calibration.record import (
    CALIBRATED_FILES,
    RECORD,
    Calibration,
    ImageCounts,
    ValidatedRange,
    write_calibration,
)
from anomalib_cxr.screening.calibration.reference import Reference
from anomalib_cxr.screening.pipeline.image_quality import LEAST_SIDE
from anomalib_cxr.screening.pipeline.pipeline import ScreeningPipeline
from anomalib_cxr.utils.provenance import code_record

from .calibration_data import LabeledImages
from .labeled_scores import score_images, write_pipeline
from .self_test import score_phantoms
from .training_overlap import refuse_training_images

if TYPE_CHECKING:
    from anomalib_cxr.screening.study.comparison import Comparison

logger = logging.getLogger(__name__)

RELIABILITY = "reliability.png"
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
    force: bool = False,
    study: Study | None = None,
) -> Calibration:
    """Calibrate an exported model, and write the calibrated files beside it: all of them, or none.

    Args:
        model: Folder of the exported model. The threshold of its label becomes the calibrated one.
        labeled: Images that the model was not trained on.
        target: Guarantee and prevalence to calibrate for.
        segmenter: File of a lung segmenter; None for that of the package.
        data: Description of the data for the record.
        device: OpenVINO's name of the device.
        force: Calibrate a model that does not detect, too, for trials; its record says so.
        study: Folder and costs of a report over all thresholds; None for none.

    Returns:
        The record of the calibration.

    Raises:
        ScreeningError: If there are too few images, for all or for a group, or the model does not detect.
        DatasetError: If an image cannot be used, or the model was trained on it.
    """
    graph = graph_of(model)
    refuse_too_few(labeled.images, target)
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
        pipeline = write_pipeline(folder / graph.name, segmenter, labeled.sixteen_bit_white, device)
        table = score_images(pipeline, labeled.images)
        scored = table[table.score.notna()]
        calibration = _calibrate_copy(folder / graph.name, table, target, data, pipeline)
        if study is not None:  # first: it tells why a model is refused, too
            comparison = None if second is None else _compare(pipeline, second, scored, labeled, target, device)
            _write_study(study, scored, calibration, target, comparison)
        _refuse_undetecting(calibration, force=force)
        _draw_reliability(calibration, folder / RELIABILITY)
        write_calibration(calibration, folder)
        # The record is moved last, when all files that it holds for are there.
        for moved in (graph.with_suffix(".bin").name, graph.name, *CALIBRATED_FILES, RELIABILITY, RECORD):
            os.replace(folder / moved, graph.parent / moved)  # noqa: PTH105  # tests interrupt it here
    return calibration


def _calibrate_copy(
    graph: Path, table: pd.DataFrame, target: CalibrationTarget, data: Any, pipeline: ScreeningPipeline
) -> Calibration:
    """Write the threshold into the graph, and return the record of the files beside it."""
    scored = table[table.score.notna()]
    thresholds = group_thresholds(scored, target)
    write_threshold(graph, min(group.threshold for group in thresholds.values()))
    # The threshold is one of the score, as that of the label in the graph; all else tells apart what ties at 1.
    is_sick, raw = scored.is_sick.to_numpy(bool), scored.raw_score.to_numpy(float)
    return Calibration(
        model=hash_of_model(graph),
        files={file: hash_of([graph.parent / file]) for file in CALIBRATED_FILES},
        grouping=target.grouping,
        thresholds=thresholds,
        detection=measure_detection(is_sick, raw),
        probability=fit_probability(is_sick, raw, target.prevalence),
        reliability=tuple(reliability(is_sick, raw)),
        healthy=tuple(np.sort(raw[~is_sick]).tolist()),
        phantoms=score_phantoms(pipeline, int(scored.least_side.min())),
        reference=_reference(with_thresholds(scored, target), _counts(table), target),
        counts=_counts(table),
        validated=_validated_range(scored, pipeline.model.side),
        data=data,
        sixteen_bit_white=pipeline.sixteen_bit_white,
        **code_record(),
    )


def _refuse_other_white(graph: Path, labeled: LabeledImages) -> None:
    learned = read_white(graph)
    if labeled.sixteen_bit_white != learned:
        raise ScreeningError(
            f"labeled images with sixteen_bit_white = {labeled.sixteen_bit_white}",
            f"{learned}, as the model was trained",
            "set it in the data module or by --sixteen_bit_white of a table, or train with the other value",
        )


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


def _write_study(
    study: Study,
    scored: pd.DataFrame,
    calibration: Calibration,
    target: CalibrationTarget,
    comparison: Comparison | None,
) -> None:
    from anomalib_cxr.screening.study.report import write_study  # noqa: PLC0415  # a second that only a study is to cost
    from anomalib_cxr.screening.study.thresholds import Place  # noqa: PLC0415

    place = Place(target.prevalence, study.cost_screened, study.cost_read)
    logger.info("Calibration study: %s", write_study(study.folder, scored, calibration, place, comparison))


def _draw_reliability(calibration: Calibration, path: Path) -> None:
    from anomalib_cxr.evaluation.canvas import save_figure  # noqa: PLC0415  # matplotlib, after the scoring

    from .calibration.reliability_figure import reliability_figure  # noqa: PLC0415

    save_figure(reliability_figure(calibration), path)


def _compare(
    pipeline: ScreeningPipeline,
    second: Path,
    scored: pd.DataFrame,
    labeled: LabeledImages,
    target: CalibrationTarget,
    device: str,
) -> Comparison:
    """Compare the model of a pipeline with a second one, whose thresholds are chosen as the first's."""
    from anomalib_cxr.screening.study.comparison import Comparison, compare_models  # noqa: PLC0415  # as in `_write_study`

    other = ScreeningPipeline(
        ExportedModel(second, device),
        pipeline.segmenter,
        pipeline.input_check,
        sixteen_bit_white=labeled.sixteen_bit_white,
    )
    table = score_images(other, labeled.images)
    figures = compare_models(*(with_thresholds(images, target) for images in (scored, table[table.score.notna()])))
    return Comparison(str(second.parent), other.model.sha256, figures)


def _counts(table: pd.DataFrame) -> ImageCounts:
    refused = table.score.isna()
    return ImageCounts(
        normal=int((~table.is_sick & ~refused).sum()),
        sick=int((table.is_sick & ~refused).sum()),
        refused_normal=int((~table.is_sick & refused).sum()),
        refused_sick=int((table.is_sick & refused).sum()),
    )


def _reference(ruled: pd.DataFrame, counts: ImageCounts, target: CalibrationTarget) -> Reference:
    """Return what a worklist is monitored against; of images of `with_thresholds`."""
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
