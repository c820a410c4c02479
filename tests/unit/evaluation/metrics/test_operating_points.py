"""Operating points by hand, against scikit-learn, and their intervals in simulations."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import average_precision_score, roc_curve

from anomalib_cxr.errors import ScoreError, SettingError
from anomalib_cxr.evaluation.metrics import operating_points
from anomalib_cxr.evaluation.metrics.operating_points import estimate_average_precision, operating_point, rates_at


def draw(rng, n_normal, n_sick, shift, decimals=8):
    """Draw normal scores in mixed order; those of sick images lie higher by a shift."""
    is_sick = rng.permutation(np.arange(n_normal + n_sick) >= n_normal)
    return is_sick, (rng.standard_normal(len(is_sick)) + shift * is_sick).round(decimals)


@pytest.fixture
def few_draws(monkeypatch):
    monkeypatch.setattr(operating_points, "N_DRAWS", 400)


class TestOperatingPoint:
    @pytest.mark.parametrize(("sensitivity", "threshold"), [(0.95, 2.0), (0.96, 1.0), (0.9, 3.0), (1.0, 1.0)])
    def test_by_hand(self, sensitivity, threshold):
        sick, normal = np.arange(1.0, 21), np.array([0.0, 0.5, 1, 1.5, 2, 2.5])
        is_sick, scores = np.arange(26) < 20, np.r_[sick, normal]
        found = operating_point(is_sick, scores, sensitivity)
        assert found.threshold == threshold
        assert found.specificity.value == np.mean(normal < threshold)  # one at the threshold is called sick
        assert found.sensitivity == np.mean(sick >= threshold) >= sensitivity
        assert found.catches_all == (threshold == 1)

    def test_ties_catch_more_than_wanted(self):
        is_sick = np.arange(12) < 10
        found = operating_point(is_sick, np.r_[np.ones(5), np.full(5, 2.0), 0, 1], 0.6)
        assert (found.threshold, found.sensitivity, found.specificity.value) == (1, 1, 0.5)
        assert not found.catches_all

    @pytest.mark.parametrize("decimals", [8, 1])
    @pytest.mark.parametrize("sensitivity", operating_points.SENSITIVITIES)
    def test_is_on_scikit_learns_curve(self, decimals, sensitivity):
        is_sick, scores = draw(np.random.default_rng(0), 70, 295, 1.5, decimals)
        fall_out, caught, thresholds = roc_curve(is_sick, scores, drop_intermediate=False)
        place = np.flatnonzero(caught >= sensitivity)[0]
        found = operating_point(is_sick, scores, sensitivity)
        assert found.threshold == thresholds[place]
        assert (found.sensitivity, found.specificity.value) == pytest.approx((caught[place], 1 - fall_out[place]))

    @pytest.mark.parametrize(("n_normal", "n_sick", "sensitivity"), [(65, 295, 0.95), (65, 295, 0.99), (35, 35, 0.95)])
    def test_interval_covers_the_truth(self, few_draws, n_normal, n_sick, sensitivity):
        rng = np.random.default_rng(1)
        truth = norm.cdf(2 + norm.ppf(1 - sensitivity))
        found = [operating_point(*draw(rng, n_normal, n_sick, 2), sensitivity).specificity for _ in range(300)]
        assert np.mean([each.low <= truth <= each.high for each in found]) == pytest.approx(0.95, abs=0.04)

    def test_a_known_threshold_would_not_cover(self):
        """The width that the choice of the threshold adds is needed."""
        rng = np.random.default_rng(1)
        truth = norm.cdf(2 + norm.ppf(0.05))
        drawn = [draw(rng, 65, 35, 2) for _ in range(300)]
        found = [rates_at(*each, operating_point(*each, 0.95).threshold).specificity for each in drawn]
        assert np.mean([each.low <= truth <= each.high for each in found]) < 0.85

    def test_opens_to_zero_where_no_sick_image_may_be_missed(self):
        is_sick, scores = draw(np.random.default_rng(0), 35, 35, 2)
        found = operating_point(is_sick, scores, 0.99)
        assert found.catches_all
        assert found.specificity.low == 0 < found.specificity.value < found.specificity.high

    def test_perfect_separation_has_wilsons_interval(self):
        is_sick = np.arange(80) >= 40
        found = operating_point(is_sick, np.arange(80.0), 0.95).specificity
        assert found == pytest.approx((1, *binomtest(40, 40).proportion_ci(0.95, method="wilson")))

    def test_one_normal_image_has_wilsons_interval(self):
        found = operating_point(np.array([False, *20 * [True]]), np.arange(21.0), 0.95).specificity
        assert found == pytest.approx((1, *binomtest(1, 1).proportion_ci(0.95, method="wilson")))

    def test_seed_decides_the_draws(self):
        is_sick, scores = draw(np.random.default_rng(0), 70, 100, 1.5)
        first, again, other = (estimate_average_precision(is_sick, scores, seed) for seed in (0, 0, 1))
        assert first == again != other
        assert operating_point(is_sick, scores, 0.95) == operating_point(is_sick, scores, 0.95)


@pytest.mark.parametrize("sensitivity", [0.0, 1.5, nan])
def test_refuses_a_share_that_is_none(sensitivity):
    with pytest.raises(SettingError, match=r"sensitivity = .*\n  expected: in \(0, 1\]"):
        operating_point(np.array([False, True]), np.array([1.0, 2.0]), sensitivity)


@pytest.mark.parametrize("evaluate", [lambda *data: operating_point(*data, 0.9), estimate_average_precision])
def test_refuses_one_class(evaluate):
    with pytest.raises(ScoreError, match="2 normal and 0 sick images"):
        evaluate(np.array([False, False]), np.array([1.0, 2.0]))


def test_in_parts_the_draws_are_the_same(monkeypatch, few_draws):
    is_sick, scores = draw(np.random.default_rng(0), 30, 11, 1.0)
    whole = operating_point(is_sick, scores, 0.9), estimate_average_precision(is_sick, scores)
    monkeypatch.setattr(operating_points, "_VALUES_AT_ONCE", 1000)
    assert (operating_point(is_sick, scores, 0.9), estimate_average_precision(is_sick, scores)) == whole


def test_rates_of_a_given_threshold():
    is_sick = np.arange(100) >= 40
    sensitivity, specificity = rates_at(is_sick, np.arange(100.0) % 40, 30.0)
    assert sensitivity == pytest.approx((10 / 60, *binomtest(10, 60).proportion_ci(0.95, method="wilson")))
    assert specificity == pytest.approx((30 / 40, *binomtest(30, 40).proportion_ci(0.95, method="wilson")))


class TestAveragePrecision:
    @pytest.mark.parametrize("decimals", [8, 1, 0])
    def test_is_scikit_learns(self, decimals):
        is_sick, scores = draw(np.random.default_rng(0), 70, 295, 1.0, decimals)
        found = estimate_average_precision(is_sick, scores)
        assert found.value == pytest.approx(average_precision_score(is_sick, scores))
        assert found.low < found.value < found.high

    def test_of_many_draws_is_that_of_each(self):
        rng = np.random.default_rng(0)
        normal, sick = rng.integers(4, size=(5, 6)), rng.integers(2, 6, size=(5, 9))
        expected = [average_precision_score(np.arange(15) >= 6, np.r_[pair]) for pair in zip(normal, sick, strict=True)]
        assert operating_points._average_precisions(normal, sick) == pytest.approx(expected)

    def test_interval_covers_the_truth(self, few_draws):
        rng = np.random.default_rng(1)
        truth = average_precision_score(*draw(rng, 200_000, 400_000, 1.0))
        found = [estimate_average_precision(*draw(rng, 50, 100, 1.0)) for _ in range(200)]
        assert np.mean([each.low <= truth <= each.high for each in found]) == pytest.approx(0.95, abs=0.04)

    @pytest.mark.parametrize("is_sick", [[False, False, True, True], [False, True, True, True]])
    def test_no_interval_without_variation_or_with_one_image_of_a_class(self, is_sick):
        found = estimate_average_precision(np.array(is_sick), np.arange(4.0))
        assert found == pytest.approx((1, nan, nan), nan_ok=True)
