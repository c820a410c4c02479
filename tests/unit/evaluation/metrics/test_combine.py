"""Rubin's rules in closed form, and what they promise in a simulation."""

from __future__ import annotations

import math
from math import nan

import numpy as np
import pytest
from scipy.stats import norm, t

from anomalib_cxr.errors import ScoreError
from anomalib_cxr.evaluation.metrics.combine import combine


class TestClosedForm:
    def test_variances_and_degrees(self):
        found = combine([0.7, 0.8, 0.9], [0.001, 0.002, 0.003])
        assert (found.value, found.within, found.between) == pytest.approx((0.8, 0.002, 0.01))
        assert found.total == pytest.approx(0.002 + 4 / 3 * 0.01)
        assert found.degrees == pytest.approx(2 * (1 + 0.002 / (4 / 3 * 0.01)) ** 2)

    def test_difference(self):
        found = combine([0.05, 0.15], [0.002, 0.002])
        error = math.sqrt(0.002 + 1.5 * 0.005)
        degrees = (1 + 0.002 / (1.5 * 0.005)) ** 2
        assert found.difference_interval == pytest.approx(
            (max(-1, 0.1 - t.ppf(0.975, degrees) * error), min(1, 0.1 + t.ppf(0.975, degrees) * error))
        )
        assert found.p == pytest.approx(2 * t.cdf(-0.1 / error, degrees))

    def test_auroc_on_the_scale_of_the_log_odds(self):
        found = combine([0.88, 0.92, 0.90], [0.0009, 0.0009, 0.0009])
        half = t.ppf(0.975, found.degrees) * math.sqrt(found.total) / (0.9 * 0.1)
        assert [math.log(end / (1 - end)) for end in found.auroc_interval] == pytest.approx(
            [math.log(9) - half, math.log(9) + half]
        )

    def test_one_run_is_itself(self):
        found = combine([0.1], [0.0025])
        assert (found.between, found.degrees) == (0, math.inf)
        assert found.difference_interval == pytest.approx((0.1 - 1.959964 * 0.05, 0.1 + 1.959964 * 0.05))
        assert found.p == pytest.approx(2 * norm.cdf(-2))

    def test_runs_that_agree_are_as_sure_as_one(self):
        one, three = combine([0.85], [0.0004]), combine([0.85] * 3, [0.0004] * 3)
        assert three.auroc_interval == pytest.approx(one.auroc_interval)


class TestEnds:
    def test_perfect_runs_have_an_interval(self):
        low, high = combine([1.0, 1.0], [0.0004, 0.0004]).auroc_interval
        assert (low, high) == pytest.approx((1 - 1.959964 * 0.02, 1))

    def test_no_difference_at_all(self):
        found = combine([0.0, 0.0], [0.0, 0.0])
        assert (found.p, *found.difference_interval) == (1, 0, 0)

    def test_no_test_without_variance(self):
        assert math.isnan(combine([0.5, 0.5], [0.0, 0.0]).p)

    @pytest.mark.parametrize("value", [0.6, 1.0])
    def test_unknown_variance_leaves_the_mean(self, value):
        found = combine([value, value], [0.01, nan])
        assert found.value == pytest.approx(value)
        assert [found.p, *found.auroc_interval, *found.difference_interval] == pytest.approx(5 * [nan], nan_ok=True)


@pytest.mark.parametrize("n_runs", [3, 10])
def test_interval_is_right_for_one_more_run(n_runs):
    """Runs share the images, so their errors from there; seeds are on their own."""
    rng = np.random.default_rng(0)
    within, between, truth, trials = 0.03**2, 0.02**2, 0.05, 2000
    new_runs = truth + between**0.5 * rng.standard_normal(trials)
    values = (
        truth + within**0.5 * rng.standard_normal((trials, 1)) + between**0.5 * rng.standard_normal((trials, n_runs))
    )
    intervals = [combine(row, [within] * n_runs).difference_interval for row in values]
    covered = [low <= new <= high for new, (low, high) in zip(new_runs, intervals, strict=True)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_equal_systems_are_called_different_no_more_often_than_it_says():
    """Seldomer, even: one more run of each could differ by more than their means do."""
    rng = np.random.default_rng(0)
    values = 0.03 * rng.standard_normal((2000, 1)) + 0.02 * rng.standard_normal((2000, 5))
    p = np.array([combine(row, [0.03**2] * 5).p for row in values])
    assert 0.005 < np.mean(p < 0.05) < 0.05


@pytest.mark.parametrize(("values", "variances"), [([], []), ([0.1, 0.2], [0.1]), ([nan], [0.1])])
def test_refuses(values, variances):
    with pytest.raises(ScoreError, match=r"found: values .* with variances"):
        combine(values, variances)
