"""Training a segmenter from a folder: what is held out, what is refused, and that defaults are told once."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest

from anomalib_cxr import cli
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.data.sources.splits import hold_out
from anomalib_cxr.errors import DatasetError, SegmenterError, SettingError
from anomalib_cxr.segmentation import experiment as module
from anomalib_cxr.segmentation.experiment import SegmenterSettings, train_segmenter

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
    ],
)
def test_refused_settings(setting, expected):
    with pytest.raises(SettingError, match=expected):
        SegmenterSettings(**setting)


def test_held_out_images_do_not_train(side_by_side_root, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        module, "fit_segmenter", lambda _, images, masks, **settings: seen.update(n=len(images), **settings)
    )
    measured = []
    monkeypatch.setattr(module, "_read_pairs", lambda samples, size: (list(samples.image_path), size))
    monkeypatch.setattr(module, "measure_dice", lambda _, samples: measured.extend(samples.image_path) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_segmenter(side_by_side_root, tmp_path, TINY)
    split = hold_out(make_samples(side_by_side_root).query("roi_mask_paths.str.len() > 0"), 0.2, 0)
    assert seen == {"n": int((split.split == "train").sum()), "steps": 1, "batch_size": 2, "seed": 0}
    assert sorted(measured) == sorted(split.image_path[split.split == "test"])
    assert not list(tmp_path.iterdir())


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
        with pytest.raises(DatasetError, match="all are held out"):
            train_segmenter(root, tmp_path / "new", TINY)

    def test_broken_mask(self, editable, montgomery_root, tmp_path):
        root = editable(montgomery_root)
        next(root.rglob("leftMask/MCUCXR_0003_0.png")).write_bytes(b"")
        with pytest.raises(DatasetError, match=r"lung mask: empty file \(0 bytes\)(?s:.*)MCUCXR_0003_0.png"):
            train_segmenter(root, tmp_path / "new", TINY)

    def test_folder_with_a_segmenter(self, montgomery_root, tmp_path):
        (tmp_path / "segmenter.pt").touch()
        with pytest.raises(SegmenterError, match="which is there already"):
            train_segmenter(montgomery_root, tmp_path, TINY)

    def test_shape(self, montgomery_root, tmp_path):
        with pytest.raises(SettingError, match="image_size = 40"):
            train_segmenter(montgomery_root, tmp_path, SegmenterSettings(image_size=40))
