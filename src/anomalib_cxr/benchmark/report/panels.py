"""What the figures of a benchmark share: a panel for each system, and curves as mean and range over runs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anomalib_cxr.evaluation.figures import BLUE, GRAY, new_figure
from anomalib_cxr.evaluation.metrics.screening_metrics import AUROC, POOLED

from .measures import DISSERTATION, HONEST, Over, over_runs, pick
from .results import AS_IS, BEST, LAST, TEST, Noise, Results

INK = "black"
WIDTH = 9.6
"""Of a figure, in inches."""
COLUMNS = 4
PANEL_HEIGHT = 2.15
SMALL = 7.5


class Curves(NamedTuple):
    """A quantity over a common grid, from several runs."""

    grid: np.ndarray
    """`(N,)`."""
    values: np.ndarray
    """A row for each run, `(R, N)`; NaN where a run has no value."""

    @property
    def mean(self) -> np.ndarray:
        """Mean over the runs that have a value, `(N,)`."""
        return self._over_runs(np.nanmean)

    @property
    def range(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest over the runs, `(N,)` each."""
        return self._over_runs(np.nanmin), self._over_runs(np.nanmax)

    def _over_runs(self, reduce: Any) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a place without any value stays NaN
            return np.asarray(reduce(self.values, axis=0))


def curves_of(tables: Sequence[pd.DataFrame], column: str) -> Curves | None:
    """Align a column of several tables by their `epoch`; None where no table has a finite value.

    Example:
        >>> tables = [pd.DataFrame({"epoch": [0, 1], "l": [4.0, 2.0]}), pd.DataFrame({"epoch": [0], "l": [2.0]})]
        >>> curves_of(tables, "l").mean.tolist(), curves_of(tables, "val_auroc") is None
        ([3.0, 2.0], True)
    """
    series = [table.set_index("epoch")[column].astype(float) for table in tables if column in table]
    series = [each for each in series if np.isfinite(each).any()]
    if not series:
        return None
    aligned = pd.concat([each[~each.index.duplicated()] for each in series], axis=1).sort_index()
    aligned = aligned.where(np.isfinite(aligned))
    return Curves(aligned.index.to_numpy(dtype=float), aligned.to_numpy(dtype=float).T)


def draw_curves(axes: Axes, curves: Curves, color: str = INK, **style: Any) -> None:
    """Draw the mean over runs, and their range as a band; a single place as a dot."""
    marker = "o" if len(curves.grid) == 1 else None
    axes.plot(curves.grid, curves.mean, color=color, marker=marker, markersize=4, **{"linewidth": 1.4, **style})
    if len(curves.values) > 1:
        axes.fill_between(curves.grid, *curves.range, color=color, alpha=0.18, linewidth=0)
        if marker:
            axes.vlines(curves.grid, *curves.range, color=color, linewidth=1)


