"""Paired comparisons against a textbook DeLong, and Holm's correction against its definition."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from anomalib_cxr.benchmark.report.comparisons import compare_systems, holm
from anomalib_cxr.benchmark.report.measures import pick
from anomalib_cxr.benchmark.report.results import BEST, read_results

from ..folders import drawn_scores, score_rows

LABELS = ["normal"] * 30 + ["sick"] * 25


def textbook_delong(labels, first, second):
    """Difference, variance and p, pair by pair of images, as the paper has it."""
    sick = np.array(labels) == "sick"
    placements = []
    for scores in (np.array(first), np.array(second)):
        kernel = (scores[sick][:, None] > scores[~sick]) + 0.5 * (scores[sick][:, None] == scores[~sick])
        placements.append((kernel.mean(axis=1), kernel.mean(axis=0)))
    by_sick, by_normal = (placements[0][side] - placements[1][side] for side in (0, 1))
    variance = by_sick.var(ddof=1) / len(by_sick) + by_normal.var(ddof=1) / len(by_normal)
    difference = by_sick.mean()
    return difference, variance, 2 * norm.sf(abs(difference) / math.sqrt(variance))


def compared(written, **wanted):
    return pick(compare_systems(read_results(written.folder)), weights=BEST, shift="", **wanted)


def two_scores(seed):
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 1, len(LABELS)) + (np.array(LABELS) == "sick")
    return common, common + rng.normal(0, 1.5, len(LABELS))


class TestPairs:
    def test_one_run_is_the_textbook_test(self, benchmark_folder):
        first, second = two_scores(0)
        written = benchmark_folder(["a", "b"])
        written.done("a", score_rows(LABELS, first))
        written.done("b", score_rows(LABELS, second))
        (row,) = compared(written).itertuples()
        difference, variance, p = textbook_delong(LABELS, first, second)
        assert (row.first, row.second, row.n_runs) == ("a", "b", 1)
        assert (row.difference, row.p, row.p_holm) == pytest.approx((difference, p, p))
        assert row.high - row.low == pytest.approx(2 * norm.ppf(0.975) * math.sqrt(variance))

    def test_several_runs_are_joined_by_rubins_rules(self, benchmark_folder):
        written = benchmark_folder(["a", "b"], seeds=(0, 1, 2))
        found = []
        for seed in (0, 1, 2):
            first, second = two_scores(seed)
            written.done("a", score_rows(LABELS, first), seed=seed)
            written.done("b", score_rows(LABELS, second), seed=seed)
            found.append(textbook_delong(LABELS, first, second)[:2])
        (row,) = compared(written).itertuples()
        differences, variances = np.array(found).T
        total = variances.mean() + (1 + 1 / 3) * differences.var(ddof=1)
        assert (row.n_runs, row.difference) == (3, pytest.approx(differences.mean()))
        # The t distribution is wider than the normal one.
        assert row.high - row.low > 2 * norm.ppf(0.975) * math.sqrt(total)

    def test_order_of_the_images_does_not_matter(self, benchmark_folder):
        first, second = two_scores(0)
        written = benchmark_folder(["a", "b"])
        written.done("a", score_rows(LABELS, first))
        written.done("b", score_rows(LABELS, second).sample(frac=1, random_state=0))
        (row,) = compared(written).itertuples()
        assert row.p == pytest.approx(textbook_delong(LABELS, first, second)[2])

    def test_the_same_scores_do_not_differ(self, benchmark_folder):
        first, _ = two_scores(0)
        written = benchmark_folder(["a", "b"])
        written.done("a", score_rows(LABELS, first))
        written.done("b", score_rows(LABELS, first))
        (row,) = compared(written).itertuples()
        assert (row.difference, row.p) == (0.0, 1.0)

    def test_only_runs_that_both_have(self, benchmark_folder):
        written = benchmark_folder(["a", "b"], seeds=(0, 1))
        first, second = two_scores(0)
        for seed in (0, 1):
            written.done("a", score_rows(LABELS, first + seed), seed=seed)
        written.done("b", score_rows(LABELS, second), seed=1)
        (row,) = compared(written).itertuples()
        assert row.n_runs == 1

    def test_each_shift_is_compared_by_itself(self, benchmark_folder):
        written = benchmark_folder(["a", "b", "c"])
        for seed, system in enumerate("abc"):
            written.done(system, drawn_scores(np.random.default_rng(seed), 1.0, shifts=("", "noisy")))
        table = compare_systems(read_results(written.folder))
        assert table.groupby(["weights", "shift"]).size().to_dict() == {
            ("best", ""): 3, ("best", "noisy"): 3, ("last", ""): 3,
        }  # fmt: skip


class TestObstacles:
    @pytest.mark.parametrize(
        ("other", "note"),
        [
            (score_rows(LABELS[:-1], np.arange(54.0)), "not the same test images"),
            (score_rows(LABELS[::-1], np.arange(55.0)), "not the same test images"),
        ],
    )
    def test_other_images(self, benchmark_folder, other, note):
        written = benchmark_folder(["a", "b"])
        written.done("a", score_rows(LABELS, np.arange(55.0)))
        written.done("b", other)
        (row,) = compared(written).itertuples()
        assert (row.n_runs, row.note) == (0, note)
        assert math.isnan(row.p)

    @pytest.mark.parametrize(
        ("labels", "note"),
        [
            (["normal"] * 3, "3 normal and 0 sick images: a ROC curve needs both"),
            (["normal"] * 3 + ["sick"], "a class with a single image"),
        ],
    )
    def test_too_few_images(self, benchmark_folder, labels, note):
        written = benchmark_folder(["a", "b"])
        for system in "ab":
            written.done(system, score_rows(labels, np.arange(float(len(labels)))))
        (row,) = compared(written).itertuples()
        assert (row.n_runs, row.note) == (0, note)

    def test_no_run_in_common(self, benchmark_folder):
        written = benchmark_folder(["a", "b"], seeds=(0, 1))
        written.done("a", score_rows(LABELS, np.arange(55.0)), seed=0)
        written.done("b", score_rows(LABELS, np.arange(55.0)), seed=1)
        (row,) = compared(written).itertuples()
        assert (row.n_runs, row.note) == (0, "no run of the same split and seed")

    def test_one_system_has_nobody_to_compare_with(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", score_rows(LABELS, np.arange(55.0)))
        assert compared(written).empty


class TestHolm:
    def test_rejects_just_what_the_step_down_procedure_rejects(self):
        rng = np.random.default_rng(0)
        for _ in range(50):
            p = rng.uniform(0, 0.1, 8)
            rejected, left = set(), len(p)
            for place in np.argsort(p):  # Holm's own words: go on until the first that is not rejected
                if p[place] > 0.05 / left:
                    break
                rejected.add(place)
                left -= 1
            assert set(np.flatnonzero(holm(p) <= 0.05)) == rejected

    def test_never_over_one_and_never_under_what_it_was(self):
        p = np.array([0.9, 0.5, 0.001])
        assert (holm(p) >= p).all()
        assert holm(p).max() == 1.0

    def test_missing_tests_count_for_nothing(self):
        assert holm(np.array([np.nan, 0.02])).tolist() == pytest.approx([np.nan, 0.02], nan_ok=True)
        assert holm(np.array([])).size == 0


def test_table_has_its_columns_without_any_run(benchmark_folder):
    table = compare_systems(read_results(benchmark_folder(["a", "b"]).folder))
    assert isinstance(table, pd.DataFrame)
    assert table.empty
