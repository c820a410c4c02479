"""Training of a segmenter from a folder, and Dice against another library's F1 score and textbook intervals."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import f1_score

from anomalib_cxr import cli
from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.data.sources.splits import hold_out
from anomalib_cxr.errors import DatasetError, SegmenterError, SettingError
from anomalib_cxr.segmentation import experiment as module
from anomalib_cxr.segmentation.experiment import (
    SegmenterSettings,
    dice,
    measure_dice,
    plot_worst_cases,
    summarize_dice,
    train_segmenter,
)
from anomalib_cxr.segmentation.network import load_segmenter, segment_lungs

TINY = SegmenterSettings(image_size=32, widths=(4, 4, 8, 8, 16), steps=1, batch_size=2)


def test_the_command_has_the_same_defaults():
    options = inspect.signature(cli.segment_train).parameters
    assert {each.name: each.default for each in fields(SegmenterSettings)} == {
        name: option.default for name, option in options.items() if name not in {"root", "output"}
    }


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"steps": 0}, r"steps = 0\n  expected: steps >= 1"),
        ({"batch_size": 0}, "batch_size >= 1"),
        ({"test_share": 1.0}, "test_share between 0 and 1"),
        ({"seed": -1}, "seed >= 0"),
        ({"split_table": Path("splits.csv"), "learn_from_sick": True}, "learn_from_sick false with split_table"),
    ],
)
def test_refused_settings(setting, expected):
    with pytest.raises(SettingError, match=expected):
        SegmenterSettings(**setting)


@pytest.mark.parametrize("learn_from_sick", [False, True])
def test_neither_held_out_images_nor_sick_ones_train(side_by_side_root, tmp_path, monkeypatch, learn_from_sick):
    seen = {}
    monkeypatch.setattr(
        module, "fit_segmenter", lambda _, images, masks, **settings: seen.update(n=len(images), **settings)
    )
    measured = []
    monkeypatch.setattr(module, "_read_pairs", lambda samples, size, _: (list(samples.image_path), size))
    monkeypatch.setattr(module, "measure_dice", lambda _, samples, __: measured.extend(samples.image_path) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_segmenter(side_by_side_root, tmp_path, replace(TINY, learn_from_sick=learn_from_sick))
    split = hold_out(make_samples(side_by_side_root).query("roi_mask_paths.str.len() > 0"), 0.2, 0)
    trains = (split.split == "train") & (learn_from_sick | (split.label_index == 0))
    assert 0 < trains.sum() < len(split)
    assert seen == {"n": int(trains.sum()), "steps": 1, "batch_size": 2, "seed": 0}
    assert sorted(measured) == sorted(split.image_path[split.split == "test"])
    assert not list(tmp_path.iterdir())


def test_only_healthy_training_images_of_a_table_train(side_by_side_root, tmp_path, monkeypatch):
    samples = make_samples(side_by_side_root)
    names = [Path(path).name for path in samples.image_path]
    rng = np.random.default_rng(0)
    splits = dict(zip(names, rng.choice(["train", "val", "test", "unused"], len(names)), strict=True))
    table = tmp_path / "splits.csv"
    pd.DataFrame({"image": names[1:], "7": [splits[name] for name in names[1:]]}).to_csv(table, index=False)
    trained, measured = [], []
    monkeypatch.setattr(module, "fit_segmenter", lambda *_, **__: None)
    monkeypatch.setattr(module, "_read_pairs", lambda rows, *_: trained.extend(rows.image_path) or (None, None))
    monkeypatch.setattr(module, "measure_dice", lambda _, rows, __: measured.extend(rows.image_path) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_segmenter(side_by_side_root, tmp_path / "new", replace(TINY, seed=7, split_table=table))
    masked = samples[samples.roi_mask_paths.map(len) > 0].image_path
    found = {Path(path).name for path in masked} - {names[0]}
    assert {Path(path).name for path in trained} == {n for n in found if splits[n] == "train" and n.endswith("_0.png")}
    assert {Path(path).name for path in measured} == {n for n in found if splits[n] in {"val", "test"}}
    assert trained
    assert measured


def test_a_table_without_images_to_train_on(montgomery_root, tmp_path):
    table = tmp_path / "splits.csv"
    names = [path.name for path in montgomery_root.rglob("CXR_png/*.png")]
    pd.DataFrame({"image": names, "0": "test"}).to_csv(table, index=False)
    with pytest.raises(DatasetError, match=r"0 healthy X-rays to train on and \d+ to test"):
        train_segmenter(montgomery_root, tmp_path / "new", replace(TINY, split_table=table))


@pytest.mark.slow
def test_sixteen_bit_images(editable, montgomery_root, tmp_path):
    root = editable(montgomery_root)
    for path in root.rglob("CXR_png/*.png"):
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 16).save(path)
    with pytest.raises(DatasetError, match="sixteen_bit_white has to be set"):
        train_segmenter(root, tmp_path / "refused", TINY)
    train_segmenter(root, tmp_path / "new", replace(TINY, sixteen_bit_white=4080))
    assert (tmp_path / "new" / "segmenter.pt").is_file()


class TestRefused:
    def test_no_masks(self, unmasked_root, tmp_path):
        with pytest.raises(DatasetError, match=r"15 X-rays in \S+, none of them with a lung mask(?s:.*)yoctoman"):
            train_segmenter(unmasked_root, tmp_path / "new", TINY)
        assert not (tmp_path / "new").exists()

    def test_predicted_masks_do_not_count(self, editable, unmasked_root, tmp_path):
        root = editable(unmasked_root)
        (root / "ChinaSet_AllFiles/CXR_png").joinpath("../../predicted_masks").resolve().symlink_to(
            root / "ChinaSet_AllFiles/CXR_png"
        )
        with pytest.raises(DatasetError, match="none of them with a lung mask"):
            train_segmenter(root, tmp_path / "new", TINY)

    def test_single_image(self, editable, montgomery_root, tmp_path):
        root = editable(montgomery_root)
        for path in root.rglob("*.png"):
            if path.stem != "MCUCXR_0000_0":
                path.unlink()
        with pytest.raises(DatasetError, match="beside those that are held out"):
            train_segmenter(root, tmp_path / "new", TINY)

    def test_broken_mask(self, editable, montgomery_root, tmp_path):
        root = editable(montgomery_root)
        next(root.rglob("leftMask/MCUCXR_0003_0.png")).write_bytes(b"")
        with pytest.raises(DatasetError, match=r"lung mask: empty file \(0 bytes\)(?s:.*)MCUCXR_0003_0.png"):
            train_segmenter(root, tmp_path / "new", TINY)

    def test_folder_with_a_segmenter(self, montgomery_root, tmp_path):
        (tmp_path / "segmenter.pt").touch()
        with pytest.raises(SegmenterError, match="which already exists"):
            train_segmenter(montgomery_root, tmp_path, TINY)

    def test_shape(self, montgomery_root, tmp_path):
        with pytest.raises(SettingError, match="image_size = 40"):
            train_segmenter(montgomery_root, tmp_path, SegmenterSettings(image_size=40))


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
            assert measured.area_ratio[index] == pytest.approx(found.mean() / true.mean())

    def test_lungs_that_would_not_be_written_count_as_none(self, segmenter, samples, monkeypatch):
        monkeypatch.setattr("anomalib_cxr.segmentation.experiment.is_plausible", lambda _: False)
        assert (measure_dice(segmenter, samples[:2])[["dice", "area_ratio"]] == 0).all(axis=None)


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
