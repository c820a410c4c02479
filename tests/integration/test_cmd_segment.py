"""`anomalib-cxr segment train` and `segment predict`, and a training on the masks that they predict."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anomalib_cxr.cli import main
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.segmentation.network import load_segmenter

TINY = ["--image_size", 32, "--widths", "4,4,8,8,16", "--steps", 80, "--batch_size", 8]


@pytest.fixture(scope="module")
def segmented(command, tmp_path_factory, side_by_side_root):
    folder = tmp_path_factory.mktemp("segmented")
    words = ["segment", "train", "--root", side_by_side_root, "--output", "lungs", *TINY, "--seed", 1]
    return folder / "lungs", command(folder, "anomalib-cxr", *words)


@pytest.fixture
def segmenter(segmented):
    return segmented[0] / "segmenter.pt"


class TestTrain:
    def test_leaves_a_segmenter_and_its_figures(self, segmented):
        folder, (code, output) = segmented
        assert code == 0, output
        found = {path.name for path in folder.iterdir()}
        assert found == {"segmenter.pt", "dice.csv", "summary.csv", "worst.png", "run.json"}
        assert load_segmenter(folder / "segmenter.pt").settings == {"image_size": 32, "widths": (4, 4, 8, 8, 16)}

    def test_measures_what_was_held_out_of_each_hospital_and_label(self, segmented):
        table = pd.read_csv(segmented[0] / "dice.csv")
        counts = table.groupby(["source", "label"]).size().to_dict()
        # A fifth of 10 normal and 5 sick of each; of Shenzhen, one of either has no mask.
        one, two = ("montgomery", "shenzhen"), ("normal", "sick")
        assert counts == {(source, label): {"normal": 2, "sick": 1}[label] for source in one for label in two}
        assert table.dice.between(0.6, 1).all()

    def test_prints_the_summary(self, segmented):
        folder, (_, output) = segmented
        assert "montgomery: train 8 normal; val 0; test 2 normal + 1 sick; unused 4 sick" in output
        summary = pd.read_csv(folder / "summary.csv")
        pooled = summary.iloc[-1]
        assert pooled["n"] == 6
        assert pooled["mean"] == pytest.approx(pd.read_csv(folder / "dice.csv").dice.mean(), abs=1e-4)
        assert f"all    all  6 {pooled['mean']:.4f}" in output
        assert pooled.low < pooled["mean"] < pooled.high

    def test_record_tells_how_to_repeat_it(self, segmented, side_by_side_root):
        record = json.loads((segmented[0] / "run.json").read_text())
        assert record["settings"]["seed"] == 1
        assert record["settings"]["steps"] == 80
        assert record["root"] == str(side_by_side_root)
        assert {"torch", "monai"} <= record["versions"].keys()

    def test_does_not_overwrite_a_segmenter(self, segmented, side_by_side_root, capsys):
        folder, _ = segmented
        before = (folder / "segmenter.pt").read_bytes()
        with pytest.raises(SystemExit, match="1"):
            main(["segment", "train", "--root", str(side_by_side_root), "--output", str(folder)])
        assert "anomalib-cxr segment train: found:" in capsys.readouterr().err
        assert (folder / "segmenter.pt").read_bytes() == before


class TestPredict:
    def test_masks_for_those_that_have_none_and_names_of_those_without_lungs(
        self, command, editable, shenzhen_root, segmenter
    ):
        root = editable(shenzhen_root)
        blank = next(root.rglob("CXR_png/CHNCXR_0014_1.png"))
        Image.new("L", (64, 64)).save(blank)
        code, output = command(root, "anomalib-cxr", "segment", "predict", "--root", ".", "--segmenter", segmenter)
        assert code == 1
        assert "1 lung masks written" in output
        assert f"no plausible lungs found (1):\n      {blank.relative_to(root)}" in output
        samples = make_samples(root, root / "predicted_masks")
        parents = samples.roi_mask_paths.map(lambda paths: tuple(Path(path).parent.name for path in paths))
        assert parents.value_counts().to_dict() == {("mask",): 13, ("predicted_masks",): 1, (): 1}

    def test_without_a_segmenter_by_that_of_the_package(self, command, unmasked_root, tmp_path):
        words = ["segment", "predict", "--root", unmasked_root, "--predicted_masks", "masks"]
        code, output = command(tmp_path, "anomalib-cxr", *words)
        assert code == 0, output
        assert "No lung segmenter given: the one of the package is used" in output
        assert "15 lung masks written" in output

    def test_killed_half_way(self, command, interrupted, editable, unmasked_root, segmenter):
        root = editable(unmasked_root)
        for path in root.rglob("CXR_png/*.png"):  # large enough for a prediction that takes a while
            Image.open(path).resize((1024, 1024)).save(path)
        masks = root / "predicted_masks"
        words = ["segment", "predict", "--root", root, "--segmenter", segmenter]
        seen = lambda: len(list(masks.glob("[!.]*.png"))) >= 2  # noqa: E731
        code, _ = interrupted(root.parent, "anomalib-cxr", *words, seen=seen)
        assert code == -signal.SIGKILL
        kept = {path: path.stat().st_mtime_ns for path in masks.glob("[!.]*.png")}
        assert 2 <= len(kept) < 15

        code, output = command(root.parent, "anomalib-cxr", *words)
        assert code == 0, output
        assert f"{15 - len(kept)} lung masks written" in output
        assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())
        assert all(set(np.unique(Image.open(path))) == {0, 255} for path in masks.glob("*.png"))


def test_training_on_predicted_masks(command, tmp_path, results, tiny, unmasked_root, segmenter):
    words = [*tiny, "--data.init_args.root", unmasked_root, "--trainer.max_epochs", 1]
    predict = {"masks": "predict", "segmenter": segmenter, "predicted_masks": tmp_path / "masks"}
    words += [word for name, value in predict.items() for word in (f"--data.init_args.{name}", value)]
    words += ["--data.init_args.source", "shenzhen"]
    code, output = command(tmp_path, "anomalib", *words)
    assert code == 0, output
    assert "15 of 15 lung masks are predicted ones" in output
    assert len(list((tmp_path / "masks").glob("*.png"))) == 15
    assert not (unmasked_root / "predicted_masks").exists()
    assert results.table("scores.csv").score.notna().all()
