"""Measure the negative control of `docs/benchmarks/detection.md`: what pixels outside the lungs tell of the label.

    python benchmarks/negative_control.py --root datasets/montgomery_shenzhen --output results/control.csv

On the five splits of `configs/data/detection_splits.csv`, with the true lung masks; minutes on one core, no training.
The same figures stand in the report of `anomalib-cxr benchmark --config configs/benchmark/detection.yaml`.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from jsonargparse import auto_cli

from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.data.sources.split_table import assign_by_table
from anomalib_cxr.evaluation.metrics.exposure_adjusted import evaluate_adjusted, measure_exposure
from anomalib_cxr.evaluation.metrics.negative_control import CONTROL, measure_control
from anomalib_cxr.evaluation.metrics.screening_metrics import AUROC, evaluate_scores
from anomalib_cxr.evaluation.scores import NORMAL, SICK

SPLITS = Path(__file__).parents[1] / "configs" / "data" / "detection_splits.csv"

logger = logging.getLogger(__name__)


def measure(root: Path, output: Path, splits: Path = SPLITS, seeds: tuple[int, ...] = (0, 1, 2, 3, 4)) -> None:
    """Measure AUROC of the control, plain and adjusted for exposure, pooled and per hospital.

    Args:
        root: Folder with the data.
        output: CSV file to write.
        splits: Table of splits.
        seeds: Its columns.
    """
    samples = make_samples(root)
    table = pd.concat([measure_split(samples, splits, seed) for seed in seeds])
    output.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(output, index=False, float_format="%.4f")
    logger.info("\n%s", table.groupby(["metric", "group"]).value.agg(["mean", "min", "max"]).round(3))


def measure_split(samples: pd.DataFrame, splits: Path, seed: int) -> pd.DataFrame:
    """Measure one split; normal validation images are added where exposures are compared, as in benchmarks.

    Args:
        samples: All images.
        splits: Table of splits.
        seed: Its column.
    """
    split = assign_by_table(samples, splits, seed, require_masks=True)
    trained, scored = split[split.split == "train"], split[split.split.isin(["val", "test"])]
    control, exposure = (measure(trained, scored) for measure in (measure_control, measure_exposure))
    label = np.where(scored.label_index == 1, SICK, NORMAL)
    table = control.rename(columns={CONTROL: "score"}).assign(source=scored.source.to_numpy(), label=label)
    tested = (scored.split == "test").to_numpy()
    figures = [evaluate_scores(table[tested], [AUROC]), evaluate_adjusted(table[tested | (label == NORMAL)], exposure)]
    return pd.concat(figures).assign(split=seed)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    auto_cli(measure, as_positional=False)
