"""Items and batches: scales, shapes, and masks that move with their image."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib import TaskType
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from anomalib_cxr.data.datasets.dataclasses import RoiImageBatch, RoiImageItem
from anomalib_cxr.data.datasets.dataset import RoiDataset
from anomalib_cxr.data.sources.samples import make_samples


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
