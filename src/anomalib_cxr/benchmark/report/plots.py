"""The figures of a benchmark: a panel for each system, so that eleven of them stay legible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from anomalib_cxr.evaluation.figures import BLUE, GRAY, RED
from anomalib_cxr.evaluation.scores import NORMAL, SICK, auroc, obstacle_to_roc

from .panels import COLUMNS, INK, Curves, curves_of, draw_curves, label_outer, panel_grid, say
from .results import BEST, TEST, Outcome, Results

ORANGE, PURPLE, TEAL, FAINT = "#e66101", "#7b3294", "#018571", "#c4c4c4"
FALL_OUT = np.linspace(0, 1, 101)
HOSPITAL_STYLES = ((BLUE, "--"), (ORANGE, "-."), (PURPLE, ":"), (TEAL, (0, (1, 1))))
"""Color and line of each hospital; neither tells it alone."""
EDGES = np.linspace(-4, 6, 31)
"""Of the histograms' bins, in standard deviations of the normal images' scores."""
LOSSES_IN_A_ROW = 6
NOT_LOSSES = ("epoch", "val_auroc")


def mean_roc(tables: Sequence[pd.DataFrame]) -> Curves | None:
    """Return the ROC curves of several runs over a common grid of fall-out, for vertical averaging.

    Args:
        tables: The scores of each run: `label`, `score`. Those without both classes are left out.

    Returns:
        Sensitivity over 1 - specificity; None where no run has both classes.

    Example:
        >>> table = pd.DataFrame({"label": ["normal", "sick", "normal", "sick"], "score": [1.0, 2.0, 3.0, 4.0]})
        >>> curves = mean_roc([table])
        >>> curves.grid[[0, 1, -1]].tolist(), curves.mean[[0, 1, -1]].tolist()
        ([0.0, 0.0, 1.0], [0.0, 0.5, 1.0])
    """
    rows = [
        [0.0, *_sensitivity_over_grid(*roc_curve(table.label == SICK, table.score)[:2])]
        for table in tables
        if obstacle_to_roc(table) is None
    ]
    return Curves(np.array([0.0, *FALL_OUT]), np.array(rows)) if rows else None


def _sensitivity_over_grid(fall_out: np.ndarray, sensitivity: np.ndarray) -> np.ndarray:
    """Return the sensitivity at each place of the grid; where that falls on a vertical step, the middle of the step."""
    upper = np.interp(FALL_OUT, fall_out, sensitivity)  # of several points above each other NumPy takes the last
    lower = np.interp(-FALL_OUT, -fall_out[::-1], sensitivity[::-1])
    middle: np.ndarray = (lower + upper) / 2
    middle[[0, -1]] = upper[[0, -1]]  # the curve begins at the top of its first step, and ends at 1
    return middle


def roc_panels(results: Results, data: str) -> Figure:
    """Draw the ROC curve of each system on the test set: the mean over runs, with its range, and of each hospital."""
    systems = results.systems(data)
    tables = {system: [each.part(TEST, BEST) for each in results.of(data, system)] for system in systems}
    pooled = {system: mean_roc(tables[system]) for system in systems}
    figure, panels = panel_grid(systems, height=2.4)
    for system, panel in zip(systems, panels, strict=True):
        _draw_others(panel, [curves for other, curves in pooled.items() if other != system])
        _draw_roc(panel, tables[system], pooled[system])
    label_outer(panels, "1 - specificity", "sensitivity")
    return figure


def _draw_others(panel: Axes, others: Sequence[Curves | None]) -> None:
    """Draw the means of the other systems faintly, to compare with."""
    panel.plot([0, 1], [0, 1], color=GRAY, linestyle=":", linewidth=0.8)
    for curves in others:
        if curves is not None:
            panel.plot(curves.grid, curves.mean, color=FAINT, linewidth=0.6, zorder=1)
    panel.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])


def _draw_roc(panel: Axes, tables: Sequence[pd.DataFrame], pooled: Curves | None) -> None:
    if pooled is None:
        say(panel, "no run with both classes")
        return
    hospitals = hospitals_of(tables)
    for (color, line), source in zip(HOSPITAL_STYLES, hospitals if len(hospitals) > 1 else [], strict=False):
        parts = [table[table.source == source] for table in tables]
        curves = mean_roc(parts)
        if curves is not None:
            label = f"{source} {_mean_auroc(parts):.2f}"
            panel.plot(curves.grid, curves.mean, color=color, linestyle=line, linewidth=1, label=label)
    draw_curves(panel, pooled, label=f"{'pooled' if len(hospitals) > 1 else 'AUROC'} {_mean_auroc(tables):.2f}")
    panel.legend(loc="lower right", fontsize=6.5, frameon=False, handlelength=2.2, borderaxespad=0.1, labelspacing=0.2)


def hospitals_of(tables: Sequence[pd.DataFrame]) -> list[str]:
    """Return the hospitals that the images of some tables came from."""
    return sorted({source for table in tables for source in table.source.dropna().unique()})


def _mean_auroc(tables: Sequence[pd.DataFrame]) -> float:
    return float(np.mean([auroc(table) for table in tables if obstacle_to_roc(table) is None]))


def auroc_panels(results: Results, data: str) -> Figure:
    """Draw the AUROC on validation against epochs, for each system; ticks below mark the chosen epoch of each run."""
    systems = results.systems(data)
    figure, panels = panel_grid(systems)
    for system, panel in zip(systems, panels, strict=True):
        outcomes = results.of(data, system)
        curves = curves_of([each.epochs for each in outcomes], "val_auroc")
        if curves is None:
            say(panel, "no AUROC by epoch")
            continue
        panel.axhline(0.5, color=GRAY, linestyle=":", linewidth=0.8)
        draw_curves(panel, curves, BLUE)
        _mark_chosen(panel, outcomes)
        panel.set_ylim(0, 1.02)
        _mark_epochs(panel)
    label_outer(panels, "epoch", "AUROC on validation")
    return figure


def _mark_epochs(panel: Axes) -> None:
    """Mark whole epochs only, also of a model that has a single one."""
    low, high = panel.get_xlim()
    panel.set_xlim(min(low, -0.5), max(high, 0.5))
    panel.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))


def _mark_chosen(panel: Axes, outcomes: Sequence[Outcome]) -> None:
    chosen = [each.record["best_epoch"] for each in outcomes if each.record.get("best_epoch") is not None]
    panel.plot(chosen, [0.04] * len(chosen), "|", color=INK, markersize=7)


def losses_of(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what any of some runs logged by epoch, apart from the AUROC on validation."""
    names = dict.fromkeys(name for each in outcomes for name in each.epochs.columns if name not in NOT_LOSSES)
    return [name for name in names if curves_of([each.epochs for each in outcomes], name) is not None]


