"""The sections of a benchmark's report, from what was run to how to read it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from anomalib_cxr.evaluation.metrics.screening_metrics import AUROC, POOLED
from anomalib_cxr.utils.files import atomic_path

from . import panels as charts
from . import plots as figures
from .findings import facts, findings, how_to_read
from .measures import HONEST, Over, over_runs, pick
from .results import AS_IS, BEST, TEST, Noise, Results
from .tables import (
    Table,
    auroc_table,
    comparison_table,
    cost_table,
    noise_in_training_table,
    noise_table,
    not_done_table,
    operating_table,
)


def overview(results: Results, measured: pd.DataFrame, data: str) -> Picture:
    """Show AUROC of all systems by both protocols."""
    figure = charts.overview(results, measured, data)
    alt = f"AUROC of each system on {data} by both protocols, with intervals; the figures are those of the table above."
    caption = f"AUROC on {data}, pooled: mean over the runs with its 95 % interval. Dotted: 0.5, a guess."
    return show_figure(figure, results.folder, f"auroc-{data}", alt, caption)


def roc(results: Results, data: str) -> Picture:
    """Show the ROC curves of all systems."""
    alt = f"ROC curves on {data}, a panel for each system; AUROC as in the table above."
    caption = (
        f"ROC curves on the test images of {data}, epoch chosen on validation. Black: mean over the runs (vertical "
        "average) of all images, with the smallest and largest sensitivity of the runs as a band. Colored: mean for "
        "each hospital. Light gray: the means of the other systems. In the legends: mean AUROC."
    )
    return show_figure(figures.roc_panels(results, data), results.folder, f"roc-{data}", alt, caption)


def training(results: Results, data: Sequence[str]) -> Iterator[Picture]:
    """Show AUROC against epochs of all systems, then the losses of each."""
    for name in data:
        alt = f"AUROC on validation against epoch on {name}, a panel for each of {', '.join(results.systems(name))}."
        caption = (
            f"AUROC on the validation images of {name} after each epoch: mean over the runs, and their range. Ticks at "
            "the bottom: the epoch that was chosen in each run. Dotted: 0.5, a guess."
        )
        yield show_figure(figures.auroc_panels(results, name), results.folder, f"epochs-{name}", alt, caption)
    for name in data:
        for system in results.systems(name):
            yield from _losses(results, name, system)


def _losses(results: Results, data: str, system: str) -> Iterator[Picture]:
    outcomes = results.of(data, system)
    terms = figures.losses_of(outcomes)
    if terms:
        alt = f"Against epoch, what {system} logged on {data}: {', '.join(terms)}."
        caption = f"{system} on {data}: what was logged after each epoch, mean over the runs and their range."
        yield show_figure(figures.loss_panels(outcomes), results.folder, f"losses-{data}-{system}", alt, caption)


def histograms(results: Results, data: str) -> Picture:
    """Show how the scores of all systems are distributed."""
    alt = f"Histograms of the test scores on {data} of {', '.join(results.systems(data))}, by hospital and class."
    caption = (
        f"Scores of the test images of {data}, all runs, epoch chosen on validation: normal (filled) and sick (line), "
        "as shares of the images of the class. The scores of each run are shifted and scaled such that its normal "
        "images of all hospitals have mean 0 (dotted) and standard deviation 1; scores beyond the axis are counted at "
        "its ends."
    )
    return show_figure(figures.histogram_panels(results, data), results.folder, f"scores-{data}", alt, caption)


def noise(results: Results, measured: pd.DataFrame, data: Sequence[str]) -> Iterator[Picture]:
    """Show AUROC against the noise of the test images, and of data that have noise in training too."""
    tested = pick(measured, protocol=HONEST, subset=TEST, weights=BEST, group=POOLED, metric=AUROC)
    band = "Mean over the runs, and the smallest to largest of them as a band. Dotted: 0.5, a guess."
    for name in data:
        shifts = (AS_IS, *results.shifts(name))
        added = {shift: level for shift in shifts if (level := results.noise_of_shift(name, shift)) is not None}
        if len(added) > 1:
            points = _points(pick(tested, data=name), "shift", added, results.systems(name))
            alt = (
                f"AUROC on {name} against the noise added to its test images; the figures are those of the table above."
            )
            caption = f"AUROC on the test images of {name} against the noise that was added to them. {band}"
            yield show_figure(charts.noise_curves(points), results.folder, f"noise-{name}", alt, caption)
    if results.differ_in_noise(data):
        levels = {name: results.noise_of_data(name) for name in data}
        systems = [
            system for system in results.config["systems"] if any(system in results.systems(name) for name in data)
        ]
        points = _points(pick(tested, shift=AS_IS), "data", levels, systems)
        alt = f"AUROC against the noise of the data: {', '.join(data)}; the figures are those of the first table."
        caption = (
            f"AUROC on the test images of each data set against the noise that its images have, in training too. {band}"
        )
        yield show_figure(charts.noise_curves(points), results.folder, "noise-in-training", alt, caption)


def _points(
    tested: pd.DataFrame, column: str, levels: dict[str, Noise], systems: Sequence[str]
) -> dict[str, list[tuple[Noise, Over]]]:
    """Return, for each system, what was measured at each level."""
    return {
        system: [
            (level, over)
            for name, level in levels.items()
            if (over := over_runs(pick(tested, system=system, **{column: name}))) is not None
        ]
        for system in systems
    }


def sheets(results: Results, data: Sequence[str]) -> Iterator[Picture]:
    """Show the residual sheet of one run of each system: its first that has one."""
    for name in data:
        for system in results.systems(name):
            first = next((each for each in results.of(name, system) if each.sheet is not None), None)
            if first is not None and first.sheet is not None:
                caption = f"{first.run}. It may show patients."
                yield show_sheet(
                    first.sheet, f"Residual sheet of {first.run}: test images beside anomaly maps.", caption
                )


FOLDER = "figures"
DPI = 150
"""Of the files; on screen a figure is as wide as its inches at 110 to the inch."""
ON_SCREEN = 110
SHEET_SIDE = 1600
"""Longest side of a residual sheet inside the HTML, in pixels."""


class Picture(NamedTuple):
    """A picture as the templates take it."""

    alt: str
    caption: str
    encoded: str
    """Base64, for the HTML."""
    format: str
    """`png` or `jpeg`."""
    width: int
    """On screen, in pixels."""
    path: str | None = None
    """Relative to the report; None of a picture that stays inside the HTML."""
    patients: bool = False
    """Whether it may show patients."""


def show_figure(figure: Figure, folder: Path, name: str, alt: str, caption: str) -> Picture:
    """Write a figure below the folder of a report, and return it for the templates.

    Args:
        figure: The figure.
        folder: Of the report; the file goes to its `figures/`.
        name: Of the file, without ending; letters that a link may not take are replaced.
        alt: What a reader who does not see it should know.
        caption: The words under it.
    """
    path = f"{FOLDER}/{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)}.png"
    with atomic_path(folder / path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=DPI)
    encoded = base64.b64encode((folder / path).read_bytes()).decode()
    return Picture(alt, caption, encoded, "png", round(figure.get_figwidth() * ON_SCREEN), path)


def show_sheet(sheet: Path, alt: str, caption: str) -> Picture:
    """Return a residual sheet for the HTML alone: it may show patients, and no copy of it is left lying about.

    It is reduced and compressed: eleven sheets as they are would make a report of tens of megabytes.
    """
    memory = io.BytesIO()
    with Image.open(sheet) as image:
        picture = image.convert("RGB")
    picture.thumbnail((SHEET_SIDE, SHEET_SIDE))
    picture.save(memory, format="JPEG", quality=88)
    encoded = base64.b64encode(memory.getvalue()).decode()
    return Picture(alt, caption, encoded, "jpeg", min(picture.width, 1130), patients=True)


def remove_other_figures(pictures: Iterable[Picture], folder: Path) -> None:
    """Remove figures of an earlier report that this one no longer has."""
    kept = {picture.path for picture in pictures}
    for path in (folder / FOLDER).glob("*.png"):
        if f"{FOLDER}/{path.name}" not in kept:
            path.unlink()


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
        measured: From :func:`anomalib_cxr.benchmark.report.measures.measure_runs`.
        comparisons: From :func:`anomalib_cxr.benchmark.report.comparisons.compare_systems`.
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
        pictures=[overview(results, measured, name) for name in data],
    )
    yield Section(
        "operating",
        "Average precision, and what readers are spared",
        tables=[operating_table(results, measured, name) for name in data],
    )
    yield Section("costs", "Costs", tables=[cost_table(results, name) for name in data])
    yield _pairs(results, comparisons, data)
    yield Section("roc", "ROC curves", pictures=[roc(results, name) for name in data])
    yield Section("training", "AUROC and losses against epochs", pictures=list(training(results, data)))
    yield Section("scores", "Scores by hospital and class", pictures=[histograms(results, name) for name in data])
    yield from _noise(results, measured, data)
    sheets = list(sheets(results, data))
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
    pictures = list(noise(results, measured, data))
    if tables or pictures:
        yield Section("noise", "AUROC against noise", tables=tables, pictures=pictures)


def _not_done(results: Results) -> Section:
    title = "Failed and missing runs"
    if not results.not_done:
        return Section("not-done", title, ["None: every run is done."])
    return Section("not-done", title, tables=[not_done_table(results)])
