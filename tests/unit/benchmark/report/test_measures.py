"""Metrics against other libraries, and comparisons against a textbook DeLong and Holm's definition."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu, norm
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_cxr.benchmark.report.measures import (
    DISSERTATION,
    HONEST,
    METRIC_COLUMNS,
    compare_systems,
    holm,
    mean_over_runs,
    measure_runs,
    select,
    undirected_auroc,
)
from anomalib_cxr.benchmark.report.results import BEST, LAST, read_results
from anomalib_cxr.evaluation.metrics.exposure_adjusted import ADJUSTED_AUROC, adjusted_auroc
from anomalib_cxr.evaluation.metrics.screening_metrics import (
    AUROC,
    AVERAGE_PRECISION,
    HOSPITAL_AUROC,
    POOLED,
    SPECIFICITIES,
)

from ..folders import drawn_epochs, drawn_exposure, drawn_scores, score_rows

NORMAL, SICK = [1.0, 2.0, 3.0, 4.0], [2.5, 3.5, 4.5, 5.5]  # 13 of the 16 pairs are in order
LABELS = ["normal"] * 4 + ["sick"] * 4


def measured(written):
    return measure_runs(read_results(written.folder))


def row(table, **wanted):
    found = select(table, **wanted)
    assert len(found) == 1, found
    return found.iloc[0]


@pytest.fixture
def drawn():
    return drawn_scores(np.random.default_rng(0), sickness=1.0, confounding=0.5, shifts=("", "noisy"))


@pytest.fixture
def table(benchmark_folder, drawn):
    written = benchmark_folder(["a"])
    written.done("a", drawn, drawn_epochs(np.random.default_rng(0), drawn))
    return measured(written)


class TestHonest:
    @pytest.mark.parametrize("weights", [BEST, LAST])
    @pytest.mark.parametrize("group", [POOLED, "montgomery", "shenzhen"])
    def test_auroc_and_average_precision_are_scikit_learns(self, table, drawn, weights, group):
        part = drawn[(drawn.subset == "test") & (drawn.weights == weights) & (drawn["shift"] == "")]
        part = part if group == POOLED else part[part.source == group]
        place = {"protocol": HONEST, "weights": weights, "shift": "", "group": group}
        is_sick = part.label == "sick"
        assert row(table, metric=AUROC, **place).value == pytest.approx(roc_auc_score(is_sick, part.score))
        assert row(table, metric=AVERAGE_PRECISION, **place).value == pytest.approx(
            average_precision_score(is_sick, part.score)
        )
        assert (row(table, metric=AUROC, **place).n_normal, row(table, metric=AUROC, **place).n_sick) == (
            (~is_sick).sum(),
            is_sick.sum(),
        )

    def test_hand_computed(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", score_rows(LABELS, NORMAL + SICK))
        place = {"protocol": HONEST, "weights": BEST, "group": POOLED}
        assert row(measured(written), metric=AUROC, **place).value == 13 / 16
        # To catch all four sick ones, scores from 2.5 are called: 1.0 and 2.0 are spared.
        for metric in SPECIFICITIES:
            assert row(measured(written), metric=metric, **place).value == 0.5
            assert row(measured(written), metric=metric, **place).note == "no sick image may be missed"

    def test_every_value_lies_in_its_interval(self, table):
        known = table[table.value.notna()]
        assert len(known) > 20
        assert ((known.low <= known.value) & (known.value <= known.high)).all()

    def test_shifts_are_measured_with_the_chosen_weights(self, table, drawn):
        part = drawn[(drawn.weights == BEST) & (drawn["shift"] == "noisy")]
        rows = select(table, shift="noisy", metric=AUROC)
        assert set(rows.weights) == {BEST}
        assert row(rows, group=POOLED).value == pytest.approx(roc_auc_score(part.label == "sick", part.score))

    def test_columns(self, table):
        assert list(table.columns) == METRIC_COLUMNS


class TestTransferred:
    def test_the_threshold_is_that_of_validation(self, benchmark_folder):
        """90 % of four sick validation images are all four: from 2.5 on."""
        validated = score_rows(LABELS, NORMAL + SICK, subset="val")
        tested = score_rows(LABELS, [0.0, 1.0, 2.5, 9.0, 1.0, 2.4, 2.6, 9.0])
        written = benchmark_folder(["a"])
        written.done("a", pd.concat([validated, tested]))
        place = {"protocol": HONEST, "weights": BEST, "group": POOLED}
        assert row(measured(written), metric="transferred_sensitivity_90", **place).value == 0.5
        assert row(measured(written), metric="transferred_specificity_90", **place).value == 0.5

    def test_not_where_test_is_validation(self, benchmark_folder):
        validated = score_rows(LABELS, NORMAL + SICK, subset="val")
        written = benchmark_folder(["a"])
        written.done("a", pd.concat([validated, validated.assign(subset="test")]))
        assert not measured(written).metric.str.startswith("transferred").any()


class TestDissertation:
    def test_is_the_highest_auroc_of_all_epochs(self, table, drawn):
        part = drawn[(drawn.subset == "val") & (drawn.weights == BEST)]
        found = row(table, protocol=DISSERTATION, group=POOLED)
        assert found.value == pytest.approx(roc_auc_score(part.label == "sick", part.score))
        assert (found.n_normal, found.n_sick, found.note) == (34, 34, "")
        assert found.low < found.value < found.high

    def test_epochs_that_contradict_the_scores_are_told(self, benchmark_folder):
        written = benchmark_folder(["a"])
        epochs = pd.DataFrame({"epoch": [0, 1], "val_auroc": [0.7, 0.9]})
        written.done("a", score_rows(LABELS, NORMAL + SICK, subset="val"), epochs)
        found = row(measured(written), protocol=DISSERTATION)
        assert (found.value, found.note) == (0.9, "its scores give 0.8125")
        assert math.isnan(found.low)


class TestHospitals:
    def test_auroc_of_hospital_is_the_mann_whitney_statistic_on_normal_images(self, table, drawn):
        part = drawn[(drawn.subset == "test") & (drawn.weights == BEST) & (drawn["shift"] == "")]
        normal = part[part.label == "normal"]
        first, second = (normal.score[normal.source == source] for source in ("montgomery", "shenzhen"))
        expected = mannwhitneyu(second, first).statistic / (len(first) * len(second))
        found = row(table, metric=HOSPITAL_AUROC, weights=BEST, shift="")
        assert found.group == "shenzhen over montgomery"
        assert found.value == pytest.approx(expected)

    def test_runs_that_tell_them_apart_in_opposite_directions_do_not_cancel(self, benchmark_folder):
        written = benchmark_folder(["a"], seeds=(0, 1))
        rising = np.arange(8.0)
        for seed, scores in enumerate((rising, -rising)):
            written.done("a", score_rows(LABELS, scores, sources=(["east"] * 2 + ["west"] * 2) * 2), seed=seed)
        rows = select(measured(written), metric=HOSPITAL_AUROC, weights=BEST)
        assert rows.value.tolist() == [1.0, 0.0]
        assert mean_over_runs(rows).value == 0.5
        assert mean_over_runs(undirected_auroc(rows)).value == 1.0

    def test_one_hospital_only_has_no_groups(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", score_rows(LABELS, NORMAL + SICK, sources="clinic"))
        assert set(measured(written).group) == {POOLED}

    def test_three_hospitals_are_compared_two_by_two(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", score_rows(LABELS, NORMAL + SICK, sources=["a", "b", "c", "a"] + ["a"] * 4))
        groups = set(select(measured(written), metric=HOSPITAL_AUROC).group)
        assert groups == {"b over a", "c over a", "c over b"}


class TestAdjusted:
    def test_sick_test_images_are_ranked_among_normal_ones_of_test_and_validation(self, benchmark_folder, drawn):
        exposure = drawn_exposure(drawn)
        written = benchmark_folder(["a"])
        written.done("a", drawn, exposure=exposure)
        for weights in (BEST, LAST):
            part = drawn[(drawn.weights == weights) & (drawn["shift"] == "")]
            part = part[(part.subset == "test") | (part.label == "normal")].sort_values("subset", kind="stable")
            expected = adjusted_auroc(
                (part.label == "sick").to_numpy(),
                part.score.to_numpy(),
                exposure.set_index("image").loc[part.image, ["gap", "around", "inside"]].to_numpy(),
                part.source.to_numpy(dtype=str),
            )
            found = row(measured(written), metric=ADJUSTED_AUROC, weights=weights, group=POOLED)
            assert found[["value", "variance"]].tolist() == pytest.approx([expected.value, expected.variance])
            assert (found.n_normal, found.n_sick, found.protocol, found["shift"]) == (56 + 34, 56, HONEST, "")

    def test_images_that_validate_and_test_count_once(self, benchmark_folder):
        tables = [score_rows(LABELS, NORMAL + SICK, subset=subset) for subset in ("val", "test")]
        scores = pd.concat(tables).assign(image=[f"x/{number}.png" for number in range(8)] * 2)
        written = benchmark_folder(["a"])
        exposure = drawn_exposure(scores).assign(gap=0.0, around=0.0, inside=0.0)
        written.done("a", scores, exposure=exposure)
        found = row(measured(written), metric=ADJUSTED_AUROC, weights=BEST)
        assert (found.value, found.n_normal, found.n_sick) == (13 / 16, 4, 4)

    def test_negative_control_is_measured_as_a_score(self, benchmark_folder, drawn):
        """A control that equals the score has its figures."""
        scores = drawn[drawn["shift"] == ""]
        best = scores[scores.weights == BEST].drop_duplicates("image").set_index("image").score
        exposure = drawn_exposure(scores)
        written = benchmark_folder(["a"])
        written.done("a", scores, exposure=exposure.assign(control=exposure.image.map(best)))
        found, place = measured(written), {"protocol": HONEST, "weights": BEST, "shift": ""}
        for metric in (AUROC, ADJUSTED_AUROC):
            for group in (POOLED, "shenzhen"):
                own, control = (row(found, metric=name, group=group, **place) for name in (metric, f"control_{metric}"))
                assert (control.value, control.low, control.high) == pytest.approx((own.value, own.low, own.high))

    def test_not_where_exposure_was_not_measured(self, table):
        assert ADJUSTED_AUROC not in set(table.metric)


class TestObstacles:
    def test_one_class_only_is_said_and_no_metric_invented(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", score_rows(["normal"] * 8, NORMAL + SICK))
        rows = select(measured(written), protocol=HONEST, weights=BEST)
        assert rows.value.isna().all()
        assert set(rows.note) == {"8 normal and 0 sick images: a ROC curve needs both"}

    def test_no_run_at_all(self, benchmark_folder):
        assert measured(benchmark_folder(["a"])).empty


class TestOverRuns:
    def rows(self, values, variances, metric=AUROC):
        return pd.DataFrame({"metric": metric, "value": values, "low": 0.1, "high": 0.9, "variance": variances})

    def test_mean_and_range(self):
        over = mean_over_runs(self.rows([0.7, 0.8, np.nan], [0.001, 0.001, np.nan]))
        assert over.value == pytest.approx(0.75)
        assert (over.smallest, over.largest, over.n_runs) == (0.7, 0.8, 2)

    def test_an_adjusted_auroc_has_an_interval_within_0_and_1_as_auroc_has(self):
        values = [0.97, 0.95], [0.002, 0.002]
        plain, adjusted = (mean_over_runs(self.rows(*values, metric)) for metric in (AUROC, ADJUSTED_AUROC))
        assert adjusted == plain
        assert adjusted.high < 1

    def test_runs_that_agree_have_the_interval_of_their_images(self):
        over = mean_over_runs(self.rows([0.5, 0.5], [0.01, 0.01], "average_precision"))
        assert (over.low, over.high) == pytest.approx((0.5 - 0.196, 0.5 + 0.196), abs=1e-4)

    def test_runs_that_differ_widen_it(self):
        alike, apart = (mean_over_runs(self.rows(values, [0.001] * 3)) for values in ([0.7] * 3, [0.6, 0.7, 0.8]))
        assert apart.low < alike.low < alike.high < apart.high

    def test_a_single_run_keeps_its_own_interval(self):
        over = mean_over_runs(self.rows([0.5], [0.01]))
        assert (over.low, over.high) == (0.1, 0.9)

    def test_a_share_stays_between_0_and_1(self):
        over = mean_over_runs(self.rows([0.02, 0.04], [0.01, 0.01], "specificity_at_95"))
        assert over.low == 0.0
        assert over.high < 0.5

    def test_a_run_without_a_variance_leaves_no_interval(self):
        assert math.isnan(mean_over_runs(self.rows([0.5, 1.0], [0.01, np.nan], AVERAGE_PRECISION)).low)

    def test_no_figure_at_all(self):
        assert mean_over_runs(self.rows([np.nan], [np.nan])) is None


PAIR_LABELS = ["normal"] * 30 + ["sick"] * 25


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
    return select(compare_systems(read_results(written.folder)), weights=BEST, shift="", **wanted)


def two_scores(seed):
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 1, len(PAIR_LABELS)) + (np.array(PAIR_LABELS) == "sick")
    return common, common + rng.normal(0, 1.5, len(PAIR_LABELS))


class TestCompareSystems:
    def test_one_run_is_the_textbook_test(self, benchmark_folder):
        first, second = two_scores(0)
        written = benchmark_folder(["a", "b"])
        written.done("a", score_rows(PAIR_LABELS, first))
        written.done("b", score_rows(PAIR_LABELS, second))
        (row,) = compared(written).itertuples()
        difference, variance, p = textbook_delong(PAIR_LABELS, first, second)
        assert (row.first, row.second, row.n_runs) == ("a", "b", 1)
        assert (row.difference, row.p, row.p_holm) == pytest.approx((difference, p, p))
        assert row.high - row.low == pytest.approx(2 * norm.ppf(0.975) * math.sqrt(variance))

    def test_several_runs_are_joined_by_rubins_rules(self, benchmark_folder):
        written = benchmark_folder(["a", "b"], seeds=(0, 1, 2))
        found = []
        for seed in (0, 1, 2):
            first, second = two_scores(seed)
            written.done("a", score_rows(PAIR_LABELS, first), seed=seed)
            written.done("b", score_rows(PAIR_LABELS, second), seed=seed)
            found.append(textbook_delong(PAIR_LABELS, first, second)[:2])
        (row,) = compared(written).itertuples()
        differences, variances = np.array(found).T
        total = variances.mean() + (1 + 1 / 3) * differences.var(ddof=1)
        assert (row.n_runs, row.difference) == (3, pytest.approx(differences.mean()))
        # The t distribution is wider than the normal one.
        assert row.high - row.low > 2 * norm.ppf(0.975) * math.sqrt(total)

    def test_order_of_the_images_does_not_matter(self, benchmark_folder):
        first, second = two_scores(0)
        written = benchmark_folder(["a", "b"])
        written.done("a", score_rows(PAIR_LABELS, first))
        written.done("b", score_rows(PAIR_LABELS, second).sample(frac=1, random_state=0))
        (row,) = compared(written).itertuples()
        assert row.p == pytest.approx(textbook_delong(PAIR_LABELS, first, second)[2])

    def test_the_same_scores_do_not_differ(self, benchmark_folder):
        first, _ = two_scores(0)
        written = benchmark_folder(["a", "b"])
        written.done("a", score_rows(PAIR_LABELS, first))
        written.done("b", score_rows(PAIR_LABELS, first))
        (row,) = compared(written).itertuples()
        assert (row.difference, row.p) == (0.0, 1.0)

    def test_only_runs_that_both_have(self, benchmark_folder):
        written = benchmark_folder(["a", "b"], seeds=(0, 1))
        first, second = two_scores(0)
        for seed in (0, 1):
            written.done("a", score_rows(PAIR_LABELS, first + seed), seed=seed)
        written.done("b", score_rows(PAIR_LABELS, second), seed=1)
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


class TestObstaclesToComparisons:
    @pytest.mark.parametrize(
        ("other", "note"),
        [
            (score_rows(PAIR_LABELS[:-1], np.arange(54.0)), "not the same test images"),
            (score_rows(PAIR_LABELS[::-1], np.arange(55.0)), "not the same test images"),
        ],
    )
    def test_other_images(self, benchmark_folder, other, note):
        written = benchmark_folder(["a", "b"])
        written.done("a", score_rows(PAIR_LABELS, np.arange(55.0)))
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
        written.done("a", score_rows(PAIR_LABELS, np.arange(55.0)), seed=0)
        written.done("b", score_rows(PAIR_LABELS, np.arange(55.0)), seed=1)
        (row,) = compared(written).itertuples()
        assert (row.n_runs, row.note) == (0, "no run of the same split and seed")

    def test_one_system_has_nobody_to_compare_with(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", score_rows(PAIR_LABELS, np.arange(55.0)))
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
