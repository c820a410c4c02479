"""Dice against another library's F1 score, its mean and interval against textbook formulas, and the worst cases."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.segmentation.experiment import dice, measure_dice, plot_worst_cases, summarize_dice
from anomalib_cxr.segmentation.network import load_segmenter
from anomalib_cxr.segmentation.postprocessing import segment_lungs


@pytest.fixture(scope="module")
def segmenter(segmenter_path):
    return load_segmenter(segmenter_path)


@pytest.fixture(scope="module")
def samples(montgomery_root):
    return make_samples(montgomery_root)


@pytest.fixture(scope="module")
def measured(segmenter, samples):
    return measure_dice(segmenter, samples)


@pytest.mark.parametrize("seed", range(3))
def test_dice_is_the_f1_score_of_pixels(seed):
    rng = np.random.default_rng(seed)
    found, true = rng.random((2, 40, 50)) > np.array([0.3, 0.6])[:, None, None]
    assert dice(found, true) == pytest.approx(f1_score(true.ravel(), found.ravel()), abs=1e-6)


def test_dice_of_all_and_of_nothing():
    mask = np.eye(4, dtype=bool)
    assert dice(mask, mask) == 1
    assert dice(~mask, mask) == 0
    assert dice(np.zeros_like(mask), mask) == 0


class TestMeasuring:
    def test_a_row_for_each_image(self, measured, samples):
        assert list(measured.image) == list(samples.image_path)
        assert set(measured.source) == {"montgomery"}
        assert list(measured.label) == ["sick" if path.endswith("_1.png") else "normal" for path in measured.image]

    def test_against_the_masks_that_are_found(self, measured, samples, segmenter):
        for index in (0, 7, 14):
            found = segment_lungs(segmenter, read_radiograph(samples.image_path[index])).ravel()
            true = read_mask(*samples.roi_mask_paths[index]).numpy().ravel()
            assert measured.dice[index] == pytest.approx(f1_score(true, found), abs=1e-6)

    def test_lungs_that_would_not_be_written_count_as_none(self, segmenter, samples, monkeypatch):
        monkeypatch.setattr("anomalib_cxr.segmentation.experiment.is_plausible", lambda _: False)
        assert set(measure_dice(segmenter, samples[:2]).dice) == {0.0}


class TestSummary:
    @pytest.fixture(scope="class")
    def table(self):
        rng = np.random.default_rng(0)
        parts = {("a", "normal"): (400, 0.95), ("a", "sick"): (1, 0.5), ("b", "sick"): (300, 0.9)}
        rows = [
            {"source": source, "label": label, "dice": value}
            for (source, label), (count, mean) in parts.items()
            for value in rng.normal(mean, 0.02, count)
        ]
        return pd.DataFrame(rows)

    def row(self, table, source, label):
        summary = summarize_dice(table).set_index(["source", "label"])
        return summary.loc[(source, label)]

    def test_groups(self, table):
        summary = summarize_dice(table)
        groups = [tuple(row) for row in summary[["source", "label", "n"]].itertuples(index=False)]
        by_hospital = [("a", "normal", 400), ("a", "sick", 1), ("a", "all", 401), ("b", "sick", 300), ("b", "all", 300)]
        assert groups == [*by_hospital, ("all", "all", 701)]

    def test_mean_and_least(self, table):
        values = table.dice[table.source == "b"]
        row = self.row(table, "b", "all")
        assert (row["mean"], row["least"]) == (pytest.approx(values.mean()), values.min())

    def test_interval_is_the_normal_one_for_many_images(self, table):
        values = table.dice[(table.source == "a") & (table.label == "normal")]
        half = 1.96 * values.std() / np.sqrt(len(values))
        row = self.row(table, "a", "normal")
        assert [row.low, row.high] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.15 * half)

    def test_a_single_image_has_no_interval(self, table):
        row = self.row(table, "a", "sick")
        assert np.isnan(row.low)
        assert np.isnan(row.high)

    def test_seeded(self, table):
        pd.testing.assert_frame_equal(summarize_dice(table, 1), summarize_dice(table, 1))
        assert not summarize_dice(table, 1).equals(summarize_dice(table, 2))


def test_worst_cases_come_first(segmenter, samples, measured):
    figure = plot_worst_cases(segmenter, samples, measured)
    titles = [panel.get_title() for panel in figure.axes if panel.get_title()]
    worst = measured.sort_values("dice")
    assert len(titles) == 12
    assert titles[0].endswith(f"Dice {worst.dice.iloc[0]:.3f}")
    assert [title.split(" ")[0] for title in titles] == [path.rpartition("/")[2] for path in worst.image[:12]]
