"""Figure of the reliability of the probability of disease."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from anomalib_cxr.evaluation.canvas import BLUE, GRAY, new_figure

from .record import Calibration


def reliability_figure(calibration: Calibration) -> Figure:
    """Plot the observed share of sick images against the predicted probability, with 95 % intervals.

    Args:
        calibration: Record with a reliability curve; where it is empty, the diagonal alone is plotted.

    Returns:
        The figure.
    """
    figure = new_figure(5, 5)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle=":", label="perfect calibration")
    bins = calibration.reliability
    observed = np.array([group.observed for group in bins])
    errors = [observed - [group.low for group in bins], [group.high for group in bins] - observed]
    predicted = [group.predicted for group in bins]
    axes.errorbar(predicted, observed, yerr=errors, color=BLUE, marker="o", capsize=3, label="95 % interval")
    counts = calibration.counts
    axes.set(
        xlabel=f"probability, at {100 * calibration.probability.share:.0f} % sick images as in the calibration",
        ylabel="share of sick images",
        title=f"Reliability: {counts.normal} normal, {counts.sick} sick",
    )
    axes.legend(loc="upper left")
    return figure
