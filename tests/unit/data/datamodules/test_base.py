"""The base data module: refusals before training, its three sets, and its batches."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.data import AnomalibDataModule
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image
from torchvision.transforms import v2

from anomalib_cxr.data.datamodules.base import RoiDataModule
from anomalib_cxr.errors import DatasetError, SettingError
from anomalib_cxr.models.base.pre_processor import RoiPreProcessor
from anomalib_cxr.segmentation import packaged

MODULE = "anomalib_cxr.data.datamodules.base"


def names(dataset):
    return {path.rpartition("/")[2] for path in dataset.samples.image_path}


def subsets(datamodule):
    return {split: names(getattr(datamodule, f"{split}_data")) for split in ("train", "val", "test")}


def fitted(root, **settings):
    datamodule = RoiDataModule(root, **settings)
    datamodule.setup(TrainerFn.FITTING)
    return datamodule


def remove(root, pattern):
    for path in root.rglob(pattern):
        path.unlink()
    return root


class TestRefusedBeforeTraining:
    def test_missing_root(self, tmp_path):
        with pytest.raises(DatasetError, match=r"no folder .*nowhere\n(?s:.*)data.init_args.download to true"):
            RoiDataModule(tmp_path / "nowhere").setup("fit")

    def test_empty_root(self, tmp_path):
        with pytest.raises(DatasetError, match="which is empty"):
            RoiDataModule(tmp_path).setup("fit")

    def test_unknown_layout(self, tmp_path):
        (tmp_path / "scans").mkdir()
        with pytest.raises(DatasetError, match=r"with scans, and no X-ray(?s:.*)expected: one of\n"):
            RoiDataModule(tmp_path).setup("fit")

    def test_names_that_tell_nothing(self, editable, phantom_root):
        root = editable(phantom_root)
        shutil.copy(root / "CXR_png/PHANTOM_0000_0.png", root / "CXR_png/scan.png")
        with pytest.raises(DatasetError, match=r"name without hospital, number and label \(1\):\n\s+\S*scan.png"):
            RoiDataModule(root).setup("fit")

    def test_all_broken_files_at_once(self, editable, phantom_root):
        root = editable(phantom_root)
        image, mask = root / "CXR_png/PHANTOM_0001_0.png", root / "masks/PHANTOM_0002_0.png"
        text = root / "CXR_png/PHANTOM_0011_1.png"
        image.write_bytes(image.read_bytes()[:500])
        mask.write_bytes(b"")
        text.write_text("no image")
        with pytest.raises(DatasetError, match="3 of 15 X-rays with files that cannot be used") as caught:
            RoiDataModule(root).setup("fit")
        assert {path for paths in caught.value.offenders.values() for path in paths} == {image, mask, text}

    def test_skipping_broken_files(self, editable, phantom_root, caplog):
        root = editable(phantom_root)
        for stem in ("PHANTOM_0001_0", "PHANTOM_0011_1"):
            (root / f"CXR_png/{stem}.png").write_bytes(b"")
        with caplog.at_level(logging.WARNING):
            datamodule = fitted(root, on_error="skip")
        assert sum(map(len, subsets(datamodule).values())) == 13
        assert caplog.text.count("empty file (0 bytes) (2):") == 1

    def test_nothing_is_left_after_skipping(self, editable, phantom_root):
        root = editable(phantom_root)
        for path in (root / "CXR_png").iterdir():
            path.write_bytes(b"")
        with pytest.raises(DatasetError, match="too few images for protocol 'holdout': none is left"):
            RoiDataModule(root, on_error="skip").setup("fit")

    def test_no_normal_images(self, editable, phantom_root):
        root = remove(editable(phantom_root), "*_0.png")
        with pytest.raises(DatasetError, match=r"5 X-rays in \S+, none of them normal"):
            RoiDataModule(root).setup("fit")

    def test_fewer_than_a_split_needs(self, editable, phantom_root):
        root = remove(editable(phantom_root), "*_1.png")
        with pytest.raises(DatasetError, match="phantom has 10 normal to train on and 0 sick, needed are 3 and 2"):
            RoiDataModule(root).setup("fit")

    def test_no_lung_masks_at_all(self, unmasked_root):
        with pytest.raises(
            DatasetError, match=r"10 normal X-rays of shenzhen in .*none of them with a lung mask"
        ) as caught:
            RoiDataModule(unmasked_root).setup("fit")
        for part in (
            "yoctoman/shcxr-lung-mask from Kaggle",
            "account",
            "folder mask/ into the root",
            "init_args.masks",
        ):
            assert part in caught.value.next_step

    def test_no_lung_masks_of_one_hospital(self, tmp_path, montgomery_root, unmasked_root):
        for root in (montgomery_root, unmasked_root):
            shutil.copytree(root, tmp_path, dirs_exist_ok=True)
        with pytest.raises(DatasetError, match=r"10 normal X-rays of shenzhen in .*none of them with a lung mask"):
            RoiDataModule(tmp_path).setup("fit")
        assert len(fitted(tmp_path, sources=("montgomery",)).train_data) == 7

    def test_none_of_the_chosen_sources(self, merged_root):
        with pytest.raises(DatasetError, match=r"X-rays of shenzhen \(15\), montgomery \(15\) only") as caught:
            RoiDataModule(merged_root, sources=("phantom",)).setup("fit")
        assert caught.value.expected == "X-rays of phantom"


class TestSettings:
    @pytest.mark.parametrize(
        ("setting", "expected"),
        [
            ({"protocol": "kfold"}, "protocol = 'kfold'\n  expected: protocol one of holdout, dissertation"),
            ({"masks": "none"}, "masks = 'none'\n  expected: masks one of required, optional"),
            ({"on_error": "ignore"}, "on_error = 'ignore'\n  expected: on_error one of raise, skip"),
            ({"train_batch_size": 0}, "train_batch_size = 0\n  expected: train_batch_size >= 1 and whole"),
            ({"eval_batch_size": -1}, "eval_batch_size = -1\n  expected: eval_batch_size >= 1 and whole"),
            ({"num_workers": -1}, "num_workers = -1\n  expected: num_workers >= 0"),
            ({"seed": -1}, "seed = -1\n  expected: seed >= 0"),
        ],
    )
    def test_refused_at_construction(self, setting, expected):
        with pytest.raises(SettingError, match=expected):
            RoiDataModule("nowhere", **setting)

    def test_all_wrong_names_at_once(self):
        with pytest.raises(SettingError, match="protocol = 'a', masks = 'b', on_error = 'c'"):
            RoiDataModule("nowhere", protocol="a", masks="b", on_error="c")

    def test_from_a_configuration(self, tmp_path, merged_root):
        (tmp_path / "data.yaml").write_text(f"""
