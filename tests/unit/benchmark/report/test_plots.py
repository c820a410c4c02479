"""Figures of a benchmark: that they show the numbers they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from anomalib_cxr.benchmark.report.curves import loss_curves
from anomalib_cxr.benchmark.report.measures import RunMean, measure_runs
from anomalib_cxr.benchmark.report.plots import (
    BIN_EDGES,
    plot_auroc,
    plot_histograms,
    plot_losses,
    plot_noise,
    plot_roc,
    plot_validation_auroc,
)
from anomalib_cxr.benchmark.report.results import NoiseLevel, read_results

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


class TestRocPanels:
    def test_legend_tells_mean_auroc_of_all_and_of_each_hospital(self, results):
        tables = [each.select("test", "best") for each in results.of("xrays", "a")]
        panel = panels(plot_roc(results, "xrays"))["a"]
        for name in ("pooled", "montgomery", "shenzhen"):
            parts = [table if name == "pooled" else table[table.source == name] for table in tables]
            mean = np.mean([roc_auc_score(part.label == "sick", part.score) for part in parts])
            assert line(panel, name).get_label() == f"{name} {mean:.2f}"

    def test_hospitals_differ_in_color_and_in_line(self, results):
        panel = panels(plot_roc(results, "xrays"))["a"]
        looks = [
            (line(panel, name).get_color(), line(panel, name).get_linestyle()) for name in ("mont", "shen", "pooled")
        ]
        assert len({color for color, _ in looks}) == len({style for _, style in looks}) == 3

    def test_a_band_shows_the_range(self, results):
        assert len(panels(plot_roc(results, "xrays"))["a"].collections) == 1


class TestAurocPanels:
    def test_mean_over_runs_and_the_chosen_epochs(self, results):
        panel = panels(plot_validation_auroc(results, "xrays"))["a"]
        tables = [each.epochs.val_auroc for each in results.of("xrays", "a")]
        assert panel.lines[1].get_ydata() == pytest.approx(np.mean(tables, axis=0))
        assert list(panel.lines[2].get_xdata()) == [table.idxmax() for table in tables]

    def test_a_single_epoch_is_a_dot_with_its_range(self, results):
        panel = panels(plot_validation_auroc(results, "xrays"))["b"]
        assert panel.lines[1].get_marker() == "o"
        assert panel.get_xlim() == (-0.5, 0.5)

    def test_a_system_that_measured_no_epoch_says_so(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", score_rows(LABELS, np.arange(8.0)), pd.DataFrame({"epoch": [0], "l": [1.0]}))
        panel = panels(plot_validation_auroc(read_results(written.folder), "xrays"))["a"]
        assert [text.get_text() for text in panel.texts] == ["no AUROC by epoch"]


class TestLossPanels:
    def test_a_panel_a_term_of_any_run(self, benchmark_folder):
        written = benchmark_folder(["a"], seeds=(0, 1))
        logged = [{"l_gen": [2.0, 1.0], "never": [np.nan] * 2}, {"l_gen": [4.0, 3.0], "l_dc": [1.0, 1.0]}]
        for seed, columns in enumerate(logged):
            epochs = pd.DataFrame({"epoch": [0, 1], "val_auroc": [0.5, 0.6], **columns})
            written.done("a", score_rows(LABELS, np.arange(8.0)), epochs, seed=seed)
        losses = loss_curves(read_results(written.folder).of("xrays", "a"))
        assert list(losses) == ["l_gen", "l_dc"]
        drawn = panels(plot_losses(losses, "a"))
        assert list(drawn) == ["l_gen", "l_dc"]
        assert list(drawn["l_gen"].lines[0].get_ydata()) == [3.0, 2.0]

    def test_auroc_and_epoch_are_no_losses(self, results):
        assert list(loss_curves(results.of("xrays", "a"))) == ["l_gen"]


class TestHistogramPanels:
    def test_a_panel_for_each_system_and_hospital(self, results):
        assert list(panels(plot_histograms(results, "xrays"))) == [
            "a, montgomery", "a, shenzhen", "b, montgomery", "b, shenzhen",
        ]  # fmt: skip

    def test_shares_add_up_and_what_lies_beyond_is_counted_at_the_ends(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", score_rows(LABELS, [-1.0, 1.0, -1.0, 1.0, 0.0, 0.0, 0.0, 1000.0]))
        panel = panels(plot_histograms(read_results(written.folder), "xrays"))["a, clinic"]
        heights = panel.patches[1].get_xy()  # the line around the bins of the sick ones
        assert heights[:, 0].max() == pytest.approx(BIN_EDGES[-1])
        assert heights[np.isclose(heights[:, 0], BIN_EDGES[-1]), 1].max() == pytest.approx(0.25)
        assert heights[:, 1].max() == pytest.approx(0.75)

    def test_scores_without_any_spread_say_so(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", score_rows(LABELS, [1.0] * 8))
        (panel,) = panels(plot_histograms(read_results(written.folder), "xrays")).values()
        assert [text.get_text() for text in panel.texts] == ["scores without spread"]


def mean_of(value):
    return RunMean(value, value - 0.1, value + 0.1, value - 0.05, value + 0.05, 3)


class TestAurocPlot:
    @pytest.fixture
    def axes(self, benchmark_folder):
        written = benchmark_folder({"a": 0.9, "b": None})
        for system in "ab":
            rng = np.random.default_rng(ord(system))
            scores = drawn_scores(rng, 1.0)
            written.done(system, scores, drawn_epochs(rng, scores, 3))
        results = read_results(written.folder)
        (axes,) = plot_auroc(results, measure_runs(results), "xrays").axes
        return axes

    def points(self, axes, marker):
        return [
            float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == marker and len(line.get_xdata())
        ]

    def test_a_star_where_a_figure_is_reported(self, axes):
        assert self.points(axes, "*") == [0.9]

    def test_both_protocols_of_each_system(self, axes):
        assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
        assert [len(self.points(axes, marker)) for marker in "^os"] == [2, 2, 2]


class TestNoisePlot:
    def test_a_panel_for_each_kind_which_starts_without_noise(self):
        gaussian, poisson = NoiseLevel(0.0, 0.1), NoiseLevel(0.02, 0.0)
        points = [(gaussian, mean_of(0.7)), (NoiseLevel(), mean_of(0.8)), (poisson, mean_of(0.6))]
        figure = plot_noise({"sure": points, "l2": [(NoiseLevel(), mean_of(0.5)), (gaussian, mean_of(0.4))]})
        assert [panel.get_title() for panel in figure.axes] == ["Gaussian noise", "Poisson-Gaussian noise"]
        first, second = (panel.lines[0] for panel in figure.axes)
        assert (list(first.get_xdata()), list(first.get_ydata())) == ([0.0, 0.1], [0.8, 0.7])
        assert (list(second.get_xdata()), list(second.get_ydata())) == ([0.0, pytest.approx(0.1)], [0.8, 0.6])

    def test_systems_differ_in_color_line_and_marker(self):
        figure = plot_noise(
            {name: [(NoiseLevel(), mean_of(0.5)), (NoiseLevel(0, 0.1), mean_of(0.4))] for name in "abcd"}
        )
        lines = figure.axes[0].lines[:4]
        assert len({(each.get_color(), each.get_linestyle(), each.get_marker()) for each in lines}) == 4
        assert len({each.get_linestyle() for each in lines}) == len({each.get_marker() for each in lines}) == 4

    def test_a_band_from_the_smallest_to_the_largest_run(self):
        figure = plot_noise({"a": [(NoiseLevel(), mean_of(0.5)), (NoiseLevel(0, 0.1), mean_of(0.4))]})
        corners = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
        assert (corners.min(), corners.max()) == (pytest.approx(0.35), pytest.approx(0.55))
