"""The reliability curve of a calibration as a picture."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from anomalib_cxr.evaluation.figures import BLUE, GREY, new_figure

from .record import Calibration


def reliability_figure(calibration: Calibration) -> Figure:
    """Draw the share of sick images against the probability, with 95 % intervals.

    Args:
        calibration: One with a reliability curve; an empty one leaves the diagonal alone.
    """
    figure = new_figure(5, 5)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="as it should be")
    bins = calibration.reliability
    observed = np.array([each.observed for each in bins])
    below, above = observed - [each.low for each in bins], [each.high for each in bins] - observed
    predicted = [each.predicted for each in bins]
    axes.errorbar(predicted, observed, yerr=[below, above], color=BLUE, marker="o", capsize=3, label="95 % interval")
    counts = calibration.counts
    axes.set(
        xlabel=f"probability, at {100 * calibration.probability.share:.0f} % sick images as in the calibration",
        ylabel="share of sick images",
        title=f"Reliability: {counts.normal} normal, {counts.sick} sick",
    )
    axes.legend(loc="upper left")
    return figure
