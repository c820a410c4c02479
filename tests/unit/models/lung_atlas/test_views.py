"""Views that are joined and chosen from keep all that belongs to an image together."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr.functional.alignment import Rows
from anomalib_cxr.models.lung_atlas.views import View, choose_images, join_views, keep_images


def make(*numbers):
    """Make a view of images in which all values are the image's number."""

    def filled(*shape):
        return torch.stack([torch.full(shape, float(number)) for number in numbers])

    rows = Rows(filled(2), filled(2), filled(2, 5), filled(2, 5))
    return View(rows, filled(2), filled(1, 4, 6), filled(1, 3, 3), filled(1, 3, 3), filled(2, 2, 2))


def numbers_of(view):
    """Return the images' numbers, which all that was seen of them agrees on."""
    found = [[set(image.flatten().tolist()) for image in each] for each in (*view.rows, *view[1:])]
    assert all(each == found[0] for each in found)
    return [int(*image) for image in found[0]]


def test_joined_one_after_the_other():
    assert numbers_of(join_views([make(3, 1), make(7), make(2, 9, 4)])) == [3, 1, 7, 2, 9, 4]


def test_chosen_by_number_or_by_truth():
    assert numbers_of(choose_images(make(5, 6, 7), torch.tensor([2, 0]))) == [7, 5]
    assert numbers_of(choose_images(make(5, 6, 7), torch.tensor([False, True, True]))) == [6, 7]


@pytest.mark.parametrize("most", [30, 31])
def test_few_are_all_kept(most):
    view = make(*range(30))
    assert keep_images(view, most, seed=0) is view


def test_of_many_a_sample_is_kept_in_order():
    view = make(*range(30))
    kept = numbers_of(keep_images(view, 10, seed=0))
    assert len(kept) == 10
    assert kept == sorted(set(kept))
    assert numbers_of(keep_images(view, 10, seed=0)) == kept
    assert numbers_of(keep_images(view, 10, seed=1)) != kept
    often = [number for seed in range(60) for number in numbers_of(keep_images(view, 10, seed))]
    assert all(8 <= often.count(number) <= 34 for number in range(30))  # 20 expected, of standard deviation 3.7
