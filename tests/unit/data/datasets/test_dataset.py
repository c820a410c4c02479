"""Datasets: scales and shapes of items and batches, masks that move with their image, files of a folder."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib import TaskType
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from anomalib_cxr import RadiographFolder
from anomalib_cxr.data.datasets.dataclasses import RoiImageBatch, RoiImageItem
from anomalib_cxr.data.datasets.dataset import RoiDataset
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.errors import DatasetError, SettingError

GRAY = np.arange(32 * 40, dtype=np.uint32).reshape(32, 40) * 255 // (32 * 40 - 1)


@pytest.fixture(scope="module")
def phantoms(phantom_root):
    return make_samples(phantom_root)


@pytest.fixture
def twin(tmp_path):
    """A table of one image that equals its lung mask and its lesion mask, asymmetric in both directions."""
    picture = np.zeros((48, 40), np.uint8)
    picture[5:20, 4:16] = 255
    picture[30:34, 8:30] = 255
    path = tmp_path / "picture.png"
    Image.fromarray(picture).save(path)
    row = {"image_path": str(path), "mask_path": str(path), "roi_mask_paths": (str(path),), "label_index": 1}
    samples = pd.DataFrame([{**row, "split": "train"}])
    samples.attrs["task"] = TaskType.SEGMENTATION
    return samples


def gray(path):
    return np.asarray(Image.open(path))


class TestItem:
    def test_image_and_masks_are_those_of_the_files(self, phantom_root, phantoms):
        item = RoiDataset(phantoms)[12]
        name = "PHANTOM_0012_1.png"
        assert isinstance(item, RoiImageItem)
        assert item.image_path == str(phantom_root / "CXR_png" / name)
        assert (item.image.shape, item.image.dtype) == ((3, 64, 64), torch.float32)
        for channel in item.image:
            np.testing.assert_allclose(channel.numpy(), gray(phantom_root / "CXR_png" / name) / 255, rtol=1e-6)
        np.testing.assert_array_equal(item.roi_mask.numpy(), gray(phantom_root / "masks" / name) > 0)
        np.testing.assert_array_equal(item.gt_mask.numpy(), gray(phantom_root / "lesions" / name) > 0)
        assert item.gt_label.item() is True

    def test_a_normal_image_has_no_lesion(self, phantoms):
        item = RoiDataset(phantoms)[0]
        assert item.gt_mask.shape == (64, 64)
        assert not item.gt_mask.any()
        assert item.roi_mask.any()
        assert item.gt_label.item() is False

    def test_lung_masks_are_no_ground_truth(self, montgomery_root):
        dataset = RoiDataset(make_samples(montgomery_root))
        assert dataset.task == TaskType.CLASSIFICATION
        assert all(item.gt_mask is None and item.roi_mask.any() for item in map(dataset.__getitem__, (0, 14)))

    def test_left_and_right_mask_are_merged(self, montgomery_root, montgomery_files):
        dataset = RoiDataset(make_samples(montgomery_root))
        for index in (0, 7, 14):
            item = dataset[index]
            whole = gray(montgomery_files / "masks" / item.image_path.rpartition("/")[2]) > 0
            np.testing.assert_array_equal(item.roi_mask.numpy(), whole)

    def test_no_masks_at_all_where_one_is_missing(self, shenzhen_root):
        samples = make_samples(shenzhen_root)
        assert RoiDataset(samples)[1].roi_mask is None  # its own mask is there
        masked = samples[samples.roi_mask_paths.map(len) > 0]
        assert len(masked) == 13
        assert RoiDataset(masked)[1].roi_mask is not None


class TestAugmentations:
    @pytest.mark.parametrize(
        "augmentation",
        [
            v2.RandomHorizontalFlip(p=1),
            v2.RandomVerticalFlip(p=1),
            v2.RandomAffine(degrees=20, translate=(0.2, 0.2), scale=(0.7, 1.3), shear=10),
            v2.RandomRotation(degrees=(90, 90), expand=True),
            v2.RandomResizedCrop((32, 32), scale=(0.5, 0.9), interpolation=v2.InterpolationMode.NEAREST),
            v2.RandomPerspective(p=1, interpolation=v2.InterpolationMode.NEAREST),
            v2.Compose([v2.RandomHorizontalFlip(p=1), v2.RandomCrop((24, 24))]),
        ],
        ids=lambda augmentation: type(augmentation).__name__,
    )
    def test_image_and_masks_move_together(self, twin, augmentation):
        plain = RoiDataset(twin)[0]
        torch.manual_seed(0)
        item = RoiDataset(twin, augmentation)[0]
        assert not torch.equal(item.image, plain.image)
        assert item.image.shape[-2:] == item.roi_mask.shape == item.gt_mask.shape
        assert 0 < item.roi_mask.float().mean() < 1
        torch.testing.assert_close(item.image[0] > 0.5, item.roi_mask.as_subclass(torch.Tensor))
        torch.testing.assert_close(item.image[0] > 0.5, item.gt_mask.as_subclass(torch.Tensor))

    def test_gray_levels_change_in_the_image_only(self, twin):
        item = RoiDataset(twin, v2.ColorJitter(brightness=(0.5, 0.5)))[0]
        assert item.image.max().item() == pytest.approx(0.5)
        assert torch.equal(item.roi_mask, RoiDataset(twin)[0].roi_mask)

    def test_without_masks(self, twin):
        twin["roi_mask_paths"] = [()]
        twin.attrs["task"] = TaskType.CLASSIFICATION
        item = RoiDataset(twin, v2.RandomHorizontalFlip(p=1))[0]
        assert item.roi_mask is None
        assert item.gt_mask is None
        torch.testing.assert_close(item.image.flip(-1), RoiDataset(twin)[0].image)

    @pytest.mark.parametrize("size", [(24, 20), (96, 80)])
    def test_resizing_keeps_masks_binary_and_in_place(self, twin, size):
        item = RoiDataset(twin, v2.Resize(size, antialias=True))[0]
        assert item.image.shape == (3, *size)
        assert (item.roi_mask.shape, item.roi_mask.dtype) == (size, torch.bool)
        agreement = (item.image[0] > 0.5) == item.roi_mask.as_subclass(torch.Tensor)
        assert agreement.float().mean() > 0.95


class TestBatches:
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_through_the_loader(self, phantoms, num_workers):
        dataset = RoiDataset(phantoms, v2.Resize((32, 32), antialias=True))
        loader = DataLoader(dataset, batch_size=6, num_workers=num_workers, collate_fn=dataset.collate_fn)
        batches = list(loader)
        assert [type(batch) for batch in batches] == [RoiImageBatch] * 3
        assert [batch.image.shape for batch in batches] == [(6, 3, 32, 32), (6, 3, 32, 32), (3, 3, 32, 32)]
        assert [batch.roi_mask.shape for batch in batches] == [(6, 32, 32), (6, 32, 32), (3, 32, 32)]
        expected = dataset[13]
        torch.testing.assert_close(batches[2].image[1], expected.image)
        assert torch.equal(batches[2].roi_mask[1], expected.roi_mask)
        assert torch.equal(batches[2].gt_mask[1], expected.gt_mask)
        assert torch.cat([batch.gt_label for batch in batches]).tolist() == [False] * 10 + [True] * 5

    def test_without_masks(self, unmasked_root):
        dataset = RoiDataset(make_samples(unmasked_root))
        batch = next(iter(DataLoader(dataset, batch_size=4, collate_fn=dataset.collate_fn)))
        assert batch.roi_mask is None
        assert batch.gt_mask is None


def save_png(path, dtype=np.uint8):
    scale = 257 if dtype is np.uint16 else 1  # 255 * 257 = 65535: the same share of white
    Image.fromarray((GRAY * scale).astype(dtype)).save(path)
    return path


def save_dicom(path, **tags):
    dataset = dcmread(get_testdata_file("CT_small.dcm"))
    dataset.Modality = "DX"
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    dataset.save_as(path)
    return path


class TestRadiographFolderItems:
    def test_16_bit_and_its_8_bit_copy_give_the_same_image(self, tmp_path):
        save_png(tmp_path / "8.png")
        save_png(tmp_path / "16.png", np.uint16)
        deep, shallow = (RadiographFolder(tmp_path / name)[0].image for name in ("16.png", "8.png"))
        torch.testing.assert_close(deep, shallow, rtol=1e-6, atol=0)
        np.testing.assert_allclose(shallow.numpy(), np.stack([GRAY / 255] * 3), rtol=1e-6)

    def test_dicom(self, tmp_path):
        path = save_dicom(tmp_path / "1.2.840.113619.2")
        item = RadiographFolder(path)[0]
        assert item.image.shape == (3, 128, 128)
        torch.testing.assert_close(item.image[1:2].as_subclass(torch.Tensor), read_radiograph(path))

    def test_jpeg(self, tmp_path):
        Image.fromarray(GRAY.astype(np.uint8)).save(tmp_path / "a.JPG")
        assert RadiographFolder(tmp_path)[0].image.shape == (3, 32, 40)

    def test_items_have_no_label_and_no_masks(self, phantom_root):
        item = RadiographFolder(phantom_root / "CXR_png")[3]
        assert item.image_path == str(phantom_root / "CXR_png/PHANTOM_0003_0.png")
        assert (item.gt_label, item.gt_mask, item.roi_mask) == (None, None, None)

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_batches(self, phantom_root, num_workers):
        dataset = RadiographFolder(phantom_root / "CXR_png")
        loader = DataLoader(dataset, batch_size=8, num_workers=num_workers, collate_fn=dataset.collate_fn)
        batches = list(loader)
        assert [type(batch) for batch in batches] == [RoiImageBatch] * 2
        assert [batch.image.shape for batch in batches] == [(8, 3, 64, 64), (7, 3, 64, 64)]
        assert batches[1].image_path[-1].endswith("PHANTOM_0014_1.png")


class TestRadiographFolderDiscovery:
    def test_searched_in_order(self, tmp_path):
        for name in ("b/2.png", "a/x/1.png", "c.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            save_png(tmp_path / name)
        dataset = RadiographFolder(str(tmp_path))
        assert [path.relative_to(tmp_path).as_posix() for path in dataset.paths] == ["a/x/1.png", "b/2.png", "c.png"]
        assert len(dataset) == 3

    def test_texts_and_hidden_files_are_skipped(self, tmp_path):
        for name in ("report.txt", "list.CSV", "result.json", "letter.pdf", ".DS_Store", "DICOMDIR", "Thumbs.db"):
            (tmp_path / name).write_bytes(b"\0")
        (tmp_path / ".cache").mkdir()
        save_png(tmp_path / ".cache/thumbnail.png")
        chest = save_png(tmp_path / "chest.png")
        assert RadiographFolder(tmp_path).paths == [chest]

    def test_every_other_file_is_tried_whatever_its_name(self, tmp_path):
        shutil.move(save_png(tmp_path / "chest.png"), tmp_path / "IM000001")
        assert len(RadiographFolder(tmp_path)) == 1

    def test_hidden_folders_above_do_not_hide_it(self, tmp_path):
        (tmp_path / ".data").mkdir()
        save_png(tmp_path / ".data/chest.png")
        assert len(RadiographFolder(tmp_path / ".data")) == 1


class TestRadiographFolderErrors:
    def test_missing(self, tmp_path):
        with pytest.raises(
            DatasetError, match=r"no file or folder .*nowhere\n.*\n  next step: correct data.init_args.path"
        ):
            RadiographFolder(tmp_path / "nowhere")

    def test_empty_folder(self, tmp_path):
        with pytest.raises(DatasetError, match="no radiograph in"):
            RadiographFolder(tmp_path)

    def test_a_folder_of_texts(self, tmp_path):
        (tmp_path / "a.txt").touch()
        with pytest.raises(DatasetError, match="no radiograph in"):
            RadiographFolder(tmp_path)

    def test_all_offenders_at_once_before_anything_is_scored(self, tmp_path):
        save_png(tmp_path / "chest.png")
        (tmp_path / "empty.png").touch()
        (tmp_path / "archive.zip").write_bytes(b"PK\3\4")
        cut = save_png(tmp_path / "truncated.png")
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
        save_dicom(tmp_path / "lateral.dcm", ViewPosition="LL")
        save_dicom(tmp_path / "scan.dcm", Modality="CT")
        with pytest.raises(DatasetError, match="5 of 6 files that are no frontal radiograph") as caught:
            RadiographFolder(tmp_path)
        named = {path.name: reason for reason, paths in caught.value.offenders.items() for path in paths}
        assert set(named) == {"empty.png", "archive.zip", "truncated.png", "lateral.dcm", "scan.dcm"}
        assert named["lateral.dcm"].startswith("ViewPosition (0018,5101)")

    def test_the_others_without_them(self, tmp_path, caplog):
        chest, lateral = save_png(tmp_path / "chest.png"), tmp_path / "lateral.dcm"
        save_dicom(lateral, ViewPosition="LL")
        (tmp_path / "empty.png").touch()
        dataset = RadiographFolder(tmp_path, on_error="skip")
        assert dataset.paths == [chest]
        assert {path for paths in dataset.skipped.values() for path in paths} == {lateral, tmp_path / "empty.png"}
        assert "2 of 3 files are no frontal radiographs, and left out" in caplog.text
        chest.unlink()
        with pytest.raises(DatasetError, match="2 of 2 files that are no frontal radiograph"):
            RadiographFolder(tmp_path, on_error="skip")

    def test_another_action(self, tmp_path):
        with pytest.raises(SettingError, match="on_error one of raise, skip"):
            RadiographFolder(tmp_path, on_error="ignore")

    def test_a_single_file(self, tmp_path):
        (tmp_path / "report.txt").write_text("no image")
        with pytest.raises(DatasetError, match="1 of 1 files that are no frontal radiograph"):
            RadiographFolder(tmp_path / "report.txt")
