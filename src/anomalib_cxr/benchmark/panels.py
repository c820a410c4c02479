"""What the figures of a benchmark share: a panel for each system, and curves as mean and range over runs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anomalib_cxr.evaluation.figures import GREY, new_figure

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
        0.5, 0.5, words, ha="center", va="center", fontsize=SMALL, color=GREY, transform=axes.transAxes, wrap=True
    )
    axes.set_xticks([])
    axes.set_yticks([])
