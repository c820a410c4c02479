"""p-values by counting and by simulation; probabilities against Bayes' rule."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

from anomalib_cxr.screening.calibration.probability import fit_probability, p_values, reliability


class TestPValues:
    def test_counted_one_by_one(self):
        rng = np.random.default_rng(0)
        healthy, scores = rng.random(50).round(1), rng.random(200).round(1)  # with ties
        expected = [(1 + sum(other >= score for other in healthy)) / 51 for score in scores]
        assert p_values(scores, healthy).tolist() == pytest.approx(expected)

    @pytest.mark.parametrize("m", [9, 40])
    def test_of_an_exchangeable_image(self, m):
        """P(p <= a) <= a for each a, and it is that where a is a multiple of 1 / (m + 1)."""
        repeats = 20_000
        draws = np.random.default_rng(m).random((repeats, m + 1))
        found = 1 + (draws[:, 1:] >= draws[:, :1]).sum(axis=1)  # by counting; the function agrees with it on some
        some = [p_values(draw[:1], draw[1:])[0] for draw in draws[:500]]
        assert some == pytest.approx((found[:500] / (m + 1)).tolist())
        for rank in range(1, m + 2):
            level = rank / (m + 1)
            assert (found <= rank).mean() == pytest.approx(level, abs=4 * np.sqrt(0.25 / repeats))

    def test_ties_make_them_larger_only(self):
        draws = np.random.default_rng(1).random((5000, 21)).round(1)
        found = np.array([p_values(draw[:1], draw[1:])[0] for draw in draws])
        for level in (0.05, 0.1, 0.5):
            assert (found <= level).mean() <= level + 3 * np.sqrt(level / 5000)

    def test_none_is_zero(self):
        assert p_values(np.array([0.0, 2.0]), np.linspace(0, 1, 9)).tolist() == [1.0, 0.1]


@pytest.fixture(scope="module")
def gaussians():
    """Scores of two normal distributions with one width, whose log odds are a line."""
    rng = np.random.default_rng(0)
    is_sick = rng.random(40_000) < 0.3
    return is_sick, rng.normal(np.where(is_sick, 0.55, 0.4), 0.1)


class TestProbability:
    @pytest.mark.parametrize("prevalence", [0.02, 0.3, 0.8])
    def test_is_that_of_bayes(self, gaussians, prevalence):
        scores = np.linspace(0.2, 0.8, 13)
        sick, healthy = prevalence * norm.pdf(scores, 0.55, 0.1), (1 - prevalence) * norm.pdf(scores, 0.4, 0.1)
        expected = logit(sick / (sick + healthy))
        found = fit_probability(*gaussians, prevalence)(scores)
        np.testing.assert_allclose(logit(found), expected, atol=0.15)  # 15 % of the odds, where they span e^9

    def test_prevalence_moves_the_odds(self, gaussians):
        scores = np.linspace(0, 1, 11)
        low, high = (fit_probability(*gaussians, prevalence) for prevalence in (0.01, 0.2))
        np.testing.assert_allclose(logit(high(scores)) - logit(low(scores)), logit(0.2) - logit(0.01), rtol=1e-9)

    def test_classes_that_do_not_overlap(self):
        curve = fit_probability(np.arange(40) >= 20, np.linspace(0, 1, 40), 0.5)
        found = curve(np.array([0.0, 0.5, 1.0]))
        assert np.isfinite(found).all()
        assert found[0] < 0.05 < found[1] < 0.95 < found[2]

    def test_never_falls_with_the_score(self):
        """Of curves that do not fall, the constant one is the most likely for scores that are upside down."""
        is_sick = np.arange(100) < 30
        curve = fit_probability(is_sick, np.linspace(0, 1, 100), 0.05)
        np.testing.assert_allclose(curve(np.array([0.0, 0.4, 1.0])), 0.05)


class TestReliability:
    def test_true_probabilities_are_in_the_intervals(self):
        rng = np.random.default_rng(2)
        scores = rng.random(3000)
        is_sick = rng.random(3000) < expit(6 * scores - 3)
        bins = reliability(is_sick, scores)
        assert len(bins) == 10
        assert sum(each.n for each in bins) == 3000
        assert all(each.low <= each.observed <= each.high for each in bins)
        assert [each.predicted for each in bins] == sorted(each.predicted for each in bins)
        assert sum(each.low <= each.predicted <= each.high for each in bins) >= 8  # of 95 % intervals

    def test_what_a_line_cannot_fit_is_seen(self):
        scores = np.linspace(0, 1, 2000)
        bins = reliability(np.abs(scores - 0.5) > 0.3, scores)  # sick at both ends
        assert sum(each.low <= each.predicted <= each.high for each in bins) <= 2

    @pytest.mark.parametrize(("n", "n_bins"), [(12, 1), (35, 3), (99, 9), (1000, 10)])
    def test_bins_of_ten_at_least(self, n, n_bins):
        bins = reliability(np.arange(n) % 2 == 0, np.linspace(0, 1, n))
        assert len(bins) == n_bins
        assert sum(each.n for each in bins) == n
        assert min(each.n for each in bins) >= min(n, 10)

    @pytest.mark.parametrize("n_sick", [0, 4])
    def test_too_few_for_a_curve(self, n_sick):
        assert reliability(np.arange(100) < n_sick, np.linspace(0, 1, 100)) == []
