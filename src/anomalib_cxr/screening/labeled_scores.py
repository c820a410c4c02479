"""Scores of labeled X-rays, by the same pipeline that screens."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track

from anomalib_cxr.deploy.runtime import ExportedModel
from anomalib_cxr.errors import DatasetError
from anomalib_cxr.screening.calibration.record import INPUT_CHECK
from anomalib_cxr.screening.pipeline.exposure import Exposure
from anomalib_cxr.screening.pipeline.input_check import InputCheck, packaged_input_check
from anomalib_cxr.screening.pipeline.pipeline import ImageResult, ScreeningPipeline
from anomalib_cxr.segmentation.deployed import SEGMENTER_GRAPH, ExportedSegmenter


def write_pipeline(
    graph: Path, segmenter: Path | str | None, sixteen_bit_white: int | None, device: str
) -> ScreeningPipeline:
    """Write a lung segmenter and the packaged input check beside an exported model; return the pipeline of the three.

    A calibration thus keeps its own, whatever later versions of the package come with.

    Args:
        graph: The `model.xml`.
        segmenter: File of a lung segmenter; None for that of the package.
        sixteen_bit_white: White of 16-bit images; None for the reader's default.
        device: OpenVINO's name of the device.

    Returns:
        The pipeline, which accepts any source, age and size.
    """
    # torch: a second that wrong data need not wait for
    from anomalib_cxr.segmentation.conversion import export_segmenter  # noqa: PLC0415
    from anomalib_cxr.segmentation.packaged import choose_segmenter  # noqa: PLC0415

    folder = graph.parent
    export_segmenter(choose_segmenter(segmenter).network, folder / SEGMENTER_GRAPH)
    lungs = ExportedSegmenter(folder / SEGMENTER_GRAPH, device)
    check = packaged_input_check()
    (folder / INPUT_CHECK).write_bytes(check)
    input_check = InputCheck.load(folder / INPUT_CHECK, check)
    return ScreeningPipeline(ExportedModel(graph, device), lungs, input_check, sixteen_bit_white=sixteen_bit_white)


def score_images(pipeline: ScreeningPipeline, images: pd.DataFrame) -> pd.DataFrame:
    """Score labeled images.

    Args:
        pipeline: Pipeline that accepts any source, age and size.
        images: `path`, `view`, and other columns, which are kept.

    Returns:
        The images with `score` and `raw_score`, missing where the input check refused them, `why` it did, `least_side`
        in pixels, the `kind` of source, `lung_gray` and `tissue_contrast`, and the `view` of the header where none was
        known.

    Raises:
        DatasetError: If images cannot be read, or have a score that is no finite number; names all of them.
    """
    files = list(images.path)
    results = track(chain.from_iterable(pipeline(files)), "Calibration images", total=len(files), transient=True)
    rows = [_row(result) for result in results]  # without the images, which would fill the memory
    useless: dict[str, list[Path]] = {}
    for path, row in zip(files, rows, strict=True):
        if row["least_side"] is None:
            useless.setdefault(row["why"], []).append(path)
        elif not row["why"] and not np.isfinite(row["raw_score"]):
            useless.setdefault("a score that is no finite number", []).append(path)
    if useless:
        raise DatasetError(
            f"{sum(map(len, useless.values()))} of {len(files)} labeled images that cannot be read or scored",
            "frontal X-rays, and a model that scores them",
            "repair these files, or leave them out; where the score is no number, export or train the model anew",
            useless,
        )
    joined: pd.DataFrame = images.join(pd.DataFrame(rows))
    joined["view"] = joined["view"].where(joined["view"] != "", joined.pop("stated_view"))
    return joined


def _row(result: ImageResult) -> dict[str, Any]:
    return {
        "score": result.score,
        "raw_score": result.raw_score,
        "why": "; ".join(result.refusals),
        "least_side": None if result.height is None or result.width is None else min(result.height, result.width),
        "kind": result.header.source if result.header else "",
        "stated_view": result.header.view_position if result.header else "",
        **(Exposure(math.nan, math.nan) if result.exposure is None else result.exposure)._asdict(),
    }
