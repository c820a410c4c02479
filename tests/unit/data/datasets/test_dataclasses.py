"""The item and the batch with a lung mask: anomalib's contract holds, and the mask goes wherever the image goes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torchvision.tv_tensors import Image, Mask

from anomalib_cxr.data.datasets.dataclasses import NumpyRoiImageBatch, NumpyRoiImageItem, RoiImageBatch, RoiImageItem


def make_item(**fields):
    mask = torch.zeros(8, 6)
    mask[2:5, 1:3] = 1
    return RoiImageItem(**{"image": Image(torch.rand(3, 8, 6)), "roi_mask": mask, **fields})


class TestItem:
    @pytest.mark.parametrize("shape", [(8, 6), (1, 8, 6)])
    @pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
    def test_a_mask_of_any_kind_becomes_bool(self, shape, dtype):
        mask = torch.zeros(shape, dtype=dtype)
        mask[..., 2:5, 1:3] = 1
        roi_mask = make_item(roi_mask=mask).roi_mask
        assert isinstance(roi_mask, Mask)
        assert (roi_mask.shape, roi_mask.dtype, roi_mask.sum().item()) == ((8, 6), torch.bool, 6)

    def test_fields_are_independent(self):
        lesion = torch.zeros(8, 6)
        lesion[7, 5] = 1
        item = make_item(gt_mask=lesion)
        assert item.gt_mask.sum() == 1
        assert item.roi_mask.sum() == 6
        assert make_item().gt_mask is None

    def test_no_mask(self):
        assert RoiImageItem(image=torch.rand(3, 8, 6)).roi_mask is None

    def test_a_mask_is_checked_when_it_is_set_later(self):
        item = make_item()
        item.roi_mask = torch.ones(1, 8, 6)
        assert item.roi_mask.shape == (8, 6)

    @pytest.mark.parametrize("shape", [(3, 8, 6), (8,), (1, 1, 8, 6)])
    def test_a_wrong_shape(self, shape):
        with pytest.raises(ValueError, match="Mask must have"):
            make_item(roi_mask=torch.ones(shape))

    def test_no_tensor(self):
        with pytest.raises(TypeError, match=r"Mask must be a torch\.Tensor"):
            make_item(roi_mask=np.ones((8, 6)))

    def test_numpy(self):
        item = make_item().to_numpy()
        assert isinstance(item, NumpyRoiImageItem)
        assert isinstance(item.roi_mask, np.ndarray)
        assert (item.roi_mask.shape, item.roi_mask.dtype, item.roi_mask.sum()) == ((8, 6), bool, 6)
        assert item.image.shape == (8, 6, 3)

    def test_worker_processes_can_send_it(self):
        item = make_item()
        copy = pickle.loads(pickle.dumps(item))  # noqa: S301
        assert torch.equal(copy.roi_mask, item.roi_mask)
        assert torch.equal(copy.image, item.image)


class TestBatch:
    def test_collate(self):
        items = [make_item(gt_label=index % 2) for index in range(3)]
        batch = RoiImageBatch.collate(items)
        assert isinstance(batch, RoiImageBatch)
        assert batch.image.shape == (3, 3, 8, 6)
        assert (batch.roi_mask.shape, batch.roi_mask.dtype) == ((3, 8, 6), torch.bool)
        assert torch.equal(batch.roi_mask[1], items[1].roi_mask)
        assert batch.gt_label.tolist() == [False, True, False]

    def test_a_channel_in_the_masks_is_dropped(self):
        batch = RoiImageBatch(image=torch.rand(2, 3, 8, 6), roi_mask=torch.ones(2, 1, 8, 6))
        assert batch.roi_mask.shape == (2, 8, 6)

    def test_no_masks(self):
        batch = RoiImageBatch.collate([make_item(roi_mask=None) for _ in range(2)])
        assert batch.roi_mask is None

    def test_items(self):
        batch = RoiImageBatch.collate([make_item() for _ in range(2)])
        items = list(batch)
        assert [type(item) for item in items] == [RoiImageItem, RoiImageItem]
        assert torch.equal(items[1].roi_mask, batch.roi_mask[1])

    def test_numpy(self):
        batch = RoiImageBatch.collate([make_item() for _ in range(2)]).to_numpy()
        assert isinstance(batch, NumpyRoiImageBatch)
        assert (batch.roi_mask.shape, batch.roi_mask.dtype) == ((2, 8, 6), bool)

    def test_update_keeps_the_mask(self):
        batch = RoiImageBatch.collate([make_item() for _ in range(2)])
        updated = batch.update(in_place=False, pred_score=torch.tensor([0.1, 0.9]))
        assert isinstance(updated, RoiImageBatch)
        assert torch.equal(updated.roi_mask, batch.roi_mask)
