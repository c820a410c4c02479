"""Masks of a batch, and a segmenter that stays frozen."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr import RoiImageBatch, RoiImageItem
from anomalib_cxr.errors import SettingError
from anomalib_cxr.models.base.segmenter import FrozenSegmenter, lung_masks
from anomalib_cxr.segmentation.network import LungSegmenter


class Brighter(LungSegmenter):
    """Calls lung what is brighter than mid gray."""

    def __init__(self):
        super().__init__(32, widths=(4, 4, 4, 4, 4))

    def forward(self, gray):
        return (gray + 1) / 2


def test_masks_are_numbers_with_a_channel():
    items = [RoiImageItem(image=torch.zeros(3, 4, 4), roi_mask=torch.eye(4)) for _ in range(2)]
    found = lung_masks(RoiImageBatch.collate(items), "target = 'lungs'")
    assert torch.equal(found, torch.eye(4).expand(2, 1, 4, 4))
    assert found.dtype == torch.float32


def test_a_batch_without_masks_is_refused():
    batch = RoiImageBatch.collate([RoiImageItem(image=torch.zeros(3, 4, 4))])
    with pytest.raises(SettingError, match="found: this and training images without lung masks"):
        lung_masks(batch, "this")


class TestFrozenSegmenter:
    def test_gives_the_probability(self):
        lungs = FrozenSegmenter(32)
        lungs.take(Brighter())
        assert torch.equal(lungs(torch.tensor([[[[-1.0, 0.5]]]])), torch.tensor([[[[0.0, 0.75]]]]))

    def test_is_frozen_and_stays_set_to_inference(self):
        lungs = FrozenSegmenter(32)
        lungs.take(Brighter().train())
        torch.nn.Sequential(lungs).train()
        assert not any(module.training for module in lungs.modules())
        assert not any(weight.requires_grad for weight in lungs.parameters())

    def test_begins_untrained_at_a_size_of_its_own(self):
        lungs = FrozenSegmenter(64)
        assert lungs.segmenter.image_size == 64
        assert lungs(torch.zeros(2, 1, 40, 48)).shape == (2, 1, 40, 48)
        assert not lungs.state_dict()["trained"]
