"""Plots of a benchmark's report: a panel per system, or a line per system, as mean and range over its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from anomalib_cxr.evaluation.canvas import BLUE, GRAY, RED, new_figure
from anomalib_cxr.evaluation.metrics.screening_metrics import AUROC, POOLED
from anomalib_cxr.evaluation.scores import NORMAL, SICK, auroc, no_roc_reason

from .curves import Curves, align_epochs, roc_curves, standardize_scores
from .measures import CHANCE, DISSERTATION, HONEST, RunMean, mean_over_runs, select
from .results import BEST, LAST, TEST, UNSHIFTED, NoiseLevel, Results

BLACK, ORANGE, PURPLE, TEAL, FAINT = "black", "#e66101", "#7b3294", "#018571", "#c4c4c4"
HOSPITAL_STYLES = ((BLUE, "--"), (ORANGE, "-."), (PURPLE, ":"), (TEAL, (0, (1, 1))))
"""Color and line style of each hospital, so that color alone never tells them apart."""
# Colors after M. Okabe and K. Ito, "Color Universal Design", 2008, without yellow, which is faint on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES, MARKERS = ("-", "--", "-.", ":"), "osD^vPX"
WIDTH = 9.6
"""Width of a full figure, in inches."""
COLUMNS, LOSS_COLUMNS = 4, 6
SMALL = 7.5
"""Font size of axis labels."""
BIN_EDGES = np.linspace(-4, 6, 31)
"""Bins of the histograms, in standard deviations of the normal images' scores."""


def _draw_curves(panel: Axes, curves: Curves, color: str, **style: Any) -> None:
    """Draw the mean over runs with their range as a band; a curve of one point as a dot."""
    marker = "o" if len(curves.grid) == 1 else None
    panel.plot(curves.grid, curves.mean, color=color, marker=marker, markersize=4, linewidth=1.4, **style)
    if len(curves.values) > 1:
        panel.fill_between(curves.grid, *curves.range, color=color, alpha=0.18, linewidth=0)
        if marker:
            panel.vlines(curves.grid, *curves.range, color=color, linewidth=1)


