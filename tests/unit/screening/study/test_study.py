"""Calibration study against counts by hand, the binomial distribution, and what a browser gets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from anomalib_cxr.errors import SettingError
from anomalib_cxr.screening.calibration.probability import fit_probability, reliability
from anomalib_cxr.screening.study.questions import (
    MISSES,
    reliability_at,
    sick_images_needed,
    who_target,
)
from anomalib_cxr.screening.study.report import roc_figure
from anomalib_cxr.screening.study.thresholds import Place, threshold_table

RNG = np.random.default_rng(0)
IS_SICK = np.arange(300) >= 200
SCORES = np.round(RNG.normal(IS_SICK * 1.5, 1), 1)  # with ties


class TestThresholds:
    def test_counts_in_a_thousand_people(self):
        """A population of the place's prevalence, counted."""
        table = threshold_table(IS_SICK, SCORES, Place(0.1, cost_screened=2, cost_read=5))
        for row in table.iloc[:-1].itertuples():
            read_sick, read_normal = (
                1000 * share * (SCORES[chosen] >= row.threshold).mean()
                for share, chosen in ((0.1, IS_SICK), (0.9, ~IS_SICK))
            )
            assert row.read_per_1000 == pytest.approx(read_sick + read_normal)
            assert row.missed_per_1000 == pytest.approx(100 - read_sick)
            assert row.ppv == pytest.approx(read_sick / (read_sick + read_normal))
            if read_sick + read_normal < 1000:
                assert row.npv == pytest.approx((900 - read_normal) / (1000 - read_sick - read_normal))
            assert row.cost_per_case == pytest.approx((2000 + 5 * (read_sick + read_normal)) / read_sick)

    def test_both_ends(self):
        table = threshold_table(IS_SICK, SCORES, Place(0.1))
        first, last = table.iloc[0], table.iloc[-1]
        assert (first.sensitivity, first.specificity, first.read_per_1000) == (1, 0, 1000)
        assert (last.sensitivity, last.specificity, last.missed_per_1000) == (0, 1, 100)
        assert np.isnan([first.npv, last.ppv, last.cost_per_case]).all()
        assert table.threshold.is_monotonic_increasing

    def test_bands_hold_together(self):
        """The true curve of normal scores is inside of both bands, at all thresholds, in 95 % of the draws."""
        outside = 0
        for seed in range(200):
            rng = np.random.default_rng(seed)
            table = threshold_table(np.arange(60) >= 30, np.r_[rng.random(30), rng.random(30)], Place(0.1))
            truth = table.threshold.clip(0, 1)
            held = ((table.specificity_low <= truth) & (truth <= table.specificity_high)).all()
            held &= ((table.sensitivity_low <= 1 - truth) & (1 - truth <= table.sensitivity_high)).all()
            outside += not held
        assert outside <= 200 * 0.05 + 4 * np.sqrt(200 * 0.05 * 0.95)

    @pytest.mark.parametrize("wrong", [{"prevalence": 0}, {"prevalence": 0.1, "cost_read": -1}])
    def test_refused(self, wrong):
        with pytest.raises(SettingError, match=f"{list(wrong)[-1]} = "):
            Place(**wrong)


@pytest.mark.parametrize(("gap", "verdict"), [(4.0, "met"), (1.82, "open"), (0.0, "not met")])
def test_target(gap, verdict):
    rng = np.random.default_rng(1)
    found = who_target(IS_SICK, rng.normal(IS_SICK * gap, 1))
    assert found.verdict == verdict
    assert found.sensitivity >= 0.9


def test_sick_images_needed():
    """With one fewer, so many misses would be too likely at this sensitivity."""
    for row in sick_images_needed((0.9, 0.99), 0.95).itertuples():
        assert binom.cdf(row.missed, row.needed, 1 - row.sensitivity) <= 0.05 + 1e-9
        assert binom.cdf(row.missed, row.needed - 1, 1 - row.sensitivity) > 0.05
    assert len(sick_images_needed((0.9,), 0.95)) == len(MISSES)


def test_reliability_is_that_of_weighted_images():
    scores = 1 / (1 + np.exp(-SCORES))
    bins, curve = reliability(IS_SICK, scores), fit_probability(IS_SICK, scores, 0.05)
    table = reliability_at(bins, curve.share, 0.05)
    for row, part in zip(table.itertuples(), bins, strict=True):
        n_sick = round(part.observed * part.n)
        sick, normal = 0.05 * n_sick / 100, 0.95 * (part.n - n_sick) / 200  # weights of the place
        assert row.observed == pytest.approx(sick / (sick + normal))


def test_figure():
    (axes,) = roc_figure(threshold_table(IS_SICK, SCORES, Place(0.1))).axes
    assert axes.get_ylabel() == "sensitivity"
    assert len(axes.lines) == 4