def panel_grid(
    titles: Sequence[str], columns: int = COLUMNS, height: float = PANEL_HEIGHT, group: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return a figure and a panel for each title, row by row, in rows that are as equal as can be.

    Args:
        titles: Of the panels.
        columns: Panels of a row that is as wide as a page.
        height: Of a panel, in inches.
        group: So many panels in sequence stay in one row.
    """
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


def label_outer(panels: Sequence[Axes], x: str, y: str) -> None:
    """Name the axes at the rim of a grid of panels that share them."""
    for panel in panels:
        place = panel.get_subplotspec()
        if place is not None and place.is_first_col():
            panel.set_ylabel(y, fontsize=SMALL)
    for panel in _lowest(panels):
        panel.set_xlabel(x, fontsize=SMALL)


def _lowest(panels: Sequence[Axes]) -> Iterator[Axes]:
    by_column: dict[int, Axes] = {}
    for panel in panels:
        place = panel.get_subplotspec()
        if place is not None:
            by_column[place.colspan.start] = panel  # row by row: the last one stays
    yield from by_column.values()


def say(axes: Axes, words: str) -> None:
    """Say in an empty panel why there is nothing to see."""
    axes.text(
        0.5, 0.5, words, ha="center", va="center", fontsize=SMALL, color=GRAY, transform=axes.transAxes, wrap=True
    )
    axes.set_xticks([])
    axes.set_yticks([])


# After M. Okabe and K. Ito, "Color Universal Design", 2008, without its yellow, which is faint on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX"
MARKS = {
    "reported by the dissertation": ("*", "#D55E00"),
    "(a) best epoch on validation": ("^", GRAY),
    "(b) test, epoch chosen on validation": ("o", BLUE),
    "(b) test, last epoch": ("s", INK),
}


def overview(results: Results, measured: pd.DataFrame, data: str) -> Figure:
    """Draw AUROC of each system: as reported, and by both protocols with 95 % intervals."""
    systems = results.systems(data)
    figure = new_figure(WIDTH, 0.5 * len(systems) + 1.7)
    axes = figure.subplots()
    axes.axvline(0.5, color=GRAY, linestyle=":", linewidth=1)
    here = pick(measured, data=data, shift=AS_IS, metric=AUROC, group=POOLED)
    for place, system in enumerate(systems):
        own = pick(here, system=system)
        tested = pick(own, protocol=HONEST, subset=TEST)
        reported = results.reported(system)
        known = None if reported is None else Over(reported, reported, reported, reported, reported, 1)
        estimates = [
            known,
            over_runs(pick(own, protocol=DISSERTATION)),
            over_runs(pick(tested, weights=BEST)),
            over_runs(pick(tested, weights=LAST)),
        ]
        for step, (over, (marker, color)) in enumerate(zip(estimates, MARKS.values(), strict=True)):
            if over is not None:
                height = place + (step - 1.5) * 0.18
                axes.plot([over.low, over.high], [height] * 2, color=color, linewidth=1.3)
                axes.plot(over.value, height, marker, color=color, markersize=6)
    for name, (marker, color) in MARKS.items():
        axes.plot([], [], marker, color=color, label=name)
    axes.set_yticks(range(len(systems)), systems, fontsize=9)
    axes.set(ylim=(len(systems) - 0.5, -0.5), xlim=(min(0.3, axes.get_xlim()[0]), 1.01))
    axes.set_xlabel("AUROC", fontsize=9)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=4, fontsize=SMALL + 0.5, frameon=False)
    return figure


def noise_curves(systems: Mapping[str, Sequence[tuple[Noise, Over]]]) -> Figure:
    """Draw AUROC against noise, a panel for each kind of noise and a line for each system.

    Args:
        systems: For each system, what was measured at which noise. Images without noise, of gain and sigma 0, start
            the line of each kind.
    """
    noises = [noise for points in systems.values() for noise, _ in points if noise.spread > 0]
    kinds = sorted({noise.kind for noise in noises})
    figure = new_figure(WIDTH, 4.2)
    panels = figure.subplots(1, max(1, len(kinds)), squeeze=False, sharey=True).ravel()
    for kind, panel in zip(kinds, panels, strict=True):
        looks = zip(cycle(PALETTE), cycle(LINES), cycle(MARKERS), strict=False)
        for (name, points), look in zip(systems.items(), looks, strict=False):
            of_kind = [(noise, over) for noise, over in points if not noise.spread or noise.kind == kind]
            _draw_line(panel, of_kind, look, label=name, alpha=min(0.14, 0.5 / len(systems)))
        panel.axhline(0.5, color=GRAY, linestyle=":", linewidth=1)
        panel.set_title(f"{kind} noise", fontsize=9)
        panel.set_xlabel("standard deviation at mid-gray, image in [0, 1]", fontsize=SMALL)
        panel.tick_params(labelsize=SMALL)
    panels[0].set_ylabel("AUROC", fontsize=SMALL)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=SMALL, frameon=False, handlelength=3)
    return figure


def _draw_line(
    panel: Axes, points: Sequence[tuple[Noise, Over]], look: tuple[str, str, str], label: str, alpha: float
) -> None:
    color, line, marker = look
    ordered = sorted(points, key=lambda point: point[0].spread)
    spread = [noise.spread for noise, _ in ordered]
    panel.plot(
        spread, [over.value for _, over in ordered],
        color=color, linestyle=line, marker=marker, markersize=4, linewidth=1.4, label=label,
    )  # fmt: skip
    low, high = [over.smallest for _, over in ordered], [over.largest for _, over in ordered]
    panel.fill_between(spread, low, high, color=color, alpha=alpha, linewidth=0)