def _panel_grid(
    titles: Sequence[str], columns: int = COLUMNS, height: float = 2.15, group: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel per title in rows of about equal length, `group` neighbors in the same row."""
    rows = math.ceil(len(titles) / columns)
    used = max(2, group * math.ceil(len(titles) / rows / group))
    figure = new_figure(WIDTH * used / columns, height * rows + 0.75)
    panels: list[Axes] = list(figure.subplots(rows, used, squeeze=False).ravel())
    for panel, title in zip(panels, titles, strict=False):
        panel.set_title(title, fontsize=9)
        panel.tick_params(labelsize=SMALL)
    for panel in panels[len(titles) :]:
        panel.set_axis_off()
    return figure, panels[: len(titles)]


def _label_outer(panels: Sequence[Axes], x: str, y: str) -> None:
    """Label the axes at the left and lower rim of a grid of panels that share them."""
    lowest: dict[int, Axes] = {}
    for panel in panels:
        place = panel.get_subplotspec()
        if place is not None:
            lowest[place.colspan.start] = panel  # row by row: the last one stays
            if place.is_first_col():
                panel.set_ylabel(y, fontsize=SMALL)
    for panel in lowest.values():
        panel.set_xlabel(x, fontsize=SMALL)


def _write_note(panel: Axes, text: str) -> None:
    """Write into an empty panel why it is empty."""
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL, "color": GRAY, "wrap": True}
    panel.text(0.5, 0.5, text, transform=panel.transAxes, **style)
    panel.set(xticks=[], yticks=[])


def _integer_epochs(panel: Axes) -> None:
    """Tick whole epochs only, also for a model with a single one."""
    low, high = panel.get_xlim()
    panel.set_xlim(min(low, -0.5), max(high, 0.5))
    panel.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))


def plot_auroc(results: Results, measured: pd.DataFrame, data: str) -> Figure:
    """Plot the AUROC of each system: as reported, and by both protocols with 95 % intervals.

    Args:
        results: The benchmark.
        measured: From :func:`anomalib_cxr.benchmark.report.measures.measure_runs`.
        data: Name of the data set.

    Returns:
        The figure, a row per system.
    """
    systems = results.systems(data)
    figure = new_figure(WIDTH, 0.5 * len(systems) + 1.7)
    axes = figure.subplots()
    axes.axvline(CHANCE, color=GRAY, linestyle=":", linewidth=1)
    here = select(measured, data=data, shift=UNSHIFTED, metric=AUROC, group=POOLED)
    tested = select(here, protocol=HONEST, subset=TEST)
    series: list[tuple[str, str, str, pd.DataFrame | None]] = [
        ("reported by the dissertation", "*", "#D55E00", None),
        ("(a) best epoch on validation", "^", GRAY, select(here, protocol=DISSERTATION)),
        ("(b) test, epoch chosen on validation", "o", BLUE, select(tested, weights=BEST)),
        ("(b) test, last epoch", "s", BLACK, select(tested, weights=LAST)),
    ]
    for step, (name, marker, color, rows) in enumerate(series):
        axes.plot([], [], marker, color=color, label=name)
        for place, system in enumerate(systems):
            height = place + (step - 1.5) * 0.18
            reported = (results.config["systems"][system] or {}).get("reported")
            mean = None if rows is None else mean_over_runs(select(rows, system=system))
            if mean is not None:
                axes.plot([mean.low, mean.high], [height] * 2, color=color, linewidth=1.3)
                axes.plot(mean.value, height, marker, color=color, markersize=6)
            elif rows is None and reported is not None:
                axes.plot(reported, height, marker, color=color, markersize=6)
    axes.set_yticks(range(len(systems)), systems, fontsize=9)
    axes.set(ylim=(len(systems) - 0.5, -0.5), xlim=(min(0.3, axes.get_xlim()[0]), 1.01))
    axes.set_xlabel("AUROC", fontsize=9)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=4, fontsize=SMALL + 0.5, frameon=False)
    return figure


def plot_noise(systems: Mapping[str, Sequence[tuple[NoiseLevel, RunMean]]]) -> Figure:
    """Plot AUROC against noise, a panel per kind of noise and a line per system.

    Args:
        systems: Noise level and AUROC of each measurement, by system. A level of zero starts the line of both kinds.

    Returns:
        The figure.
    """
    kinds = sorted({level.kind for points in systems.values() for level, _ in points if level.deviation > 0})
    figure = new_figure(WIDTH, 4.2)
    panels = figure.subplots(1, max(1, len(kinds)), squeeze=False, sharey=True).ravel()
    alpha = min(0.14, 0.5 / len(systems))
    for kind, panel in zip(kinds, panels, strict=True):
        styles = zip(systems.items(), cycle(PALETTE), cycle(LINES), cycle(MARKERS), strict=False)
        for (name, points), color, line, marker in styles:
            of_kind = [(level.deviation, mean) for level, mean in points if not level.deviation or level.kind == kind]
            of_kind.sort(key=lambda point: point[0])
            x = [deviation for deviation, _ in of_kind]
            style = {"color": color, "linestyle": line, "marker": marker, "markersize": 4, "linewidth": 1.4}
            panel.plot(x, [mean.value for _, mean in of_kind], label=name, **style)
            low, high = [mean.smallest for _, mean in of_kind], [mean.largest for _, mean in of_kind]
            panel.fill_between(x, low, high, color=color, alpha=alpha, linewidth=0)
        panel.axhline(CHANCE, color=GRAY, linestyle=":", linewidth=1)
        panel.set_title(f"{kind} noise", fontsize=9)
        panel.set_xlabel("standard deviation at mid-gray, image in [0, 1]", fontsize=SMALL)
        panel.tick_params(labelsize=SMALL)
    panels[0].set_ylabel("AUROC", fontsize=SMALL)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=SMALL, frameon=False, handlelength=3)
    return figure


def plot_roc(results: Results, data: str) -> Figure:
    """Plot the ROC curves on the test set, a panel per system: mean and range over its runs, and mean by hospital.

    Args:
        results: The benchmark.
        data: Name of the data set.

    Returns:
        The figure.
    """
    systems = results.systems(data)
    tables = {system: [result.select(TEST, BEST) for result in results.of(data, system)] for system in systems}
    pooled = {system: roc_curves(tables[system]) for system in systems}
    figure, panels = _panel_grid(systems, height=2.4)
    for system, panel in zip(systems, panels, strict=True):
        panel.plot([0, 1], [0, 1], color=GRAY, linestyle=":", linewidth=0.8)
        for other, curves in pooled.items():
            if other != system and curves is not None:
                panel.plot(curves.grid, curves.mean, color=FAINT, linewidth=0.6, zorder=1)
        panel.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        _draw_roc(panel, tables[system], pooled[system])
    _label_outer(panels, "1 - specificity", "sensitivity")
    return figure


def _draw_roc(panel: Axes, tables: Sequence[pd.DataFrame], pooled: Curves | None) -> None:
    if pooled is None:
        _write_note(panel, "no run with both classes")
        return
    hospitals = _hospitals(tables)
    for (color, line), source in zip(HOSPITAL_STYLES, hospitals if len(hospitals) > 1 else [], strict=False):
        parts = [table[table.source == source] for table in tables]
        curves = roc_curves(parts)
        if curves is not None:
            label = f"{source} {_mean_auroc(parts):.2f}"
            panel.plot(curves.grid, curves.mean, color=color, linestyle=line, linewidth=1, label=label)
    label = "pooled" if len(hospitals) > 1 else "AUROC"
    _draw_curves(panel, pooled, BLACK, label=f"{label} {_mean_auroc(tables):.2f}")
    panel.legend(loc="lower right", fontsize=6.5, frameon=False, handlelength=2.2, borderaxespad=0.1, labelspacing=0.2)


def _hospitals(tables: Sequence[pd.DataFrame]) -> list[str]:
    return sorted({source for table in tables for source in table.source.dropna().unique()})


def _mean_auroc(tables: Sequence[pd.DataFrame]) -> float:
    return float(np.mean([auroc(table) for table in tables if no_roc_reason(table) is None]))


def plot_validation_auroc(results: Results, data: str) -> Figure:
    """Plot AUROC on validation against epochs, a panel per system; ticks at the bottom mark the chosen epochs.

    Args:
        results: The benchmark.
        data: Name of the data set.

    Returns:
        The figure.
    """
    systems = results.systems(data)
    figure, panels = _panel_grid(systems)
    for system, panel in zip(systems, panels, strict=True):
        runs = results.of(data, system)
        curves = align_epochs([result.epochs for result in runs], "val_auroc")
        if curves is None:
            _write_note(panel, "no AUROC by epoch")
            continue
        panel.axhline(CHANCE, color=GRAY, linestyle=":", linewidth=0.8)
        _draw_curves(panel, curves, BLUE)
        chosen = [epoch for result in runs if (epoch := result.record.get("best_epoch")) is not None]
        panel.plot(chosen, [0.04] * len(chosen), "|", color=BLACK, markersize=7)
        panel.set_ylim(0, 1.02)
        _integer_epochs(panel)
    _label_outer(panels, "epoch", "AUROC on validation")
    return figure


def plot_losses(losses: Mapping[str, Curves], title: str) -> Figure:
    """Plot losses against epochs, a panel per loss.

    Args:
        losses: From :func:`anomalib_cxr.benchmark.report.curves.loss_curves`, at least one.
        title: Title of the figure.

    Returns:
        The figure.
    """
    figure, panels = _panel_grid(list(losses), columns=LOSS_COLUMNS, height=1.6)
    figure.suptitle(title, fontsize=10)
    for curves, panel in zip(losses.values(), panels, strict=True):
        _draw_curves(panel, curves, BLUE)
        _integer_epochs(panel)
        panel.yaxis.set_major_locator(MaxNLocator(4))
        panel.margins(y=0.12)
    _label_outer(panels, "epoch", "")
    return figure


def plot_histograms(results: Results, data: str) -> Figure:
    """Plot histograms of the test scores of normal and sick images, a panel per system and hospital.

    Scores beyond the axis are counted in the outermost bins.

    Args:
        results: The benchmark.
        data: Name of the data set.

    Returns:
        The figure.
    """
    tables = {system: standardize_scores(results.of(data, system)) for system in results.systems(data)}
    hospitals = _hospitals(list(tables.values())) or [""]
    parts = {
        f"{system}, {source}".rstrip(", "): table[table.source == source] if source else table
        for system, table in tables.items()
        for source in hospitals
    }
    columns = len(hospitals) * max(1, COLUMNS // len(hospitals))
    figure, panels = _panel_grid(list(parts), columns, height=1.6, group=len(hospitals))
    for table, panel in zip(parts.values(), panels, strict=True):
        _draw_histogram(panel, table)
    highest = max(panel.get_ylim()[1] for panel in panels)
    for panel in panels:
        panel.set_ylim(0, highest)
    _label_outer(panels, "score, in SD of normal images", "share of images")
    drawn = [panel for panel in panels if panel.get_legend_handles_labels()[0]]
    for panel in drawn[:1]:
        panel.legend(fontsize=6.5, frameon=False, borderaxespad=0.1)
    return figure


def _draw_histogram(panel: Axes, table: pd.DataFrame) -> None:
    if table.empty:
        _write_note(panel, "scores without spread")
        return
    styles: tuple[dict[str, Any], ...] = ({"histtype": "stepfilled", "alpha": 0.45}, {"histtype": "step"})
    for label, color, style in zip((NORMAL, SICK), (BLUE, RED), styles, strict=True):
        scores = table.score[table.label == label].clip(BIN_EDGES[0], BIN_EDGES[-1])
        weights = np.full(len(scores), 1 / max(1, len(scores)))
        panel.hist(scores, bins=list(BIN_EDGES), weights=weights, color=color, label=label, **style)
    panel.axvline(0, color=GRAY, linestyle=":", linewidth=0.8)
    panel.yaxis.set_major_locator(MaxNLocator(3))
