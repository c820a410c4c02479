"""The region of interest is black, not gray, outside."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr.functional import apply_roi, reconstructed_region


def test_black_outside_and_untouched_inside():
    image = torch.tensor([[[[0.5, -0.25], [0.0, 1.0]]]])
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    assert torch.equal(apply_roi(image, mask), torch.tensor([[[[0.5, -1.0], [-1.0, 1.0]]]]))


def test_is_the_product_in_the_scale_of_zero_to_one():
    gray = torch.rand(3, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    mask = (torch.rand(3, 1, 5, 4, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    torch.testing.assert_close(apply_roi(2 * gray - 1, mask), 2 * (gray * mask) - 1)


def test_no_mask_keeps_the_image():
    image = torch.rand(1, 1, 2, 2)
    assert torch.equal(apply_roi(image, None), image)


@pytest.mark.parametrize("black", [-1.0, -0.9, -0.7])
@pytest.mark.parametrize("lung", [-0.6, 0.0, 0.8])
def test_painted_where_it_is_not_black(black, lung):
    region = torch.zeros(2, 1, 8, 8)
    region[:, :, 2:6, 1:4] = 1
    region[1] = region[1].roll(3, dims=-1)
    assert torch.equal(reconstructed_region(black + (lung - black) * region), region)


def test_nothing_is_painted_on_an_even_picture():
    found = reconstructed_region(torch.full((2, 1, 4, 4), -1.0))
    assert torch.equal(found, torch.zeros(2, 1, 4, 4))
    assert found.dtype == torch.float32


def test_each_picture_has_a_mean_of_its_own():
    dark = torch.tensor([[[[-1.0, -1.0, -1.0, -0.8]]]])
    bright = torch.tensor([[[[-0.7, -0.7, -0.7, 0.9]]]])
    assert torch.equal(reconstructed_region(torch.cat([dark, bright]))[:, 0, 0, 3], torch.ones(2))
    assert reconstructed_region(torch.cat([dark, bright])).sum() == 2
