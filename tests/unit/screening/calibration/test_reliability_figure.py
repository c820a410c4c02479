"""The figure shows what the record holds."""

from __future__ import annotations

import numpy as np
import pytest

from anomalib_cxr.screening.calibration.reliability_figure import reliability_figure


def test_points_and_intervals(calibration):
    (axes,) = reliability_figure(calibration).axes
    (points, _, (bars,)) = axes.containers[0]
    bins = calibration.reliability
    assert len(bins) > 1
    np.testing.assert_allclose(points.get_xydata(), [(group.predicted, group.observed) for group in bins])
    ends = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [(group.low, group.high) for group in bins], atol=1e-12)


def test_counts_and_share(calibration):
    (axes,) = reliability_figure(calibration).axes
    assert axes.get_title() == f"Reliability: {calibration.counts.normal} normal, {calibration.counts.sick} sick"
    assert f"at {100 * calibration.probability.share:.0f} % sick images" in axes.get_xlabel()


# Not every warning: a library's temporary folder collected by chance during this test warns too.
@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
def test_without_a_curve(calibration):
    (axes,) = reliability_figure(calibration.model_copy(update={"reliability": ()})).axes
    assert axes.get_title().startswith("Reliability")
    assert len(axes.containers[0][0].get_xdata()) == 0
