"""The reliability curve as a picture shows the bins of the calibration."""

from __future__ import annotations

import numpy as np
import pytest

from anomalib_cxr.screening.calibrate import reliability_figure


def test_points_and_intervals(calibration):
    (axes,) = reliability_figure(calibration).axes
    (points, _, (bars,)) = axes.containers[0]
    bins = calibration.reliability
    assert len(bins) > 1
    np.testing.assert_allclose(points.get_xydata(), [(each.predicted, each.observed) for each in bins])
    ends = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [(each.low, each.high) for each in bins], atol=1e-12)


def test_counts_and_share(calibration):
    (axes,) = reliability_figure(calibration).axes
    assert axes.get_title() == f"Reliability: {calibration.counts.normal} normal, {calibration.counts.sick} sick"
    assert f"at {100 * calibration.probability.share:.0f} % sick images" in axes.get_xlabel()


@pytest.mark.filterwarnings("error")
def test_without_a_curve(calibration):
    (axes,) = reliability_figure(calibration.model_copy(update={"reliability": ()})).axes
    assert axes.get_title().startswith("Reliability")
    assert len(axes.containers[0][0].get_xdata()) == 0
