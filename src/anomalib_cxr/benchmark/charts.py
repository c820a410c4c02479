"""Figures of what was measured: all systems side by side, and AUROC against noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anomalib_cxr.evaluation.figures import BLUE, GREY, new_figure
from anomalib_cxr.evaluation.screening_metrics import AUROC, POOLED

from .measures import DISSERTATION, HONEST, Over, over_runs, pick
from .noise import Noise
from .panels import INK, SMALL, WIDTH
from .results import AS_IS, BEST, LAST, TEST, Results

# After M. Okabe and K. Ito, "Color Universal Design", 2008, without its yellow, which is faint on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX"
MARKS = {
    "reported by the dissertation": ("*", "#D55E00"),
    "(a) best epoch on validation": ("^", GREY),
    "(b) test, epoch chosen on validation": ("o", BLUE),
    "(b) test, last epoch": ("s", INK),
}


def overview(results: Results, measured: pd.DataFrame, data: str) -> Figure:
    """Draw AUROC of each system: as reported, and by both protocols with 95 % intervals."""
    systems = results.systems(data)
    figure = new_figure(WIDTH, 0.5 * len(systems) + 1.7)
    axes = figure.subplots()
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
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
        panel.axhline(0.5, color=GREY, linestyle=":", linewidth=1)
        panel.set_title(f"{kind} noise", fontsize=9)
        panel.set_xlabel("standard deviation at mid-grey, image in [0, 1]", fontsize=SMALL)
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
