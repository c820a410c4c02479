"""The region of interest is black, not grey, outside."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr.functional import paint_region, painted_region


def test_black_outside_and_untouched_inside():
    image = torch.tensor([[[[0.5, -0.25], [0.0, 1.0]]]])
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    assert torch.equal(paint_region(image, mask), torch.tensor([[[[0.5, -1.0], [-1.0, 1.0]]]]))


def test_is_the_product_in_the_scale_of_zero_to_one():
    grey = torch.rand(3, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    mask = (torch.rand(3, 1, 5, 4, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    torch.testing.assert_close(paint_region(2 * grey - 1, mask), 2 * (grey * mask) - 1)


def test_no_mask_keeps_the_image():
    image = torch.rand(1, 1, 2, 2)
    assert torch.equal(paint_region(image, None), image)


@pytest.mark.parametrize(("value", "expected"), [(-1.0, 0.0), (-0.85, 0.0), (-0.79, 1.0), (0.0, 1.0), (1.0, 1.0)])
def test_painted_where_it_is_not_black(value, expected):
    found = painted_region(torch.full((2, 1, 3, 3), value))
    assert torch.equal(found, torch.full((2, 1, 3, 3), expected))
    assert found.dtype == torch.float32
