"""Figures of what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from anomalib_cxr.benchmark.report.measures import Over, measure_runs
from anomalib_cxr.benchmark.report.panels import noise_curves, overview
from anomalib_cxr.benchmark.report.results import NO_NOISE, Noise, read_results

from ..folders import drawn_epochs, drawn_scores


def over(value):
    return Over(value, value - 0.1, value + 0.1, value - 0.05, value + 0.05, 3)


class TestOverview:
    @pytest.fixture
    def axes(self, benchmark_folder):
        written = benchmark_folder({"a": 0.9, "b": None})
        for system in "ab":
            rng = np.random.default_rng(ord(system))
            scores = drawn_scores(rng, 1.0)
            written.done(system, scores, drawn_epochs(rng, scores, 3))
        results = read_results(written.folder)
        (axes,) = overview(results, measure_runs(results), "xrays").axes
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


class TestNoiseCurves:
    def test_a_panel_for_each_kind_which_starts_without_noise(self):
        gaussian, poisson = Noise(0.0, 0.1), Noise(0.02, 0.0)
        points = [(gaussian, over(0.7)), (NO_NOISE, over(0.8)), (poisson, over(0.6))]
        figure = noise_curves({"sure": points, "l2": [(NO_NOISE, over(0.5)), (gaussian, over(0.4))]})
        assert [panel.get_title() for panel in figure.axes] == ["Gaussian noise", "Poisson-Gaussian noise"]
        first, second = (panel.lines[0] for panel in figure.axes)
        assert (list(first.get_xdata()), list(first.get_ydata())) == ([0.0, 0.1], [0.8, 0.7])
        assert (list(second.get_xdata()), list(second.get_ydata())) == ([0.0, pytest.approx(0.1)], [0.8, 0.6])

    def test_systems_differ_in_color_line_and_marker(self):
        figure = noise_curves({name: [(NO_NOISE, over(0.5)), (Noise(0, 0.1), over(0.4))] for name in "abcd"})
        lines = figure.axes[0].lines[:4]
        assert len({(each.get_color(), each.get_linestyle(), each.get_marker()) for each in lines}) == 4
        assert len({each.get_linestyle() for each in lines}) == len({each.get_marker() for each in lines}) == 4

    def test_a_band_from_the_smallest_to_the_largest_run(self):
        figure = noise_curves({"a": [(NO_NOISE, over(0.5)), (Noise(0, 0.1), over(0.4))]})
        corners = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
        assert (corners.min(), corners.max()) == (pytest.approx(0.35), pytest.approx(0.55))
