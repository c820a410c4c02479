"""Pre-processing keeps pictures together, and is the same in training and export."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr import RoiImageBatch
from anomalib_cxr.models.base.module import to_gray
from anomalib_cxr.models.base.pre_processor import RoiPreProcessor

HOOKS = ["on_train_batch_start", "on_validation_batch_start", "on_test_batch_start", "on_predict_batch_start"]


def batch_of(height=96, width=160, **fields):
    image = torch.zeros(2, 3, height, width)
    image[:, :, height // 4 : height // 2, width // 8 : width // 2] = 1
    return RoiImageBatch(image=image, **fields)


def run_hook(batch, hook="on_train_batch_start", size=32):
    getattr(RoiPreProcessor(size), hook)(None, None, batch, 0)
    return batch


@pytest.mark.parametrize("hook", HOOKS)
def test_image_and_masks_stay_together(hook):
    lungs = batch_of().image[:, 0] > 0.5
    batch = run_hook(batch_of(roi_mask=lungs, gt_mask=lungs.flip(-1)), hook)
    assert batch.image.shape == (2, 3, 32, 32)
    assert batch.roi_mask.shape == batch.gt_mask.shape == (2, 32, 32)
    assert batch.roi_mask.dtype == batch.gt_mask.dtype == torch.bool
    assert torch.equal(batch.image[:, 0] > 0, batch.roi_mask)
    assert torch.equal(batch.gt_mask, batch.roi_mask.flip(-1))


def test_masks_of_another_shape_than_the_target_keep_their_place():
    lungs = batch_of(101, 79).image[:, 0] > 0.5
    batch = run_hook(batch_of(101, 79, roi_mask=lungs))
    bright = batch.image[:, 0] > 0
    assert (bright & batch.roi_mask).sum() / (bright | batch.roi_mask).sum() > 0.85


@pytest.mark.parametrize("field", ["roi_mask", "gt_mask"])
def test_either_mask_alone(field):
    mask = torch.ones(2, 96, 160, dtype=torch.bool)
    batch = run_hook(batch_of(**{field: mask}))
    assert getattr(batch, field).shape == (2, 32, 32)
    assert getattr(batch, "gt_mask" if field == "roi_mask" else "roi_mask") is None


def test_no_mask():
    batch = run_hook(batch_of())
    assert batch.image.shape == (2, 3, 32, 32)
    assert batch.roi_mask is batch.gt_mask is None


def test_scale_is_that_of_a_tanh():
    image = run_hook(batch_of()).image
    torch.testing.assert_close(torch.stack(image.aminmax()), torch.tensor([-1.0, 1.0]))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (200, 160), (131, 97), (20, 27)])
def test_an_exported_graph_sees_the_pixels_that_training_saw(height, width):
    image = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1)
    trained = run_hook(RoiImageBatch(image=image.clone())).image
    torch.testing.assert_close(RoiPreProcessor(32)(image), torch.as_tensor(trained), rtol=0, atol=2e-5)


def test_of_a_colored_picture_an_exported_graph_sees_the_same_gray():
    image = torch.rand(2, 3, 50, 40, generator=torch.Generator().manual_seed(0))
    trained = run_hook(RoiImageBatch(image=image.clone())).image
    torch.testing.assert_close(to_gray(RoiPreProcessor(32)(image)), to_gray(trained), rtol=0, atol=2e-5)


def test_checkpoint_keeps_its_size_and_does_not_change_another():
    other = RoiPreProcessor(64)
    other.load_checkpoint_config(RoiPreProcessor(32).checkpoint_config())
    assert RoiPreProcessor(32).checkpoint_config() == {"image_size": 32}
    assert other(torch.rand(1, 3, 10, 10)).shape == (1, 3, 64, 64)
