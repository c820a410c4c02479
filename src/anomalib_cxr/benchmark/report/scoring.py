"""Compare ways of scoring: the AUROC of the same trainings by inference and by the statistics of batches."""

from __future__ import annotations

import pandas as pd

from anomalib_cxr.benchmark.plan.grid import CONTROL, VALIDATION, ScoringWay

from .results import BEST, LAST, Results
from .tables import CELL, Table, format_cell, reported_auroc

AUROC_BY_SCORING = "auroc"
SCORING_COLUMNS = [
    "data", "system", "split", "seed", "scoring", "batches", "images", "weights", "epoch", "metric",
    "value", "low", "high", "variance", "n_normal", "n_sick", "note",
]  # fmt: skip


def measure_scoring(results: Results) -> pd.DataFrame:
    """Tabulate the AUROC of each way of scoring, of the best epoch and of the last one.

    Args:
        results: The benchmark.

    Returns:
        One row per run, way, kind of images and choice of the epoch, with the columns :data:`SCORING_COLUMNS`;
        `weights` is `best`, the epoch with the highest AUROC of this way on these images, or `last`. No rows without
        ways of scoring.
    """
    tables = []
    for result in results.done:
        if result.scoring.empty:
            continue
        run = result.run
        groups = result.scoring.groupby(["scoring", "batches", "images"], sort=False)
        best = result.scoring.loc[groups["value"].idxmax()].assign(weights=BEST)
        last = result.scoring.loc[groups["epoch"].idxmax()].assign(weights=LAST)
        place = {"data": run.data, "system": run.system, "split": run.split, "seed": run.seed}
        tables.append(pd.concat([best, last]).assign(**place, metric=AUROC_BY_SCORING, note="")[SCORING_COLUMNS])
    measured: pd.DataFrame = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=SCORING_COLUMNS)
    return measured


def scoring_tables(results: Results, measured: pd.DataFrame) -> list[Table]:
    """Return the tables of the ways of scoring: of the validation images, and of the control.

    Args:
        results: The benchmark.
        measured: From :func:`measure_scoring`.

    Returns:
        Two tables per data set with ways of scoring.
    """
    return [
        _scoring_table(results, measured[(measured.data == data) & (measured.images == images)], data, images)
        for data in dict.fromkeys(measured.data)
        for images in (VALIDATION, CONTROL)
    ]


def _scoring_table(results: Results, rows: pd.DataFrame, data: str, images: str) -> Table:
    ways = dict.fromkeys(zip(rows.scoring, rows.batches, strict=True))
    columns = [
        (f"{ScoringWay(*way)}, {'best' if weights == BEST else 'last'} epoch", (*way, weights))
        for way in ways
        for weights in (BEST, LAST)
    ]
    text = []
    for system in results.systems(data):
        of_system = rows[rows.system == system]
        cells = [
            format_cell(of_system[(of_system[["scoring", "batches", "weights"]] == list(key)).all(axis=1)])
            for _, key in columns
        ]
        text.append([system, reported_auroc(results, system), *cells])
    what = "validation images" if images == VALIDATION else "the control: healthy images called normal and sick"
    caption = f"AUROC of {what} on {data}, by way of scoring: {CELL}. Intervals do not account for the chosen epoch."
    return Table(caption, ["system", "reported by the dissertation", *(title for title, _ in columns)], text, "metrics")
