"""Statistics of drift against SciPy and definitions."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from anomalib_cxr.screening.monitoring.statistics import (
    WeightedSample,
    best_prevalence,
    holm,
    ks_test,
    stability_index,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def equal(values):
    return WeightedSample(np.sort(values), np.full(len(values), 1 / len(values)))


class TestKs:
    @pytest.mark.parametrize("shift", [0.0, 0.2, 1.0])
    @pytest.mark.parametrize(("m", "n"), [(60, 50), (400, 90), (30, 2000)])
    @pytest.mark.parametrize("digits", [8, 1])  # 1: many equal values
    def test_with_equal_weights_is_that_of_scipy(self, rng, shift, m, n, digits):
        reference, values = rng.normal(0, 1, m).round(digits), rng.normal(shift, 1, n).round(digits)
        expected = ks_2samp(reference, values, method="asymp")
        found = ks_test(equal(reference), values)
        assert found.distance == pytest.approx(expected.statistic, abs=1e-12)
        assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-300)

    def test_a_weighted_distance_is_that_of_repeated_values(self, rng):
        """An image of weight 3 stands for three of weight 1."""
        values, found = rng.normal(0, 1, 40), rng.normal(0.3, 1, 80)
        repeats = rng.integers(1, 5, 40)
        order = np.argsort(values)
        weighted = WeightedSample(values[order], repeats[order] / repeats.sum())
        assert ks_test(weighted, found).distance == pytest.approx(
            ks_2samp(np.repeat(values, repeats), found).statistic, abs=1e-12
        )

    @pytest.mark.parametrize("prevalence", [0.05, 0.5])
    def test_null_p_values_are_at_most_uniform(self, rng, prevalence):
        """Reference half sick, X-rays at the prevalence: by weights they are of one distribution."""
        p_values = []
        for _ in range(400):
            is_sick = np.arange(200) >= 100
            reference = WeightedSample.at_prevalence(rng.normal(0, 1, 200) + 2 * is_sick, is_sick, prevalence)
            p_values.append(ks_test(reference, rng.normal(0, 1, 150) + 2 * (rng.random(150) < prevalence)).p_value)
        for rate in (0.01, 0.05, 0.2, 0.5):
            assert np.mean(np.array(p_values) <= rate) <= rate + 3 * np.sqrt(rate * (1 - rate) / 400)

    def test_without_weights_the_case_mix_is_drift(self, rng):
        """The control of the test above: half sick against 5 % differ, unless weighted."""
        is_sick = np.arange(200) >= 100
        values, found = rng.normal(0, 1, 200) + 2 * is_sick, rng.normal(0, 1, 150) + 2 * (rng.random(150) < 0.05)
        assert ks_test(equal(values), found).p_value < 1e-6
        assert ks_test(WeightedSample.at_prevalence(values, is_sick, 0.05), found).p_value > 0.01


class TestStabilityIndex:
    def test_is_its_definition(self, rng):
        values, found = rng.normal(0, 1, 500), rng.normal(0.5, 1, 400)
        edges = np.sort(values)[49:450:50]
        p, q = (np.bincount(np.searchsorted(edges, part), minlength=10) + 0.5 for part in (values, found))
        p, q = p / p.sum(), q / q.sum()
        assert stability_index(equal(values), found) == pytest.approx(((q - p) * np.log(q / p)).sum())

    def test_grows_with_the_difference(self, rng):
        values, found = rng.normal(0, 1, 2000), rng.normal(0, 1, 2000)
        indexes = [stability_index(equal(values), found + shift) for shift in (0, 0.3, 1, 3)]
        assert indexes == sorted(indexes)
        assert indexes[0] < 0.03
        assert indexes[2] > 0.25

    def test_of_equal_values_is_finite(self):
        assert stability_index(equal(np.zeros(50)), np.zeros(30)) == pytest.approx(0, abs=0.05)
        assert np.isfinite(stability_index(equal(np.zeros(50)), np.ones(30)))


class TestHolm:
    @pytest.mark.parametrize("seed", range(5))
    def test_is_the_closed_test_of_bonferroni(self, seed):
        """A hypothesis is rejected if each set that holds it is, by its least p-value times its size."""
        p_values = np.random.default_rng(seed).random(6) ** 3
        everyone = range(len(p_values))
        sets = [part for size in range(1, 7) for part in combinations(everyone, size)]
        closed = [
            max(min(1, len(part) * min(p_values[list(part)])) for part in sets if place in part) for place in everyone
        ]
        assert holm(p_values) == pytest.approx(closed)

    def test_of_none(self):
        assert holm([]) == []


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.9])
def test_best_prevalence(rng, share):
    is_sick = np.arange(2000) >= 1000
    values = rng.normal(0, 1, 2000) + 2 * is_sick
    found = rng.normal(0, 1, 4000) + 2 * (np.arange(4000) < 4000 * share)
    fitted, distance = best_prevalence(values, is_sick, found)
    assert fitted == pytest.approx(share, abs=0.04)
    assert distance < 0.05
