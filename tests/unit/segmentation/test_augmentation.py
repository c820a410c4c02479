"""Augmentation: image and mask move alike, and a veil hides the lung without shrinking it."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest

from anomalib_cxr.segmentation.augmentation import OPAQUE_SHARE, augment

COUNT = 200


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def masks():
    """A bright lung on the left of each picture only, so that mirroring can be seen."""
    masks = torch.zeros(COUNT, 1, 32, 32)
    masks[..., 8:24, 4:14] = 1
    return masks


def likely(count, share):
    return binomtest(int(count), COUNT, share).pvalue > 1e-4


def test_scale_and_shape(masks):
    image, mask = augment(torch.rand(COUNT, 1, 32, 32) * 2 - 1, masks, drawn())
    assert image.shape == mask.shape == masks.shape
    assert -1 <= image.min() < image.max() <= 1
    assert 0 <= mask.min() < mask.max() <= 1 + 1e-6


def test_same_draw_same_batch(masks):
    first, again, other = (augment(2 * masks - 1, masks, drawn(seed)) for seed in (1, 1, 2))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[1], other[1])


def test_image_and_mask_move_alike(masks):
    image, mask = augment(2 * masks - 1, masks, drawn())  # white in the lung, black elsewhere
    assert (image[mask == 0] == -1).all()
    assert (image[mask > 0.99] > -0.5).all()  # a veil is at least half white, and gamma darkens that by a third


def test_about_half_are_mirrored(masks):
    _, mask = augment(2 * masks - 1, masks, drawn())
    columns = torch.arange(32.0)
    center = (mask * columns).sum((1, 2, 3)) / mask.sum((1, 2, 3))
    assert likely((center > 15.5).sum(), 0.5)


def test_a_share_is_veiled_in_the_lung_only(masks):
    image, mask = augment(torch.full_like(masks, -1.0), masks, drawn())  # black: whatever is bright is a veil
    veiled = (image > -0.99).flatten(1).any(1)
    # Some veils are too thin to be seen.
    assert veiled.sum() > 0.7 * OPAQUE_SHARE * COUNT
    assert binomtest(int(veiled.sum()), COUNT, OPAQUE_SHARE, alternative="greater").pvalue > 1e-4
    assert (image[mask == 0] == -1).all()


def test_what_an_image_shows_does_not_change_the_target(masks):
    _, black = augment(torch.full_like(masks, -1.0), masks, drawn())
    _, noise = augment(torch.rand(COUNT, 1, 32, 32), masks, drawn())
    assert torch.equal(black, noise)
