"""The sections of a benchmark's report, from what was run to how to read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from . import gallery
from .findings import facts, findings, how_to_read
from .pictures import Picture
from .results import Results
from .summary import (
    Table,
    auroc_table,
    comparison_table,
    cost_table,
    noise_in_training_table,
    noise_table,
    not_done_table,
    operating_table,
)


class Section(NamedTuple):
    """A section of the report, as the templates take it."""

    key: str
    title: str
    paragraphs: Sequence[str] = ()
    points: Sequence[str] = ()
    terms: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def report_sections(results: Results, measured: pd.DataFrame, comparisons: pd.DataFrame) -> list[Section]:
    """Return the sections that there is anything for; the figures go to `figures/` in the folder of the results.

    Args:
        results: The benchmark.
        measured: From :func:`anomalib_cxr.benchmark.measures.measure_runs`.
        comparisons: From :func:`anomalib_cxr.benchmark.comparisons.compare_systems`.
    """
    short = findings(results, measured, comparisons)
    return [
        Section("run", "What was run", terms=facts(results)),
        Section("short", "In short", points=short),
        *(_measured_sections(results, measured, comparisons) if results.done else ()),
        _not_done(results),
        Section("reading", "How to read it", terms=how_to_read()),
    ]


def _measured_sections(results: Results, measured: pd.DataFrame, comparisons: pd.DataFrame) -> Iterator[Section]:
    data = [name for name in results.config["data"] if results.systems(name)]
    yield Section(
        "auroc",
        "AUROC: reported and measured",
        tables=[auroc_table(results, measured, name) for name in data],
        pictures=[gallery.overview(results, measured, name) for name in data],
    )
    yield Section(
        "operating",
        "Average precision, and what readers are spared",
        tables=[operating_table(results, measured, name) for name in data],
    )
    yield Section("costs", "Costs", tables=[cost_table(results, name) for name in data])
    yield _pairs(results, comparisons, data)
    yield Section("roc", "ROC curves", pictures=[gallery.roc(results, name) for name in data])
    yield Section("training", "AUROC and losses against epochs", pictures=list(gallery.training(results, data)))
    yield Section(
        "scores", "Scores by hospital and class", pictures=[gallery.histograms(results, name) for name in data]
    )
    yield from _noise(results, measured, data)
    sheets = list(gallery.sheets(results, data))
    if sheets:
        words = "They are in report.html alone, since they may show patients: look before that file is passed on."
        yield Section("sheets", "Residual sheets", [words], pictures=sheets)


def _pairs(results: Results, comparisons: pd.DataFrame, data: Sequence[str]) -> Section:
    several = [name for name in data if len(results.systems(name)) > 1]
    words = (
        "More digits, p values without correction, and comparisons at the last epoch and at each shift of the test "
        "images are in comparisons.csv."
        if several
        else "There is one system only: nothing to compare."
    )
    tables = [comparison_table(results, comparisons, name) for name in several]
    return Section("pairs", "Paired comparisons", [words], tables=tables)


def _noise(results: Results, measured: pd.DataFrame, data: Sequence[str]) -> Iterator[Section]:
    tables = [noise_table(results, measured, name) for name in data if results.shifts(name)]
    if results.differ_in_noise(data):
        tables.append(noise_in_training_table(results, measured, data))
    pictures = list(gallery.noise(results, measured, data))
    if tables or pictures:
        yield Section("noise", "AUROC against noise", tables=tables, pictures=pictures)


def _not_done(results: Results) -> Section:
    title = "Failed and missing runs"
    if not results.not_done:
        return Section("not-done", title, ["None: every run is done."])
    return Section("not-done", title, tables=[not_done_table(results)])
