"""Predicted masks on disk: whole, resumable, of one segmenter, and never in the place of a true one."""

from __future__ import annotations

import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.ndimage import label
from sklearn.metrics import f1_score

from anomalib_cxr.data.sources.mask_folder import NO_LUNGS
from anomalib_cxr.data.sources.samples import make_samples, with_predicted_masks
from anomalib_cxr.errors import DatasetError, SegmenterError
from anomalib_cxr.segmentation import prediction as lung_masks
from anomalib_cxr.segmentation.network import load_segmenter, save_segmenter
from anomalib_cxr.segmentation.prediction import DEFAULT_FOLDER, predict_for_root, predict_masks

COUNT = 15  # X-rays of the unmasked set
UNMASKED = {"CHNCXR_0000_0", "CHNCXR_0014_1"}  # of the set with true masks


@pytest.fixture
def root(editable, unmasked_root):
    return editable(unmasked_root)


@pytest.fixture
def images(root):
    return sorted(root.rglob("CXR_png/*.png"))


@pytest.fixture
def folder(root):
    return root / DEFAULT_FOLDER


@pytest.fixture
def other_segmenter(segmenter_path, tmp_path):
    segmenter = load_segmenter(segmenter_path)
    with torch.no_grad():
        next(segmenter.parameters()).mul_(2)
    save_segmenter(segmenter, tmp_path / "other.pt")
    return tmp_path / "other.pt"


def stamps(folder, pattern="*"):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob(pattern)}


def blacken(image):
    Image.new("L", Image.open(image).size).save(image, "PNG")


class TestWhatIsWritten:
    @pytest.fixture(scope="class")
    def predicted(self, tmp_path_factory, unmasked_root, segmenter_path):
        folder = tmp_path_factory.mktemp("predicted") / "masks"
        return folder, predict_for_root(unmasked_root, segmenter_path, folder)

    def test_one_for_each(self, predicted, unmasked_root):
        folder, prediction = predicted
        assert prediction == (COUNT, {})
        prediction.refuse_offenders()
        found = {path.name for path in folder.glob("*.png")}
        assert found == {path.name for path in unmasked_root.rglob("CXR_png/*.png")}

    def test_read_by_the_samples_table(self, predicted, unmasked_root):
        folder, _ = predicted
        samples = make_samples(unmasked_root, folder)
        assert [[Path(path).parent for path in paths] for paths in samples.roi_mask_paths] == [[folder]] * COUNT
        assert make_samples(unmasked_root).roi_mask_paths.map(len).sum() == 0

    def test_black_and_white_of_the_size_of_the_image(self, predicted, unmasked_root):
        folder, _ = predicted
        for path in folder.glob("*.png"):
            mask = Image.open(path)
            assert mask.mode == "L"
            assert mask.size == Image.open(next(unmasked_root.rglob(path.name))).size
            assert set(np.unique(mask)) == {0, 255}

    def test_at_most_two_components_without_holes(self, predicted):
        folder, _ = predicted
        for path in folder.glob("*.png"):
            mask = np.asarray(Image.open(path)) > 0
            assert label(mask)[1] in {1, 2}
            assert label(~np.pad(mask, 1), np.ones((3, 3)))[1] == 1

    def test_near_the_true_masks(self, predicted, shenzhen_files):
        folder, _ = predicted
        dice = []
        for path in folder.glob("*.png"):
            true = np.asarray(Image.open(shenzhen_files / "masks" / f"{path.stem}_mask.png"))
            dice.append(f1_score(true.ravel() > 0, np.asarray(Image.open(path)).ravel() > 0))
        assert np.mean(dice) > 0.9

    def test_names_its_segmenter(self, predicted, segmenter_path):
        folder, _ = predicted
        record = json.loads((folder / "segmenter.json").read_text())
        assert record["sha256"] == sha256(segmenter_path.read_bytes()).hexdigest()

    def test_told_how_many_are_predicted(self, predicted, unmasked_root, caplog):
        caplog.set_level(logging.INFO)
        make_samples(unmasked_root, predicted[0])
        assert f"{COUNT} of {COUNT} lung masks are predicted ones" in caplog.text


