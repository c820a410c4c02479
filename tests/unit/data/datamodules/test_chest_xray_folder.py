"""The data module of one's own X-rays on small pictures: sets, settings, refusals."""

from __future__ import annotations

import inspect
import logging
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anomalib import TaskType
from PIL import Image

from anomalib_cxr import ChestXrayFolder
from anomalib_cxr.data.sources.mask_folder import MaskFolder
from anomalib_cxr.errors import DatasetError, SettingError
from anomalib_cxr.segmentation import prediction

SPLITS = ("train", "val", "test")
SMALL = {"normal_dir": "healthy", "least_train": 1}
BOTH = {**SMALL, "abnormal_dir": "sick"}


def write_picture(path, seed, size=32):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (size, size), np.uint8)
    Image.fromarray(levels).save(path)


def write_mask(path, size=32):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.zeros((size, size), np.uint8)
    levels[4:20, 4:20] = 255
    Image.fromarray(levels).save(path)


@pytest.fixture
def root(tmp_path):
    """Thirty healthy pictures and six sick ones, in subfolders."""
    for number in range(30):
        write_picture(tmp_path / f"own/healthy/{number % 3}/h{number}.png", number)
    for number in range(6):
        write_picture(tmp_path / f"own/sick/s{number}.png", 100 + number)
    return tmp_path / "own"


def fitted(root, **settings):
    datamodule = ChestXrayFolder(root, **settings)
    datamodule.setup("fit")
    return datamodule


def tables(datamodule):
    return [getattr(datamodule, f"{split}_data").samples for split in SPLITS]


class TestSets:
    def test_numbers(self, root):
        sets = tables(fitted(root, **BOTH))
        counts = [table.label_index.value_counts().sort_index().tolist() for table in sets]
        assert counts == [[21], [3, 3], [6, 3]]

    def test_train_only(self, root, caplog):
        with caplog.at_level(logging.INFO):
            datamodule = fitted(root, **SMALL)
        train, val, _ = tables(datamodule)
        assert (len(train), len(val)) == (27, 3)
        assert "No abnormal X-rays are given: the model is trained, and no test is possible." in caplog.text
        assert datamodule.test_dataloader() == []

    def test_normal_test_dir(self, root):
        for number in range(4):
            write_picture(root / f"held/t{number}.png", 200 + number)
        train, val, test = tables(fitted(root, **BOTH, normal_test_dir="held"))
        assert (len(train), len(val), len(test)) == (27, 6, 7)
        assert sorted(Path(path).parent.name for path in test.image_path) == ["held"] * 4 + ["sick"] * 3

    def test_shares(self, root):
        train, val, test = tables(fitted(root, **BOTH, normal_split_ratio=0.3, val_split_ratio=0.2))
        healthy = [int((table.label_index == 0).sum()) for table in (train, val, test)]
        assert healthy == [15, 6, 9]

    def test_the_same_for_the_same_seed(self, root, tmp_path):
        def names(root, seed):
            return [{Path(path).name for path in table.image_path} for table in tables(fitted(root, **BOTH, seed=seed))]

        here, other = names(root, 0), names(root, 1)
        (tmp_path / "elsewhere").mkdir()
        moved = root.rename(tmp_path / "elsewhere" / root.name)
        assert names(moved, 0) == here != other

    def test_log_tells_where_all_went(self, root, caplog):
        with caplog.at_level(logging.INFO):
            fitted(root, **BOTH)
        assert "own: train 21 normal; val 3 normal + 3 sick; test 6 normal + 3 sick; unused 0" in caplog.text
        assert "train normal  val normal  val abnormal  test normal  test abnormal" in caplog.text


