"""Write the report on a benchmark: tables and plots as `report.html`, `report.md` and CSV files."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from matplotlib.figure import Figure
from PIL import Image

from anomalib_cxr.evaluation.canvas import CAPTION
from anomalib_cxr.evaluation.metrics.screening_metrics import AUROC, HOSPITAL_AUROC, POOLED
from anomalib_cxr.utils.files import atomic_path

from . import plots
from .curves import loss_curves
from .measures import (
    CHANCE,
    DISSERTATION,
    HONEST,
    SIGNIFICANT,
    RunMean,
    compare_systems,
    means_by,
    measure_runs,
    select,
    undirected_auroc,
)
from .results import BEST, TEST, UNSHIFTED, NoiseLevel, Results, read_results
from .scoring import measure_scoring, scoring_tables
from .tables import Table, format_interval, report_tables, run_facts

FIGURES = "figures"
FILE_DPI, SCREEN_DPI = 150, 110
SHEET_SIDE = 1600
"""Longest side of a residual sheet inside the HTML, in pixels."""
SHORT_LINE = 20
"""Length under which a line of a table cell is not broken, in characters."""


class ReportImage(NamedTuple):
    """Image for the templates."""

    alt: str
    caption: str
    encoded: str
    """Base64, for the HTML."""
    format: str
    """`png` or `jpeg`."""
    width: int
    """Width on screen, in pixels."""
    path: str | None = None
    """Path relative to the report; None for an image that only the HTML holds."""
    patients: bool = False
    """True if it may show patients."""


class Section(NamedTuple):
    """Section for the templates."""

    key: str
    title: str
    paragraphs: Sequence[str] = ()
    points: Sequence[str] = ()
    terms: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    images: Sequence[ReportImage] = ()


def write_report(folder: Path) -> Path:
    """Write the report on a benchmark, finished or not, from its output folder.

    The folder gets `report.html`, which needs no other file; `report.md` with `figures/*.png`; `results.csv`, a row per
    metric; `comparisons.csv`, a row per pair of systems; and `scoring.csv` where ways of scoring were compared.
    Residual sheets, which may show patients, are in the HTML only.

    Args:
        folder: See :func:`anomalib_cxr.benchmark.report.results.read_results`.

    Returns:
        The path of `report.html`.

    Raises:
        CxrError: If the folder is not the output of a benchmark.
    """
    results = read_results(folder)
    measured, comparisons = measure_runs(results), compare_systems(results)
    ways = measure_scoring(results)
    tables = {"results.csv": measured, "comparisons.csv": comparisons, **({} if ways.empty else {"scoring.csv": ways})}
    for name, table in tables.items():
        with atomic_path(folder / name) as unfinished:
            table.to_csv(unfinished, index=False, float_format="%.6g")
    sections = list(_sections(results, measured, comparisons, ways))
    page = {"title": results.config["title"], "disclaimer": CAPTION, "sections": sections}
    for name in ("report.md", "report.html"):
        with atomic_path(folder / name) as unfinished:
            unfinished.write_text(_render(name, page), encoding="utf-8")
    kept = {image.path for section in sections for image in section.images}
    for path in (folder / FIGURES).glob("*.png"):  # of an earlier report
        if f"{FIGURES}/{path.name}" not in kept:
            path.unlink()
    return folder / "report.html"


def _sections(
    results: Results, measured: pd.DataFrame, comparisons: pd.DataFrame, ways: pd.DataFrame
) -> Iterator[Section]:
    """Yield the sections that have content; their plots are written to `figures/` in the folder of the results."""
    data, tables = results.data, report_tables(results, measured, comparisons)
    yield Section("run", "What was run", terms=run_facts(results))
    yield Section("short", "In short", points=summarize(results, measured, comparisons))
    if data:
        images = [_plot(results, "auroc", plots.plot_auroc(results, measured, name), data=name) for name in data]
        yield Section("auroc", "AUROC: reported and measured", tables=tables["auroc"], images=images)
        if len(ways):
            paragraphs = _read_template("scoring")["paragraphs"]
            yield Section("scoring", "AUROC by way of scoring", paragraphs, tables=scoring_tables(results, ways))
        yield Section("operating", "Average precision and specificity", tables=tables["operating"])
        yield Section("literature", "Metrics as papers report them", tables=tables["literature"])
        yield Section("costs", "Costs", tables=tables["costs"])
        pairs = (
            "More digits, uncorrected p values, and comparisons at the last epoch and at each shift of the test images "
            "are in comparisons.csv."
            if tables["pairs"]
            else "There is one system only: nothing to compare."
        )
        yield Section("pairs", "Paired comparisons", [pairs], tables=tables["pairs"])
        images = [_plot(results, "roc", plots.plot_roc(results, name), data=name) for name in data]
        yield Section("roc", "ROC curves", images=images)
        images = list(_training_plots(results))
        yield Section("training", "AUROC and losses against epochs", tables=tables["shares"], images=images)
        images = [_plot(results, "scores", plots.plot_histograms(results, name), data=name) for name in data]
        yield Section("scores", "Scores by hospital and class", images=images)
        images = list(_noise_plots(results, measured))
        if tables["noise"] or images:
            yield Section("noise", "AUROC against noise", tables=tables["noise"], images=images)
        images = list(_sheets(results))
        if images:
            note = "They are in report.html only, since they may show patients: check that file before passing it on."
            yield Section("sheets", "Residual sheets", [note], images=images)
    all_done = () if tables["not-done"] else ["None: every run is done."]
    yield Section("not-done", "Failed and missing runs", all_done, tables=tables["not-done"])
    yield Section("reading", "How to read it", terms=list(_read_template("how_to_read").items()))


def summarize(results: Results, measured: pd.DataFrame, comparisons: pd.DataFrame) -> list[str]:
    """Summarize a benchmark in a few sentences, all borne out by its tables.

    Args:
        results: The benchmark.
        measured: From :func:`anomalib_cxr.benchmark.report.measures.measure_runs`.
        comparisons: From :func:`anomalib_cxr.benchmark.report.measures.compare_systems`.

    Returns:
        Sentences on a single data set, or a paragraph per data set.
    """
    if not results.data:
        return ["No run is done: there is nothing to measure yet."]
    sentences = [list(_summarize_data(results, measured, comparisons, data)) for data in results.data]
    return sentences[0] if len(sentences) == 1 else [" ".join(of_data) for of_data in sentences]


def _summarize_data(results: Results, measured: pd.DataFrame, comparisons: pd.DataFrame, data: str) -> Iterator[str]:
    here = select(measured, data=data, shift=UNSHIFTED)
    tested = select(here, protocol=HONEST, subset=TEST, weights=BEST)
    honest = means_by(select(tested, metric=AUROC, group=POOLED), "system")
    if honest:
        ranked = sorted(honest, key=lambda system: -honest[system].value)
        yield f"On {data}, by protocol (b), {ranked[0]} has the highest AUROC: {_value(honest[ranked[0]])}."
        above = [system for system in ranked if honest[system].low > CHANCE]
        names = f": {', '.join(above)}" if above else ""
        yield f"{len(above)} of {len(ranked)} systems are above 0.5 with their whole interval{names}."
    dissertation = means_by(select(here, protocol=DISSERTATION, group=POOLED), "system")
    gains = [dissertation[system].value - mean.value for system, mean in honest.items() if system in dissertation]
    if gains:
        yield (
            f"Protocol (a) gives {sum(gains) / len(gains):+.3f} against (b), mean over systems "
            f"(smallest to largest {min(gains):+.3f} to {max(gains):+.3f})."
        )
    known = {name: (results.config["systems"][name] or {}).get("reported") for name in honest}
    reported = {name: (value, honest[name]) for name, value in known.items() if value is not None}
    if reported:
        excess = [value - mean.value for value, mean in reported.values()]
        within = [name for name, (value, mean) in reported.items() if mean.low <= value <= mean.high]
        names = f": {', '.join(within)}" if within else ""
        yield (
            f"The reported AUROC values differ from protocol (b) by {min(excess):+.3f} to {max(excess):+.3f}; "
            f"{len(within)} of {len(reported)} lie within its interval{names}."
        )
    pairs = select(comparisons, data=data, weights=BEST, shift=UNSHIFTED).p_holm.dropna()
    if len(pairs):
        differ = int((pairs < SIGNIFICANT).sum())
        yield f"{differ} of {len(pairs)} pairs of systems differ, corrected for their number (p < {SIGNIFICANT})."
    between = means_by(undirected_auroc(select(tested, metric=HOSPITAL_AUROC)), "system", "group")
    if between:
        (system, group), mean = max(between.items(), key=lambda item: item[1].value)
        yield f"The scores of {system} separate hospitals most ({group}): AUROC {_value(mean)}."


def _value(mean: RunMean) -> str:
    return f"{mean.value:.3f} {format_interval(mean.low, mean.high)}"


def _training_plots(results: Results) -> Iterator[ReportImage]:
    for data in results.data:
        yield _plot(results, "epochs", plots.plot_validation_auroc(results, data), data=data)
    for data in results.data:
        for system in results.systems(data):
            losses = loss_curves(results.of(data, system))
            if losses:
                figure = plots.plot_losses(losses, system)
                yield _plot(results, "losses", figure, data=data, system=system, losses=", ".join(losses))


def _noise_plots(results: Results, measured: pd.DataFrame) -> Iterator[ReportImage]:
    tested = select(measured, protocol=HONEST, subset=TEST, weights=BEST, group=POOLED, metric=AUROC)
    for data in results.data:
        levels = {name: noise for name, noise in results.shifts(data).items() if noise is not None}
        if levels:
            levels = {UNSHIFTED: NoiseLevel(), **levels}
            points = _noise_points(select(tested, data=data), "shift", levels, results.systems(data))
            yield _plot(results, "noise", plots.plot_noise(points), data=data)
    if results.differ_in_noise:
        points = _noise_points(select(tested, shift=UNSHIFTED), "data", results.noise, results.systems(*results.data))
        yield _plot(results, "noise-in-training", plots.plot_noise(points))


def _noise_points(
    tested: pd.DataFrame, column: str, levels: Mapping[str, NoiseLevel], systems: Sequence[str]
) -> dict[str, list[tuple[NoiseLevel, RunMean]]]:
    """Return the mean AUROC at each noise level, by system."""
    means = means_by(tested, "system", column)
    return {
        name: [(level, means[name, key]) for key, level in levels.items() if (name, key) in means] for name in systems
    }


def _plot(results: Results, key: str, figure: Figure, **names: str) -> ReportImage:
    """Write a plot below the folder of the report, named after the key of its caption, data set and system."""
    parts = [key, *(names[part] for part in ("data", "system") if part in names)]
    path = f"{FIGURES}/{re.sub(r'[^A-Za-z0-9_.-]+', '_', '-'.join(parts))}.png"
    with atomic_path(results.folder / path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=FILE_DPI)
    systems = results.systems(*filter(None, [names.get("data")]))
    captions = _captions(key, **{"data": ", ".join(results.data), "systems": ", ".join(systems), **names})
    encoded = base64.b64encode((results.folder / path).read_bytes()).decode()
    return ReportImage(*captions, encoded, "png", round(figure.get_figwidth() * SCREEN_DPI), path)


def _sheets(results: Results) -> Iterator[ReportImage]:
    """Yield the residual sheet of the first run of each system that has one, reduced and compressed.

    A sheet may show patients, so that no copy of it is written beside the report.
    """
    for data in results.data:
        for system in results.systems(data):
            run, sheet = next(((each.run, each.sheet) for each in results.of(data, system) if each.sheet), (None, None))
            if sheet is None:
                continue
            memory = io.BytesIO()
            with Image.open(sheet) as image:
                reduced = image.convert("RGB")
            reduced.thumbnail((SHEET_SIDE, SHEET_SIDE))
            reduced.save(memory, format="JPEG", quality=88)
            encoded, captions = base64.b64encode(memory.getvalue()).decode(), _captions("sheet", run=str(run))
            yield ReportImage(*captions, encoded, "jpeg", min(reduced.width, 1130), patients=True)


def _captions(key: str, **fields: str) -> tuple[str, str]:
    """Return the text alternative and the caption of an image."""
    texts = _read_template("captions")[key]
    return texts["alt"].format_map(fields), texts["caption"].format_map(fields)


@cache
def _read_template(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load(files(__package__).joinpath(f"templates/{name}.yaml").read_text(encoding="utf-8")))


def _render(name: str, page: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("anomalib_cxr.benchmark.report"),
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": _markdown_cell, "unbroken": _unbroken}
    return environment.get_template(f"{name}.jinja").render(page)


def _markdown_cell(text: str) -> str:
    r"""Return a table cell as one line of Markdown, with special characters escaped.

    Example:
        >>> print(_markdown_cell("<a>|b"))
        &lt;a&gt;\|b
    """
    return escape(text, quote=False).replace("|", r"\|").replace("\n", "<br>")


def _unbroken(text: str) -> str:
    r"""Return a table cell with no-break spaces in its short lines, so that an interval stays on one line.

    Example:
        >>> _unbroken("[0.4, 0.6]").split(" ")
        ['[0.4,\xa00.6]']
    """
    lines = text.split("\n")
    return "\n".join(line.replace(" ", "\N{NO-BREAK SPACE}") if len(line) < SHORT_LINE else line for line in lines)