class TestTrueMasks:
    def test_only_the_missing_ones_are_predicted(self, editable, shenzhen_root, segmenter_path):
        root = editable(shenzhen_root)
        before = stamps(root / "mask")
        assert predict_for_root(root, segmenter_path).written == len(UNMASKED)
        assert {path.stem for path in (root / DEFAULT_FOLDER).glob("*.png")} == UNMASKED
        assert stamps(root / "mask") == before

    def test_a_true_mask_wins(self, editable, shenzhen_root):
        root = editable(shenzhen_root)
        (root / DEFAULT_FOLDER).mkdir()
        for path in root.rglob("CXR_png/*.png"):
            shutil.copy(path, root / DEFAULT_FOLDER)
        samples = make_samples(root, root / DEFAULT_FOLDER)
        for image, (mask,) in zip(samples.image_path, samples.roi_mask_paths, strict=True):
            assert Path(mask).parent.name == (DEFAULT_FOLDER if Path(image).stem in UNMASKED else "mask")


def test_every_image_of_the_nih_set(nih_root, segmenter_path, tmp_path):
    images = {path.stem for path in nih_root.glob("images*/**/*.png")}
    prediction = predict_for_root(nih_root, segmenter_path, tmp_path / "masks")
    named = {path.stem for paths in prediction.offenders.values() for path in paths}
    assert {path.stem for path in (tmp_path / "masks").glob("*.png")} | named == images
    assert prediction.written + len(named) == len(images)
    assert prediction.written > 0


class TestGoingOn:
    def test_only_what_is_missing(self, images, folder, segmenter_path):
        predict_masks(images, folder, segmenter_path)
        for path in sorted(folder.glob("*.png"))[:2]:
            path.unlink()
        kept = stamps(folder, "*.png")
        assert predict_masks(images, folder, segmenter_path).written == 2
        now = stamps(folder, "*.png")
        assert len(now) == COUNT
        assert kept.items() <= now.items()

    def test_what_was_left_unfinished_does_not_count(self, images, folder, segmenter_path):
        folder.mkdir()
        (folder / f".unfinished-{images[0].name}").write_bytes(b"\x89PNG")
        assert predict_masks(images, folder, segmenter_path).written == COUNT

    def test_complete_folder_need_not_be_writable(self, images, folder, segmenter_path, monkeypatch):
        predict_masks(images, folder, segmenter_path)
        monkeypatch.setattr(lung_masks, "FileLock", None)
        before = stamps(folder)
        assert predict_masks(images, folder, segmenter_path) == (0, {})
        assert stamps(folder) == before

    def test_several_at_once(self, images, folder, segmenter_path):
        with ThreadPoolExecutor(3) as pool:
            done = list(pool.map(lambda _: predict_masks(images, folder, segmenter_path), range(3)))
        assert sum(prediction.written for prediction in done) == COUNT


def test_same_names_in_two_folders_with_a_root(images, folder, segmenter_path, tmp_path):
    root = tmp_path / "own"
    for number in range(3):
        (root / f"{number}").mkdir(parents=True)
        shutil.copy(images[number], root / f"{number}/IM1")
    blacken(root / "2/IM1")
    paths = sorted(root.rglob("IM1"))
    assert predict_masks(paths, folder, segmenter_path, root=root) == (2, {NO_LUNGS: [root / "2/IM1"]})
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png")) == ["0/IM1.png", "1/IM1.png"]
    assert (folder / "no_lungs.csv").read_text() == f"image,reason\n2/IM1,{NO_LUNGS}\n"
    samples = pd.DataFrame({"image_path": map(str, paths), "roi_mask_paths": [()] * 3})
    masks = with_predicted_masks(samples, folder, root).roi_mask_paths.tolist()
    assert masks == [(str(folder / "0/IM1.png"),), (str(folder / "1/IM1.png"),), ()]
    assert predict_masks(paths, folder, segmenter_path, root=root).written == 0


