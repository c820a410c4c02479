"""Groups of people of a calibration study: counts by hand, patients, and intervals that hold together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from anomalib_cxr.screening.study.groups import count_patients, group_table

RNG = np.random.default_rng(0)
IS_SICK = np.arange(300) >= 200
SCORES = np.round(RNG.normal(IS_SICK * 1.5, 1), 1)  # with ties


@pytest.fixture
def scored():
    """People who differ in nothing yet."""
    return pd.DataFrame({"is_sick": IS_SICK, "score": SCORES, "hospital": "a", "view": "", "sex": "M", "age": np.nan})


def test_rates(scored):
    scored["sex"] = np.where(np.arange(300) % 2, "F", "M")
    table = group_table(scored, 0.5).set_index(["by", "group", "rate"])
    assert len(table) == 4
    women = scored[(scored.sex == "F") & scored.is_sick]
    found = table.loc[("sex", "F", "sensitivity")]
    assert found.value == (women.score >= 0.5).mean()
    right, alpha = int((women.score >= 0.5).sum()), 0.05 / 4  # Clopper and Pearson's, by the beta distribution
    assert found.low == pytest.approx(beta.ppf(alpha / 2, right, 50 - right + 1))
    assert found.high == pytest.approx(beta.ppf(1 - alpha / 2, right + 1, 50 - right))


def test_all_attributes_and_their_combinations(scored):
    number = np.arange(300)
    scored["hospital"] = np.where(number % 2, "north", "south")
    scored["view"] = np.where(number // 2 % 2, "PA", "AP")
    scored["sex"] = np.where(number // 4 % 2, "F", "")
    scored["age"] = np.where(number // 8 % 2, 30.0, 70.0)
    table = group_table(scored, 0.5)
    assert table.groupby("by").group.nunique().to_dict() == {
        "hospital": 2, "view": 2, "sex": 2, "age": 2, "hospital x view x sex x age": 16,
    }  # fmt: skip
    chosen = scored[(number % 16 == 15) & ~scored.is_sick]
    row = table[(table.group == "north x PA x F x 18 to 39 years") & (table.rate == "specificity")]
    assert (row.n.item(), row.value.item()) == (len(chosen), (chosen.score < 0.5).mean())
    assert "unknown" in set(table[table.by == "sex"].group)


def test_intervals_hold_together():
    """Eight groups with the same true rates; one at a time would fail in a third of the draws."""
    failures = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scored = pd.DataFrame({"is_sick": np.arange(320) % 2 == 0, "age": np.nan, "sex": "", "view": "PA"})
        scored["hospital"] = (np.arange(320) // 40).astype(str)
        scored["score"] = np.where(rng.random(320) < 0.9, scored.is_sick, ~scored.is_sick).astype(float)
        table = group_table(scored, 0.5)
        assert len(table) == 16
        failures += not ((table.low <= 0.9) & (table.high >= 0.9)).all()
    assert failures <= 200 * 0.05 + 4 * np.sqrt(200 * 0.05 * 0.95)


def test_small_ones_have_a_number_and_no_rate(scored):
    scored.loc[:8, "sex"] = "F"
    table = group_table(scored, 0.5).set_index(["group", "rate"])
    assert table.loc[("F", "specificity"), "n"] == 9
    assert table.loc[("F", "specificity"), ["value", "low", "high"]].isna().all()
    assert ("F", "sensitivity") not in table.index
    assert table.loc["M"].value.notna().all()


class TestPatients:
    def test_one_by_one(self, scored):
        """Each patient of three images, by a loop."""
        scored["patient"] = np.arange(300) // 3
        found = count_patients(scored)
        expected = []
        for patient in range(100):
            of_patient = scored[scored.patient == patient]
            sick, normal = (of_patient[of_patient.is_sick == label].score for label in (True, False))
            expected += [(False, normal.max())] * bool(len(normal)) + [(True, sick.min())] * bool(len(sick))
        assert sorted(zip(found.is_sick, found.score, strict=True)) == sorted(expected)

    def test_groups_count_them(self, scored):
        scored["patient"] = np.arange(300) // 4  # the same sex in all images of one
        scored["sex"] = np.where(scored.patient % 2, "F", "M")
        table = group_table(scored, 0.5).set_index(["group", "rate"])
        missed = {row.patient for row in scored.itertuples() if row.is_sick and row.sex == "F" and row.score < 0.5}
        row = table.loc[("F", "sensitivity")]
        assert (row.n, row.value) == (12, pytest.approx(1 - len(missed) / 12))

    def test_copies_of_images_change_nothing(self, scored):
        scored["sex"] = np.where(np.arange(300) % 2, "F", "M")
        scored["patient"] = np.arange(300)
        twice = pd.concat([scored, scored], ignore_index=True)
        pd.testing.assert_frame_equal(group_table(twice, 0.5), group_table(scored.drop(columns="patient"), 0.5))
