"""Measure the NIH figures of `docs/benchmarks/detection.md` by view, and of adults, from the scores of a benchmark.

    python benchmarks/nih_views.py --benchmark results/benchmark/own_hospital --data nih \
        --table datasets/hospitals/nih.csv --output docs/benchmarks/nih_views.csv

The benchmark is `configs/benchmark/own_hospital.yaml`; its report has the figures of all views and ages.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
from jsonargparse import auto_cli

from anomalib_cxr.evaluation.metrics.screening_metrics import AUROC, evaluate_scores
from anomalib_cxr.evaluation.scores import image_name

ADULT = 18
"""Years."""

logger = logging.getLogger(__name__)


def measure_run(scores: Path, people: pd.DataFrame) -> pd.DataFrame:
    """Measure the AUROC of a run's test images: all of them, each view, and adults.

    Args:
        scores: The run's `scores.csv`.
        people: `view` and `age` by name of the image.

    Returns:
        One row per group, with the columns of
        :func:`anomalib_cxr.evaluation.metrics.screening_metrics.evaluate_scores`.
    """
    table = pd.read_csv(scores, dtype={"image": str}, keep_default_na=False)
    is_tested = (table.subset == "test") & (table.weights == "best") & (table["shift"] == "")
    tested = table[is_tested].join(people, on="image")
    by_view = evaluate_scores(tested.assign(source=tested["view"]), [AUROC])
    adults = evaluate_scores(tested[tested.age >= ADULT].assign(source=""), [AUROC])
    return pd.concat([by_view, adults[adults.group == "pooled"].assign(group="adults")])


def main(benchmark: Path, data: str, table: Path, output: Path) -> None:
    """Measure all runs on a data set, and write a row per run and group.

    Args:
        benchmark: Folder of the benchmark.
        data: Name of the data set in it.
        table: Its table of X-rays, with `view` and `age`.
        output: CSV file to write.
    """
    rows = pd.read_csv(table)
    people = rows.set_index(rows.image.map(image_name))[["view", "age"]]
    runs = sorted(benchmark.glob(f"runs/{data}/*/*/scores.csv"))
    measured = pd.concat([measure_run(run, people).assign(data=data, run=run.parent.name) for run in runs])
    measured.to_csv(output, index=False, float_format="%.4f")
    logger.info("\n%s", measured.groupby("group").value.agg(["mean", "min", "max"]).round(3))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    auto_cli(main, as_positional=False)