class TestNoLungs:
    def test_listed_and_without_a_mask(self, images, folder, segmenter_path):
        blacken(images[3])
        prediction = predict_masks(images, folder, segmenter_path)
        assert prediction == (COUNT - 1, {NO_LUNGS: [images[3]]})
        assert not (folder / images[3].name).exists()
        assert (folder / "no_lungs.csv").read_text() == f"image,reason\n{images[3].name},{NO_LUNGS}\n"
        with pytest.raises(
            DatasetError, match=rf"1 X-rays without a lung mask\n.*{NO_LUNGS} \(1\):\n.*{images[3].name}"
        ):
            prediction.refuse_offenders()

    def test_not_tried_again_while_listed(self, images, folder, segmenter_path, root, unmasked_root):
        blacken(images[3])
        predict_masks(images, folder, segmenter_path)
        shutil.copy(unmasked_root / images[3].relative_to(root), images[3])
        assert predict_masks(images, folder, segmenter_path) == (0, {NO_LUNGS: [images[3]]})
        (folder / "no_lungs.csv").unlink()
        assert predict_masks(images, folder, segmenter_path) == (1, {})

    def test_report_keeps_those_of_other_images(self, images, folder, segmenter_path):
        blacken(images[3])
        blacken(images[9])
        predict_masks(images[:5], folder, segmenter_path)
        prediction = predict_masks(images[5:], folder, segmenter_path)
        assert prediction.offenders == {NO_LUNGS: [images[9]]}
        listed = (folder / "no_lungs.csv").read_text().split("\n")[1:-1]
        assert [line.split(",")[0] for line in listed] == [images[3].name, images[9].name]

    def test_unreadable_is_tried_again(self, images, folder, segmenter_path):
        content = images[3].read_bytes()
        images[3].write_bytes(b"")
        prediction = predict_masks(images, folder, segmenter_path)
        assert prediction == (COUNT - 1, {"empty file (0 bytes)": [images[3]]})
        images[3].write_bytes(content)
        assert predict_masks(images, folder, segmenter_path) == (1, {})


class TestRefused:
    def test_masks_of_another_segmenter(self, images, folder, segmenter_path, other_segmenter):
        predict_masks(images[:2], folder, segmenter_path)
        before = stamps(folder)
        with pytest.raises(SegmenterError, match=r"masks of the segmenter of SHA-256 \w{12}\.\.\., not of"):
            predict_masks(images, folder, other_segmenter)
        assert stamps(folder) == before

    @pytest.mark.parametrize("record", [None, "", "[]", "{}"])
    def test_masks_of_nobody(self, images, folder, segmenter_path, record):
        predict_masks(images[:2], folder, segmenter_path)
        (folder / "segmenter.json").unlink()
        if record is not None:
            (folder / "segmenter.json").write_text(record)
        with pytest.raises(SegmenterError, match=r"masks without segmenter.json, which identifies their segmenter"):
            predict_masks(images, folder, segmenter_path)

    def test_no_segmenter(self, images, folder, tmp_path):
        with pytest.raises(SegmenterError, match="cannot be read"):
            predict_masks(images, folder, tmp_path / "nowhere.pt")
        assert not folder.exists()

    def test_same_name_twice(self, images, folder, segmenter_path):
        twin = images[0].with_suffix(".jpg")
        with pytest.raises(DatasetError, match=rf"the same name twice \(2\):\n.*{images[0].name}\n.*{twin.name}"):
            predict_masks([*images, twin], folder, segmenter_path)
        assert not folder.exists()

    def test_no_place(self, images, root, segmenter_path):
        (root / "file").touch()
        with pytest.raises(DatasetError, match=r"file: cannot be written(?s:.*)data.init_args.predicted_masks"):
            predict_masks(images, root / "file", segmenter_path)