class_path: {MODULE}.RoiDataModule
init_args:
  root: {merged_root}
  sources: [shenzhen]
  protocol: dissertation
  masks: optional
  train_batch_size: 3
  train_augmentations:
    class_path: torchvision.transforms.v2.RandomHorizontalFlip
  seed: 7
""")
        datamodule = AnomalibDataModule.from_config(tmp_path / "data.yaml")
        assert (datamodule.sources, datamodule.protocol, datamodule.masks) == (
            ("shenzhen",),
            "dissertation",
            "optional",
        )
        datamodule.setup("fit")
        assert isinstance(datamodule.train_data.augmentations, v2.RandomHorizontalFlip)
        assert datamodule.val_data.augmentations is None
        assert len(next(iter(datamodule.train_dataloader())).image) == 3


class TestDropLast:
    def test_only_whole_batches(self, phantom_root):
        datamodule = fitted(phantom_root, train_batch_size=4, drop_last=True)
        assert len(datamodule.train_data) % 4
        assert {len(batch.image) for batch in datamodule.train_dataloader()} == {4}
        assert len(datamodule.train_dataloader()) == len(datamodule.train_data) // 4

    def test_refuses_to_drop_all(self, phantom_root):
        datamodule = fitted(phantom_root, train_batch_size=64, drop_last=True)
        with pytest.raises(SettingError, match=r"drop_last with \d+ training images and train_batch_size = 64"):
            datamodule.train_dataloader()


class TestSets:
    @pytest.mark.parametrize("protocol", ["holdout", "dissertation"])
    @pytest.mark.parametrize("masks", ["required", "optional"])
    @pytest.mark.parametrize("layout", ["phantom_root", "side_by_side_root"])
    def test_anomalib_leaves_the_drawn_sets_alone(self, request, layout, protocol, masks):
        root = request.getfixturevalue(layout)
        datamodule = RoiDataModule(root, protocol=protocol, masks=masks)
        drawn = datamodule.make_samples()
        datamodule.setup(TrainerFn.FITTING)
        expected = {
            split: {path.rpartition("/")[2] for path in drawn.image_path[drawn.split == split]}
            for split in ("train", "val")
        }
        if protocol == "dissertation":
            expected["test"] = expected["val"]
        else:
            expected["test"] = {path.rpartition("/")[2] for path in drawn.image_path[drawn.split == "test"]}
        assert subsets(datamodule) == expected
        assert all(len(dataset) == len(names(dataset)) for dataset in (datamodule.val_data, datamodule.test_data))
        assert datamodule.train_data.task == datamodule.val_data.task == datamodule.test_data.task

    def test_disjoint(self, merged_root):
        sets = subsets(fitted(merged_root))
        assert sum(map(len, sets.values())) == len(set.union(*sets.values())) == 30

    def test_only_normal_images_train(self, merged_root):
        assert not fitted(merged_root).train_data.has_anomalous

    def test_a_trainer_that_tests_draws_no_second_time(self, phantom_root):
        datamodule = fitted(phantom_root)
        before = datamodule.test_data
        datamodule.setup(TrainerFn.TESTING)
        assert datamodule.test_data is before

    def test_seeds(self, phantom_root):
        assert subsets(fitted(phantom_root, seed=1)) == subsets(fitted(phantom_root, seed=1))
        assert subsets(fitted(phantom_root, seed=1)) != subsets(fitted(phantom_root, seed=2))

    def test_every_layout_of_the_same_images_is_split_alike(self, side_by_side_root, merged_root):
        assert subsets(fitted(side_by_side_root)) == subsets(fitted(merged_root))

    def test_dissertation_validates_on_its_test_set(self, phantom_root):
        datamodule = fitted(phantom_root, protocol="dissertation")
        assert subsets(datamodule)["test"] == subsets(datamodule)["val"]
        assert datamodule.test_data is not datamodule.val_data

    def test_sources(self, merged_root):
        sets = subsets(fitted(merged_root, sources=("shenzhen",)))
        assert all(name.startswith("CHNCXR") for chosen in sets.values() for name in chosen)

    @pytest.mark.parametrize("seed", range(5))
    def test_images_without_a_mask_never_train_but_test(self, shenzhen_root, seed):
        sets = subsets(fitted(shenzhen_root, seed=seed))
        assert "CHNCXR_0000_0.png" in sets["test"]
        assert "CHNCXR_0014_1.png" in sets["val"] | sets["test"]

    def test_images_without_a_mask_may_train_when_masks_are_optional(self, unmasked_root):
        datamodule = fitted(unmasked_root, masks="optional")
        assert len(datamodule.train_data) == 7
        assert next(iter(datamodule.train_dataloader())).roi_mask is None

    def test_what_went_where_is_logged(self, phantom_root, caplog):
        with caplog.at_level(logging.INFO, MODULE):
            fitted(phantom_root, seed=4)
        (record,) = caplog.records
        assert record.getMessage().splitlines() == [
            "RoiDataModule, protocol 'holdout', seed 4:",
            "phantom: train 7 normal; val 1 normal + 1 sick; test 2 normal + 4 sick; unused 0",
        ]


class TestPredictedMasks:
    def prepared(self, root, **settings):
        datamodule = RoiDataModule(root, masks="predict", **settings)
        datamodule.prepare_data()
        datamodule.setup(TrainerFn.FITTING)
        return datamodule

    def test_trains_on_what_was_predicted(self, editable, unmasked_root, segmenter_path):
        root = editable(unmasked_root)
        datamodule = self.prepared(root, segmenter=segmenter_path)
        assert len(datamodule.train_data) == 7
        assert next(iter(datamodule.train_dataloader())).roi_mask.any()
        assert len(list((root / "predicted_masks").glob("*.png"))) == 15

    def test_masks_elsewhere_leave_the_root_alone(self, unmasked_root, segmenter_path, tmp_path):
        before = set(unmasked_root.rglob("*"))
        datamodule = self.prepared(unmasked_root, segmenter=segmenter_path, predicted_masks=tmp_path / "masks")
        assert set(unmasked_root.rglob("*")) == before
        assert {Path(paths[0]).parent for paths in datamodule.train_data.samples.roi_mask_paths} == {tmp_path / "masks"}
        assert len(fitted(unmasked_root, predicted_masks=tmp_path / "masks").train_data) == 7

    def test_without_lungs_none_trains(self, editable, unmasked_root, segmenter_path, caplog):
        root = editable(unmasked_root)
        image = next(root.rglob("CHNCXR_0002_0.png"))
        Image.new("L", (64, 64)).save(image)
        with caplog.at_level(logging.WARNING, MODULE):
            datamodule = self.prepared(root, segmenter=segmenter_path)
        assert f"No lung mask for 1 images: no plausible lungs found; such as {image}" in caplog.text
        assert image.name in names(datamodule.test_data)

    def test_only_the_chosen_hospitals(self, editable, merged_root, segmenter_path):
        root = editable(merged_root)
        self.prepared(root, segmenter=segmenter_path, sources=("montgomery",))
        assert not (root / "predicted_masks").exists()

    def test_without_a_segmenter_by_that_of_the_package(self, unmasked_root, tmp_path):
        self.prepared(unmasked_root, predicted_masks=tmp_path)
        assert len(list(tmp_path.glob("*.png"))) == 15
        record = json.loads((tmp_path / "segmenter.json").read_text())
        assert record["sha256"] == packaged.SHA256

    def test_segmenter_goes_with_predict(self, phantom_root):
        with pytest.raises(SettingError, match=r"segmenter = (?s:.*)null with masks: predict, null without"):
            RoiDataModule(phantom_root, masks="required", segmenter="lungs.pt")


class TestHospitalLeftOut:
    def test_one_hospital_is_tested_only(self, side_by_side_root):
        datamodule = fitted(side_by_side_root, protocol="hospital", test_source="montgomery")
        assert set(datamodule.test_data.samples.source) == {"montgomery"}
        assert len(datamodule.test_data) == 15
        for subset in (datamodule.train_data, datamodule.val_data):
            assert set(subset.samples.source) == {"shenzhen"}
        assert datamodule.train_data.samples.label_index.sum() == 0

    @pytest.mark.parametrize("settings", [{"protocol": "hospital"}, {"test_source": "montgomery"}])
    def test_the_hospital_goes_with_the_protocol(self, phantom_root, settings):
        with pytest.raises(SettingError, match=r"test_source = (?s:.*)a hospital with protocol: hospital, null"):
            RoiDataModule(phantom_root, **settings)

    def test_the_number_that_trains(self, side_by_side_root):
        datamodule = fitted(side_by_side_root, protocol="hospital", test_source="montgomery", n_train=3)
        assert len(datamodule.train_data) == 3

    def test_the_number_that_trains_goes_with_the_protocol(self, phantom_root):
        with pytest.raises(SettingError, match=r"n_train = 3(?s:.*)null with protocol: hospital, null without"):
            RoiDataModule(phantom_root, n_train=3)


class TestBatches:
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_batches_of_all_sets(self, phantom_root, num_workers):
        datamodule = fitted(phantom_root, train_batch_size=4, eval_batch_size=3, num_workers=num_workers)
        loaders = (datamodule.train_dataloader(), datamodule.val_dataloader(), datamodule.test_dataloader())
        sizes = [[len(batch.image) for batch in loader] for loader in loaders]
        assert sizes == [[4, 3], [2], [3, 3]]
        batch = next(iter(loaders[0]))
        assert (batch.image.shape, batch.roi_mask.shape) == ((4, 3, 64, 64), (4, 64, 64))
        assert 0 <= batch.image.min() < batch.image.max() <= 1
        assert 0.1 < batch.roi_mask.float().mean() < 0.6
        assert not batch.gt_mask.any()

    def test_training_is_shuffled_and_the_rest_is_not(self, phantom_root):
        datamodule = fitted(phantom_root)
        torch.manual_seed(0)
        orders = [next(iter(datamodule.train_dataloader())).image_path for _ in range(4)]
        assert any(order != orders[0] for order in orders)
        tested = next(iter(datamodule.test_dataloader())).image_path
        assert tested == sorted(tested)

    def test_augmentations_of_the_stage_come_before_the_general_ones(self, phantom_root):
        flip, turn = v2.RandomHorizontalFlip(p=1), v2.RandomVerticalFlip(p=1)
        datamodule = fitted(phantom_root, train_augmentations=flip, augmentations=turn)
        sets = (datamodule.train_data, datamodule.val_data, datamodule.test_data)
        assert [dataset.augmentations for dataset in sets] == [flip, turn, turn]

    def test_white_of_sixteen_bit_images_is_a_setting(self, editable, phantom_root, tmp_path):
        root = editable(phantom_root)
        for path in (root / "CXR_png").iterdir():
            twelve = np.asarray(Image.open(path)).astype(np.uint16) * 16
            Image.fromarray(twelve).save(path)
        settings = {"cache_folder": tmp_path}
        trainer = SimpleNamespace(model=SimpleNamespace(pre_processor=RoiPreProcessor(32)))
        brightest = []
        for white in (4080, 65280):  # the second reads nothing that the first one has cached
            datamodule = RoiDataModule(root, sixteen_bit_white=white, **settings)
            datamodule.trainer = trainer
            datamodule.setup(TrainerFn.FITTING)
            brightest.append(datamodule.train_data[0].image.max().item())
        assert brightest[0] == pytest.approx(16 * brightest[1])
        with pytest.raises(DatasetError, match="12 bits in use, or a dark picture: sixteen_bit_white has to be set"):
            fitted(root, **settings)
        with pytest.raises(SettingError, match="sixteen_bit_white from 255 to 65535"):
            RoiDataModule(root, sixteen_bit_white=12)

    @pytest.mark.parametrize("augmentations", [None, v2.RandomHorizontalFlip(p=1)])
    def test_the_model_s_resizing_makes_images_of_any_size_one_batch(self, editable, phantom_root, augmentations):
        root = editable(phantom_root)
        for folder in ("CXR_png", "masks"):
            path = root / folder / "PHANTOM_0003_0.png"
            Image.open(path).resize((96, 80)).save(path)
        datamodule = RoiDataModule(root, augmentations=augmentations)
        datamodule.trainer = SimpleNamespace(model=SimpleNamespace(pre_processor=RoiPreProcessor(32)))
        datamodule.setup(TrainerFn.FITTING)
        loaders = (datamodule.train_dataloader(), datamodule.val_dataloader(), datamodule.test_dataloader())
        for batch in (next(iter(loader)) for loader in loaders):
            assert batch.image.shape[1:] == (3, 32, 32)
            assert batch.roi_mask.shape[1:] == batch.gt_mask.shape[1:] == (32, 32)
            assert batch.roi_mask.dtype == batch.gt_mask.dtype == torch.bool
            assert batch.roi_mask.flatten(1).any(1).all()


@pytest.mark.real_data
def test_the_real_images(real_root):
    datamodule = fitted(real_root, sources=("montgomery", "shenzhen"), protocol="dissertation")
    validating = datamodule.val_data.samples
    assert len(datamodule.train_data) + (validating.label_index == 0).sum() == 344
    assert (validating.label_index == 0).sum() == (validating.label_index == 1).sum() == 34
    batch = next(iter(datamodule.val_dataloader()))
    assert batch.image.shape == (32, 3, 256, 256)
    assert batch.roi_mask.shape == (32, 256, 256)


class TestCache:
    """Where decoded images are kept; see `test_image_cache.py` for what is kept."""

    @pytest.fixture
    def made(self, phantom_root, tmp_path):
        """Make a data module as a trainer of a model at some size has it."""

        def make(size=32, root=phantom_root, **settings):
            datamodule = RoiDataModule(root, cache_folder=tmp_path / "caches", **settings)
            datamodule.trainer = SimpleNamespace(model=SimpleNamespace(pre_processor=RoiPreProcessor(size)))
            return datamodule

        return make

    @pytest.fixture
    def caches(self, tmp_path):
        return lambda: sorted(path.name.rpartition("-")[2] for path in tmp_path.glob("caches/*"))

    def test_all_splits_of_a_set_at_one_size_share_one(self, made, caches):
        for seed in range(2):
            made(seed=seed).setup(TrainerFn.FITTING)
        assert caches() == ["32x32"]

    def test_batches_are_the_same(self, made):
        batches = []
        for cache in (True, False):
            datamodule = made(cache=cache, num_workers=1)
            datamodule.setup(TrainerFn.FITTING)
            batches.append(next(iter(datamodule.test_dataloader())))
        for name in ("image", "roi_mask", "gt_mask"):
            assert torch.equal(*(getattr(batch, name) for batch in batches))

    def test_its_place_is_logged(self, made, tmp_path, caplog):
        with caplog.at_level(logging.INFO, logger=MODULE):
            made().setup(TrainerFn.FITTING)
        (message,) = [record.getMessage() for record in caplog.records if "Cache" in record.getMessage()]
        (directory,) = tmp_path.glob("caches/*")
        assert message == f"Cache of 15 decoded images: {directory}"

    def test_nothing_is_decoded_twice(self, made, monkeypatch):
        made().setup(TrainerFn.FITTING)
        datamodule = made(seed=1)
        for name in ("image_cache.check_sample", "image_cache.read_sample", "dataset.read_sample"):
            monkeypatch.setattr(f"anomalib_cxr.data.datasets.{name}", None)
        datamodule.setup(TrainerFn.FITTING)
        assert len(list(datamodule.train_dataloader())) > 0

    def test_another_model_gets_its_own(self, made, caches):
        datamodule = made()
        datamodule.setup(TrainerFn.FITTING)
        datamodule.trainer.model.pre_processor = RoiPreProcessor(16)
        datamodule.setup(TrainerFn.FITTING)
        assert datamodule.train_data[0].image.shape[-1] == 16
        assert caches() == ["16x16", "32x32"]

    def test_switched_off(self, made, caches):
        datamodule = made(cache=False)
        datamodule.setup(TrainerFn.FITTING)
        assert datamodule.train_data[0].image.shape[-1] == 32
        assert caches() == []

    def test_without_a_model_there_is_no_size(self, phantom_root, tmp_path, caches):
        RoiDataModule(phantom_root, cache_folder=tmp_path / "caches").setup("fit")
        assert caches() == []

    def test_broken_files_are_told_as_without(self, made, editable, phantom_root):
        root = editable(phantom_root)
        for path in sorted(root.glob("CXR_png/*_0.png"))[:2]:
            path.write_bytes(b"")
        said = []
        for cache in (True, False):
            with pytest.raises(DatasetError) as error:
                made(root=root, cache=cache).setup(TrainerFn.FITTING)
            said.append(str(error.value))
        assert said[0] == said[1]
        assert "2 of" in said[0]

    def test_broken_files_are_left_out(self, made, editable, phantom_root):
        root = editable(phantom_root)
        broken = min(root.glob("CXR_png/*_0.png"))
        broken.write_bytes(b"")
        for _ in range(2):
            datamodule = made(root=root, on_error="skip")
            datamodule.setup(TrainerFn.FITTING)
            assert broken.name not in set.union(*subsets(datamodule).values())

    def test_a_bound_that_is_none(self, made):
        with pytest.raises(SettingError, match="cache_gigabytes >= 0"):
            made(cache_gigabytes=-1)
