"""Intervals against closed forms, and what they must do at the ends of the range."""

from __future__ import annotations

import math

import pytest

from anomalib_cxr.evaluation.metrics.intervals import logit_interval, newcombe_interval, wald_interval, wilson_interval

Z = 1.959963984540054


class TestWald:
    def test_is_1_96_standard_errors_to_either_side(self):
        assert wald_interval(0.1, 0.0025) == pytest.approx((0.1 - Z * 0.05, 0.1 + Z * 0.05))

    def test_stays_within_what_is_possible(self):
        assert wald_interval(0.9, 0.04, 2.0, lowest=0.6) == pytest.approx((0.6, 1.0))


class TestLogit:
    def test_closed_form(self):
        value, error = 0.8, 0.05
        ends = [math.log(0.8 / 0.2) + sign * Z * error / 0.16 for sign in (-1, 1)]
        assert logit_interval(value, error**2) == pytest.approx([1 / (1 + math.exp(-end)) for end in ends])

    def test_stays_under_one(self):
        low, high = logit_interval(0.99, 0.01)
        assert 0 < low < 0.99 < high < 1


class TestNewcombe:
    @pytest.mark.parametrize("auroc", [0.0, 1.0])
    def test_one_image_of_each_class_is_wilsons_interval_of_one_trial(self, auroc):
        assert newcombe_interval(auroc, 1, 1) == pytest.approx(wilson_interval(int(auroc), 1), abs=1e-8)

    def test_ends_lie_1_96_of_their_own_standard_errors_off(self):
        n_normal, n_sick = 35, 295
        for end in newcombe_interval(0.85, n_normal, n_sick):
            q1, q2, rest = end / (2 - end), 2 * end**2 / (1 + end), (n_normal + n_sick) / 2 - 1
            # Hanley and McNeil's variance (Radiology 1982), both classes taken to be half of all images.
            variance = (end * (1 - end) + rest * (q1 - end**2) + rest * (q2 - end**2)) / (n_normal * n_sick)
            assert abs(0.85 - end) == pytest.approx(Z * math.sqrt(variance))

    def test_mirrors(self):
        low, high = newcombe_interval(0.8, 20, 30)
        assert newcombe_interval(0.2, 20, 30) == pytest.approx((1 - high, 1 - low))

    def test_perfect_separation_says_less_with_fewer_images(self):
        few, many = newcombe_interval(1.0, 5, 5), newcombe_interval(1.0, 100, 100)
        assert few.high == many.high == 1
        assert 0 < few.low < many.low < 1


def test_wilson_closed_form():
    rate, trials = 0.9, 40
    center = (rate + Z**2 / (2 * trials)) / (1 + Z**2 / trials)
    half = Z / (1 + Z**2 / trials) * math.sqrt(rate * (1 - rate) / trials + Z**2 / (4 * trials**2))
    assert wilson_interval(36, 40) == pytest.approx((center - half, center + half))