@pytest.fixture
def locked(root, monkeypatch):
    """Lock folders of the root, as permissions do for anyone but root."""
    scan = os.scandir

    def lock(*names):
        paths = {str(root / name) for name in names}

        def refuse(path):
            if os.fspath(path) in paths:
                raise PermissionError(13, "Permission denied", str(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", refuse)

    return lock


class TestLockedFolders:
    def test_all_are_named(self, root, locked):
        locked("healthy/1", "sick")
        with pytest.raises(DatasetError, match="2 folders whose X-rays cannot be listed") as error:
            fitted(root, **BOTH)
        assert error.value.offenders == {
            "folder that cannot be opened: Permission denied": [root / "healthy/1", root / "sick"]
        }
        assert "on_error to skip" in error.value.next_step

    def test_skipped_ones_are_named_too(self, root, locked, caplog):
        locked("healthy/1")
        sets = tables(fitted(root, **BOTH, on_error="skip"))
        assert sum((table.label_index == 0).sum() for table in sets) == 20
        (told,) = [each for each in caplog.records if each.levelno == logging.WARNING and "left out 1" in each.message]
        assert str(root / "healthy/1") in told.message

    def test_locked_files_are_named_with_other_broken_ones(self, root, monkeypatch):
        (root / "healthy/0/h0.png").write_bytes(b"")
        state = Path.stat

        def refuse(path, **settings):
            if path.name == "s3.png" and inspect.stack()[1].function == "_opened":  # of the reader
                raise PermissionError(13, "Permission denied", str(path))
            return state(path, **settings)

        monkeypatch.setattr(Path, "stat", refuse)
        with pytest.raises(DatasetError, match="2 of 36 X-rays") as error:
            fitted(root, **BOTH)
        reasons = {reason: [path.name for path in map(Path, paths)] for reason, paths in error.value.offenders.items()}
        assert reasons == {"empty file (0 bytes)": ["h0.png"], "cannot be opened: Permission denied": ["s3.png"]}


class TestTable:
    def write(self, root, *, split=None, **columns):
        """Write a table of the pictures, which lies beside them."""
        paths = sorted(root.rglob("*.png"))
        table = pd.DataFrame({"image": [path.relative_to(root).as_posix() for path in paths]})
        table["label"] = ["sick" if path.name.startswith("s") else "healthy" for path in paths]
        table = table.assign(**columns)
        if split is not None:
            table["split"] = split(table)
        table.to_csv(root / "own.csv", index=False)
        return {"table": root / "own.csv", "least_train": 1}

    def test_the_same_as_folders(self, root):
        by_table = tables(fitted(None, **self.write(root)))
        by_folder = tables(fitted(root, **BOTH))
        assert [set(table.image_path) for table in by_table] == [set(table.image_path) for table in by_folder]

    def test_columns_reach_the_samples(self, root):
        settings = self.write(
            root, hospital="north", patient=[f"p{n // 2}" for n in range(36)], view="AP", sex="f", age=40
        )
        samples = ChestXrayFolder(**settings).make_samples()
        assert set(samples.source) == {"north"}
        assert len(samples.patient.unique()) == 18
        assert samples.groupby("patient").split.nunique().max() == 1
        assert (set(samples["view"]), set(samples.sex), set(samples.age)) == ({"AP"}, {"F"}, {40.0})

    def test_splits_of_the_table(self, root):
        def split(table):
            number = table.image.str.extract(r"(\d+)\.png")[0].astype(int)
            held_out = np.where(number % 2, "val", "test")
            return np.where((table.label == "sick") | (number < 6), held_out, np.where(number == 29, "unused", "train"))

        train, val, test = tables(fitted(None, **self.write(root, split=split), seed=5))
        assert (len(train), len(val), len(test)) == (23, 6, 6)
        assert {int(Path(path).stem[1:]) % 2 for path in val.image_path} == {1}

    def test_a_patient_in_two_splits(self, root):
        splits = ["train", "val", "test", "test", *["train"] * 26, *["val", "test"] * 3]
        patients = ["a", "a", "b", "b", *(f"p{number}" for number in range(32))]
        with pytest.raises(DatasetError, match="2 X-rays of patients who are in two splits") as caught:
            fitted(None, **self.write(root, patient=patients, split=lambda _: splits))
        assert {reason: len(paths) for reason, paths in caught.value.offenders.items()} == {
            "a patient in train and val": 2
        }


class TestMasks:
    def test_of_anomalies(self, root):
        for number in range(6):
            write_mask(root / f"masks/s{number}.png")
        datamodule = fitted(root, **BOTH, mask_dir="masks", eval_batch_size=9)
        assert datamodule.task == TaskType.SEGMENTATION
        batch = next(iter(datamodule.test_dataloader()))
        assert batch.gt_mask.flatten(1).any(1).tolist() == batch.gt_label.tolist()

    def test_of_lungs(self, root):
        for number in range(30):
            write_mask(root / f"lungs/{number % 3}/h{number}.png")
        datamodule = fitted(root, **BOTH, lung_mask_dir="lungs", masks="required", train_batch_size=4)
        assert datamodule.task == TaskType.CLASSIFICATION
        assert next(iter(datamodule.train_dataloader())).roi_mask.flatten(1).sum(1).tolist() == [256] * 4

    def test_of_lungs_are_predicted_by_path(self, root, monkeypatch):
        def all_but_one(images, folder, segmenter, white, mask_root):
            masks = MaskFolder(folder, mask_root)
            for image in images[1:]:
                write_mask(masks.mask_path(image))
            return prediction.Prediction(len(images) - 1, {})

        monkeypatch.setattr(prediction, "predict_masks", all_but_one)
        for number in range(3):
            (root / f"healthy/{number}/h{number}.png").rename(root / f"healthy/{number}/same.png")
        datamodule = ChestXrayFolder(root, **SMALL, masks="predict", seed=2)
        datamodule.prepare_data()
        datamodule.setup("fit")
        samples = pd.concat(tables(datamodule)[:2])
        masked = samples[samples.roi_mask_paths.map(len) == 1]
        assert len(masked) == 29
        masks = [Path(path).relative_to(root / "predicted_masks") for (path,) in masked.roi_mask_paths]
        assert masks == [Path(f"{path}.png").relative_to(root) for path in masked.image_path]
        assert datamodule.train_data.has_roi_masks

    def test_of_lungs_required_and_none(self, root):
        with pytest.raises(DatasetError, match=r"27 X-rays of .* to train on, none of them with a lung mask"):
            fitted(root, **SMALL, masks="required")

    def test_that_do_not_fit(self, root):
        for name in ("s0", "s1", "s2", "s3", "1/h1", "2/h2"):
            write_mask(root / f"masks/{name}.png")
        with pytest.raises(DatasetError, match="do not fit the masks") as caught:
            fitted(root, **BOTH, mask_dir="masks")
        offenders = {reason: [path.stem for path in paths] for reason, paths in caught.value.offenders.items()}
        assert offenders == {
            "abnormal, without a mask": ["s4", "s5"],
            "healthy, with a mask of an anomaly": ["h1", "h2"],
        }
        assert "lung_mask_dir" in caught.value.next_step


class TestBadInput:
    def test_too_few_before_a_file_is_opened(self, root):
        for path in root.rglob("*.png"):
            path.write_bytes(b"broken")
        with pytest.raises(DatasetError, match="30 healthy X-rays to train on, of 30 healthy and 6 abnormal"):
            fitted(root, **{**BOTH, "least_train": 60})

    def test_sixty_by_default(self, root):
        with pytest.raises(DatasetError, match="30 healthy X-rays to train on"):
            fitted(root, normal_dir="healthy")

    def test_too_few_after_the_split(self, root):
        with pytest.raises(DatasetError, match="21 healthy X-rays to train on"):
            fitted(root, **{**BOTH, "least_train": 25})

    def test_a_single_abnormal_one(self, root):
        for number in range(1, 6):
            (root / f"sick/s{number}.png").unlink()
        with pytest.raises(DatasetError, match=r"no abnormal X-ray in (val|test)"):
            fitted(root, **BOTH)

    def test_damaged_files_are_named_at_once_or_skipped(self, root, caplog):
        broken = [root / "healthy/0/h0.png", root / "sick/s5.png"]
        for path in broken:
            path.write_bytes(path.read_bytes()[:50])
        with pytest.raises(DatasetError, match="2 of 36 X-rays with files that cannot be used") as caught:
            fitted(root, **BOTH)
        assert sorted(path for paths in caught.value.offenders.values() for path in paths) == sorted(broken)
        with caplog.at_level(logging.WARNING):
            sets = tables(fitted(root, **BOTH, on_error="skip"))
        assert sum(map(len, sets)) == 34
        assert all(path.name in caplog.text for path in broken)

    def test_copies_with_two_labels(self, root):
        shutil.copy(root / "healthy/0/h0.png", root / "sick/copy.png")
        with pytest.raises(DatasetError, match="2 X-rays that are copies of each other with two labels"):
            fitted(root, **BOTH)

    def test_copies_stay_in_one_split(self, root, caplog):
        for number in range(30):
            shutil.copy(root / f"healthy/{number % 3}/h{number}.png", root / f"healthy/copy{number}.png")
        sets = tables(fitted(root, **BOTH))
        numbers = [
            {int(re.search(r"\d+$", Path(path).stem)[0]) for path in table.image_path if "healthy" in path}
            for table in sets
        ]
        assert sum(map(len, numbers)) == 30
        assert "nearly identical" not in caplog.text

    def test_near_copies_in_two_splits_are_named(self, root, caplog):
        Image.open(root / "healthy/0/h0.png").resize((64, 64), Image.Resampling.BICUBIC).save(root / "healthy/near.png")
        names = {"healthy/near.png": "test", "healthy/0/h0.png": "train", "healthy/1/h1.png": "val"}
        rows = [f"{name},healthy,{split}" for name, split in names.items()]
        rows += [f"sick/s{number}.png,sick,{('val', 'test')[number]}" for number in range(2)]
        (root / "own.csv").write_text("\n".join(["image,label,split", *rows]))
        with caplog.at_level(logging.WARNING):
            fitted(None, table=root / "own.csv", least_train=1)
        assert "1 pairs of nearly identical X-rays" in caplog.text
        assert f"{root}/healthy/0/h0.png (train, normal) and {root}/healthy/near.png (test, normal)" in caplog.text

    @pytest.mark.parametrize(
        ("settings", "found"),
        [
            ({"normal_split_ratio": 1.0}, "normal_split_ratio = 1.0"),
            ({"val_split_ratio": 0.0}, "val_split_ratio = 0.0"),
            ({"normal_split_ratio": 0.6, "val_split_ratio": 0.4}, "normal_split_ratio = 0.6"),
            ({"least_train": 0}, "least_train = 0"),
            ({"mask_dir": "masks"}, "mask_dir = 'masks'"),
            ({"on_error": "ignore"}, "on_error = 'ignore'"),
            ({"root": None}, "root = None"),
            ({"normal_dir": None}, "normal_dir = None"),
            ({"table": "own.csv", "mask_dir": "masks"}, "normal_dir = 'healthy', mask_dir = 'masks'"),
        ],
    )
    def test_settings_are_refused_at_construction(self, settings, found):
        with pytest.raises(SettingError, match=found):
            ChestXrayFolder(**{"root": "nowhere", "normal_dir": "healthy", **settings})
