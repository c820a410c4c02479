"""Figures of a benchmark: that they show the numbers they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import auc, roc_auc_score

from anomalib_cxr.benchmark.report.panels import curves_of
from anomalib_cxr.benchmark.report.plots import (
    EDGES,
    auroc_panels,
    histogram_panels,
    loss_panels,
    losses_of,
    mean_roc,
    roc_panels,
)
from anomalib_cxr.benchmark.report.results import read_results

from ..folders import drawn_epochs, drawn_scores, score_rows

LABELS = ["normal"] * 4 + ["sick"] * 4


def panels(figure):
    return {panel.get_title(): panel for panel in figure.axes if panel.axison}


def line(panel, label):
    return next(each for each in panel.lines if str(each.get_label()).startswith(label))


@pytest.fixture
def results(benchmark_folder):
    """Two systems with two runs each, of which the second has a single epoch."""
    written = benchmark_folder(["a", "b"], seeds=(0, 1))
    for seed in (0, 1):
        for system, count in (("a", 6), ("b", 1)):
            rng = np.random.default_rng([seed, count])
            scores = drawn_scores(rng, 1.0)
            written.done(system, scores, drawn_epochs(rng, scores, count, ("l_gen",)), seed=seed)
    return read_results(written.folder)


class TestMeanRoc:
    def test_area_of_one_run_is_its_auroc(self):
        rng = np.random.default_rng(0)
        table = score_rows(["normal"] * 100 + ["sick"] * 80, np.r_[rng.normal(0, 1, 100), rng.normal(1, 1, 80)])
        curves = mean_roc([table])
        assert auc(curves.grid, curves.mean) == pytest.approx(
            roc_auc_score(table.label == "sick", table.score), abs=0.001
        )

    def test_is_the_mean_of_the_sensitivities_at_each_fall_out(self):
        perfect = score_rows(LABELS, np.arange(8.0))
        useless = score_rows(LABELS, np.ones(8))
        curves = mean_roc([perfect, useless])
        assert curves.mean[1:] == pytest.approx((1 + curves.grid[1:]) / 2)
        low, high = curves.range
        assert low[1:] == pytest.approx(curves.grid[1:])
        assert high[1:] == pytest.approx(np.ones(101))

    def test_runs_without_both_classes_are_left_out(self):
        assert mean_roc([score_rows(["sick"] * 3, [1.0, 2.0, 3.0])]) is None


class TestCurvesOf:
    def test_runs_of_different_length(self):
        tables = [
            pd.DataFrame({"epoch": [0, 1, 2], "l": [3.0, 2.0, np.inf]}),
            pd.DataFrame({"epoch": [0, 2], "l": [1.0, 5.0]}),
            pd.DataFrame({"epoch": [0], "other": [1.0]}),
        ]
        curves = curves_of(tables, "l")
        assert curves.grid.tolist() == [0, 1, 2]
        assert curves.mean.tolist() == [2.0, 2.0, 5.0]
        assert [edge.tolist() for edge in curves.range] == [[1.0, 2.0, 5.0], [3.0, 2.0, 5.0]]


class TestRocPanels:
    def test_legend_tells_mean_auroc_of_all_and_of_each_hospital(self, results):
        tables = [each.part("test", "best") for each in results.of("xrays", "a")]
        panel = panels(roc_panels(results, "xrays"))["a"]
        for name in ("pooled", "montgomery", "shenzhen"):
            parts = [table if name == "pooled" else table[table.source == name] for table in tables]
            mean = np.mean([roc_auc_score(part.label == "sick", part.score) for part in parts])
            assert line(panel, name).get_label() == f"{name} {mean:.2f}"

    def test_hospitals_differ_in_color_and_in_line(self, results):
        panel = panels(roc_panels(results, "xrays"))["a"]
        looks = [
            (line(panel, name).get_color(), line(panel, name).get_linestyle()) for name in ("mont", "shen", "pooled")
        ]
        assert len({color for color, _ in looks}) == len({style for _, style in looks}) == 3

    def test_a_band_shows_the_range(self, results):
        assert len(panels(roc_panels(results, "xrays"))["a"].collections) == 1


class TestAurocPanels:
    def test_mean_over_runs_and_the_chosen_epochs(self, results):
        panel = panels(auroc_panels(results, "xrays"))["a"]
        tables = [each.epochs.val_auroc for each in results.of("xrays", "a")]
        assert panel.lines[1].get_ydata() == pytest.approx(np.mean(tables, axis=0))
        assert list(panel.lines[2].get_xdata()) == [table.idxmax() for table in tables]

    def test_a_single_epoch_is_a_dot_with_its_range(self, results):
        panel = panels(auroc_panels(results, "xrays"))["b"]
        assert panel.lines[1].get_marker() == "o"
        assert panel.get_xlim() == (-0.5, 0.5)

    def test_a_system_that_measured_no_epoch_says_so(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", score_rows(LABELS, np.arange(8.0)), pd.DataFrame({"epoch": [0], "l": [1.0]}))
        panel = panels(auroc_panels(read_results(written.folder), "xrays"))["a"]
        assert [text.get_text() for text in panel.texts] == ["no AUROC by epoch"]


class TestLossPanels:
    def test_a_panel_a_term_of_any_run(self, benchmark_folder):
        written = benchmark_folder(["a"], seeds=(0, 1))
        logged = [{"l_gen": [2.0, 1.0], "never": [np.nan] * 2}, {"l_gen": [4.0, 3.0], "l_dc": [1.0, 1.0]}]
        for seed, columns in enumerate(logged):
            epochs = pd.DataFrame({"epoch": [0, 1], "val_auroc": [0.5, 0.6], **columns})
            written.done("a", score_rows(LABELS, np.arange(8.0)), epochs, seed=seed)
        outcomes = read_results(written.folder).of("xrays", "a")
        assert losses_of(outcomes) == ["l_gen", "l_dc"]
        drawn = panels(loss_panels(outcomes))
        assert list(drawn) == ["l_gen", "l_dc"]
        assert list(drawn["l_gen"].lines[0].get_ydata()) == [3.0, 2.0]

    def test_a_single_epoch_logged_nothing(self, results):
        assert losses_of(results.of("xrays", "a")) == ["l_gen"]


class TestHistogramPanels:
    def test_a_panel_for_each_system_and_hospital(self, results):
        assert list(panels(histogram_panels(results, "xrays"))) == [
            "a, montgomery", "a, shenzhen", "b, montgomery", "b, shenzhen",
        ]  # fmt: skip

    def test_shares_add_up_and_what_lies_beyond_is_counted_at_the_ends(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", score_rows(LABELS, [-1.0, 1.0, -1.0, 1.0, 0.0, 0.0, 0.0, 1000.0]))
        panel = panels(histogram_panels(read_results(written.folder), "xrays"))["a, clinic"]
        heights = panel.patches[1].get_xy()  # the line around the bins of the sick ones
        assert heights[:, 0].max() == pytest.approx(EDGES[-1])
        assert heights[np.isclose(heights[:, 0], EDGES[-1]), 1].max() == pytest.approx(0.25)
        assert heights[:, 1].max() == pytest.approx(0.75)

    def test_scores_without_any_spread_say_so(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", score_rows(LABELS, [1.0] * 8))
        (panel,) = panels(histogram_panels(read_results(written.folder), "xrays")).values()
        assert [text.get_text() for text in panel.texts] == ["no scores that can be scaled"]
