"""Plots of a training and a test, drawn from tables without global state of matplotlib."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from .canvas import BLUE, GRAY, GREEN, RED, new_figure
from .scores import NORMAL, SICK, auroc, count_labels, no_roc_reason


class BestEpoch(NamedTuple):
    """First epoch with the highest AUROC on validation."""

    epoch: int
    metric: str
    value: float


def best_epoch(history: pd.DataFrame) -> BestEpoch | None:
    """Return the best epoch of a training.

    Args:
        history: One row per epoch, with a column `epoch` and one per scalar; missing where it was not measured.

    Returns:
        The epoch; None if no AUROC was measured.

    Example:
        >>> best_epoch(pd.DataFrame({"epoch": [0, 1, 2], "val_image_AUROC": [0.5, 0.8, 0.7]}))
        BestEpoch(epoch=1, metric='val_image_AUROC', value=0.8)
    """
    measured = [name for name in history.columns if is_auroc(name) and history[name].notna().any()]
    if not measured:
        return None
    values = history[measured[0]].to_numpy(dtype=float)
    row = int(np.nanargmax(values))
    return BestEpoch(int(history["epoch"].iloc[row]), measured[0], float(values[row]))


def is_auroc(name: str) -> bool:
    """Return whether a logged scalar is an AUROC, by its name.

    Args:
        name: Name of the scalar.

    Returns:
        Whether the name contains AUROC.
    """
    return "AUROC" in name


def loss_curves(history: pd.DataFrame) -> Figure:
    """Plot the logged scalars against epochs, a panel per scalar.

    Args:
        history: As for :func:`best_epoch`, with one scalar at least.

    Returns:
        The figure.
    """
    names = sorted((name for name in history.columns if name != "epoch"), key=is_auroc)
    n_columns = min(4, len(names))
    n_rows = math.ceil(len(names) / n_columns)
    figure = new_figure(max(7.0, 3.1 * n_columns), 2.3 * n_rows + 1.0)
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    best = best_epoch(history)
    for panel, name in zip(panels, names, strict=False):
        _draw_scalar(panel, history[["epoch", name]].dropna(), name, best)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    figure.suptitle(_training_title(history, best), fontsize=10)
    return figure


def _training_title(history: pd.DataFrame, best: BestEpoch | None) -> str:
    last = int(history["epoch"].iloc[-1])
    title = f"Training up to epoch {last} (the first is 0)."
    if best is None:
        return f"{title} No AUROC was measured on validation."
    contrast = "which here is the best" if best.epoch == last else "not those of the best (dashed line)"
    return (
        f"{title} Best on validation: epoch {best.epoch}, {best.metric} {best.value:.3f}.\n"
        f"`anomalib train` tests the weights after the last epoch (dot), {contrast}."
    )


def _draw_scalar(panel: Axes, points: pd.DataFrame, name: str, best: BestEpoch | None) -> None:
    epochs, values = points["epoch"], points[name]
    panel.plot(epochs, values, color=BLUE, linewidth=1.2, marker=".", markersize=3)
    panel.plot(epochs.iloc[-1:], values.iloc[-1:], "o", color=BLUE, markersize=5)
    if best is not None:
        panel.axvline(best.epoch, color=GREEN, linestyle="--", linewidth=1)
    if is_auroc(name):
        panel.axhline(0.5, color=GRAY, linestyle=":", linewidth=1)
        panel.set_ylim(0, 1.02)
    panel.set_title(f"{name}, last {values.iloc[-1]:.3g}" if len(values) else name, fontsize=9)
    panel.set_xlabel("epoch", fontsize=8)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # one epoch: one tick
    panel.tick_params(labelsize=8)
    panel.margins(y=0.15)


def roc_figure(table: pd.DataFrame, tested: str = "") -> Figure:
    """Plot the ROC curve of all images and of each hospital, with AUROC and numbers of images.

    anomalib computes `image_AUROC` of a test from probabilities, which its post-processor clips to [0, 1]. Scores
    beyond the range of validation are ties there, so that the two values may differ.

    Args:
        table: From :func:`anomalib_cxr.evaluation.scores.score_table`, with finite scores of both classes.
        tested: Description of the tested weights, for the title.

    Returns:
        The figure.
    """
    figure = new_figure(5.6, 6.1)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle=":", linewidth=1, label="chance")
    hospitals = sorted(table.source.dropna().unique())
    for source in hospitals if len(hospitals) > 1 else []:
        part = table[table.source == source]
        if no_roc_reason(part) is None:
            _draw_roc(axes, part, source, linewidth=1.1)
        else:
            axes.plot([], [], " ", label=f"{source}: no curve ({_counts(part)})")
    _draw_roc(axes, table, hospitals[0] if len(hospitals) == 1 else "all", color="black", linewidth=1.8)
    _mark_threshold(axes, table)
    axes.set(xlabel="1 - specificity (normal called sick)", ylabel="sensitivity (sick called sick)", aspect="equal")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.legend(loc="lower right", fontsize=8)
    title = "ROC curve of the test set, from the scores before post-processing"
    figure.suptitle(f"{title}\n{tested}".strip(), fontsize=10)
    return figure


def _counts(table: pd.DataFrame) -> str:
    normal, sick = count_labels(table)
    return f"{normal} normal, {sick} sick"


def _draw_roc(axes: Axes, table: pd.DataFrame, name: str, **style: Any) -> None:
    known = table[table.label.notna()]
    false_positive, true_positive, _ = roc_curve(known.label == SICK, known.score)
    axes.plot(false_positive, true_positive, label=f"{name}: AUROC {auroc(table):.3f} ({_counts(table)})", **style)


def _mark_threshold(axes: Axes, table: pd.DataFrame) -> None:
    """Mark the threshold of the post-processor, from the column `predicted`."""
    known = table[table.label.notna() & table.predicted.notna()]
    if no_roc_reason(known) is not None:
        return
    positive = known.predicted == SICK
    sensitivity, false_positive_rate = positive[known.label == SICK].mean(), positive[known.label == NORMAL].mean()
    label = f"threshold: sensitivity {sensitivity:.2f}, specificity {1 - false_positive_rate:.2f}"
    axes.plot([false_positive_rate], [sensitivity], "o", color=RED, markersize=6, label=label, zorder=5)


def score_histogram(table: pd.DataFrame) -> Figure:
    """Plot histograms of the scores of normal and of sick images.

    Args:
        table: From :func:`anomalib_cxr.evaluation.scores.score_table`, with finite scores.

    Returns:
        The figure.
    """
    figure = new_figure(6.0, 3.8)
    axes = figure.subplots()
    bins = np.histogram_bin_edges(table.score, bins=min(30, max(8, len(table) // 5)))
    for label, color in ((NORMAL, BLUE), (SICK, RED)):
        scores = table.score[table.label == label]
        axes.hist(scores, bins=list(bins), color=color, alpha=0.5, label=f"{label} ({len(scores)})")
    axes.set(xlabel="anomaly score, output of the model", ylabel="images")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)
    figure.suptitle("Scores of the test set", fontsize=10)
    return figure