def loss_panels(outcomes: Sequence[Outcome]) -> Figure:
    """Draw what the runs of one system logged, each term in a panel of its own.

    Args:
        outcomes: Runs for which :func:`losses_of` finds something.
    """
    names = losses_of(outcomes)
    figure, panels = panel_grid(names, columns=LOSSES_IN_A_ROW, height=1.6)
    figure.suptitle(outcomes[0].run.system, fontsize=10)
    for name, panel in zip(names, panels, strict=True):
        curves = curves_of([each.epochs for each in outcomes], name)
        if curves is not None:
            draw_curves(panel, curves, BLUE)
        _mark_epochs(panel)
        panel.yaxis.set_major_locator(MaxNLocator(4))
        panel.margins(y=0.12)
    label_outer(panels, "epoch", "")
    return figure


def histogram_panels(results: Results, data: str) -> Figure:
    """Draw how the test scores of normal and sick images are distributed, for each system and hospital.

    Scores of different runs differ in scale: each run's are shifted and scaled such that its normal test images of all
    hospitals have mean 0 and standard deviation 1. What lies beyond the axis is counted in the outermost bins.
    """
    systems = results.systems(data)
    tables = {system: _standardized(results.of(data, system)) for system in systems}
    hospitals = hospitals_of(list(tables.values())) or [""]
    titles = [f"{system}, {source}".rstrip(", ") for system in systems for source in hospitals]
    in_a_row = max(1, COLUMNS // len(hospitals))
    figure, panels = panel_grid(titles, len(hospitals) * in_a_row, height=1.6, group=len(hospitals))
    places = [(system, source) for system in systems for source in hospitals]
    for (system, source), panel in zip(places, panels, strict=True):
        table = tables[system]
        _draw_histogram(panel, table[table.source == source] if source else table)
    highest = max(panel.get_ylim()[1] for panel in panels)
    for panel in panels:
        panel.set_ylim(0, highest)
    label_outer(panels, "score, in SD of normal images", "share of images")
    drawn = [panel for panel in panels if panel.get_legend_handles_labels()[0]]
    for panel in drawn[:1]:
        panel.legend(fontsize=6.5, frameon=False, borderaxespad=0.1)
    return figure


def _standardized(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    parts = []
    for each in outcomes:
        table = each.part(TEST, BEST)
        normal = table.score[table.label == NORMAL]
        spread = normal.std(ddof=0)
        if spread > 0:
            parts.append(table.assign(score=(table.score - normal.mean()) / spread))
    scaled: pd.DataFrame = pd.concat(parts) if parts else pd.DataFrame(columns=["source", "label", "score"])
    return scaled


def _draw_histogram(panel: Axes, table: pd.DataFrame) -> None:
    if table.empty:
        say(panel, "no scores that can be scaled")
        return
    for label, color in ((NORMAL, BLUE), (SICK, RED)):
        scores = table.score[table.label == label].clip(EDGES[0], EDGES[-1])
        share = np.full(len(scores), 1 / max(1, len(scores)))
        style: dict[str, Any] = {"histtype": "stepfilled", "alpha": 0.45} if label == NORMAL else {"histtype": "step"}
        panel.hist(scores, bins=list(EDGES), weights=share, color=color, label=label, **style)
    panel.axvline(0, color=GRAY, linestyle=":", linewidth=0.8)
    panel.yaxis.set_major_locator(MaxNLocator(3))
