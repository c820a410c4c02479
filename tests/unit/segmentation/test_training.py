"""Training on phantoms, and augmentation: image and mask transformed alike, opacities that leave the mask unchanged."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from anomalib_cxr.data.phantom.drawing import draw_phantom
from anomalib_cxr.errors import DivergenceError
from anomalib_cxr.segmentation.network import LungSegmenter
from anomalib_cxr.segmentation.training import OPACITY_PROBABILITY, augment, fit_segmenter, shuffled_batches

pytestmark = pytest.mark.slow

SIZE = 32


def fresh():
    torch.manual_seed(0)
    return LungSegmenter(SIZE, (4, 4, 8, 8, 16))


@pytest.fixture(scope="module")
def phantoms():
    """Draw phantoms, each moved to a place of its own, since as they are one mask nearly fits all."""
    images, masks = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        phantom, place = draw_phantom(rng, SIZE), tuple(rng.integers(-7, 8, size=2))
        images.append(torch.from_numpy(np.roll(phantom.image, place, (0, 1)))[None])
        masks.append(torch.from_numpy(np.roll(phantom.lungs, place, (0, 1)))[None])
    return torch.stack(images) * 2 - 1, torch.stack(masks)


def mean_dice(found, masks):
    """Dice is the F1 score of pixels."""
    return np.mean([f1_score(true.flatten(), mask.flatten()) for mask, true in zip(found, masks, strict=True)])


def test_beats_every_mask_that_is_the_same_for_all(phantoms):
    images, masks = phantoms
    segmenter = fresh()
    fit_segmenter(segmenter, images[:30].half(), masks[:30], steps=80, batch_size=8, seed=0)
    assert not segmenter.training
    mean = masks[:30].float().mean(0)
    constant = max(mean_dice((mean > level).expand(10, 1, SIZE, SIZE), masks[30:]) for level in (0.2, 0.35, 0.5, 0.65))
    found = mean_dice(segmenter(images[30:]) > 0.5, masks[30:])
    assert found > constant + 0.25 * (1 - constant)


def test_any_size_and_type(phantoms):
    images, masks = (torch.nn.functional.interpolate(each.float(), (50, 40))[:3] for each in phantoms)
    segmenter = fresh()
    before = [weight.clone() for weight in segmenter.parameters()]
    fit_segmenter(segmenter, images.half(), masks.to(torch.uint8), steps=1, seed=0)
    assert any(not torch.equal(*pair) for pair in zip(before, segmenter.parameters(), strict=True))


def test_seed_decides(phantoms):
    weights = []
    for seed in (1, 1, 2):
        segmenter = fresh()
        fit_segmenter(segmenter, *phantoms, steps=3, batch_size=4, seed=seed)
        weights.append(torch.cat([weight.flatten() for weight in segmenter.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_random_numbers_outside_go_on(phantoms):
    torch.manual_seed(5)
    expected = torch.rand(3)
    segmenter = fresh()
    torch.manual_seed(5)
    fit_segmenter(segmenter, *phantoms, steps=1, seed=0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("count", "size", "steps"), [(10, 4, 5), (3, 16, 2), (7, 7, 1)])
def test_all_images_come_in_turn(count, size, steps):
    batches = shuffled_batches(count, size, steps, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in batches] == [size] * steps
    seen = torch.bincount(torch.cat(batches), minlength=count)
    assert seen.max() - seen.min() <= 1


def test_told_ten_times(phantoms, caplog):
    caplog.set_level(logging.INFO)
    fit_segmenter(fresh(), *(each[:2] for each in phantoms), steps=20, batch_size=1, seed=0)
    told = [record.message for record in caplog.records if "lung segmenter" in record.message]
    assert len(told) == 10
    assert told[-1].startswith("lung segmenter: step 20 of 20, loss ")


def test_divergence(phantoms):
    images, masks = phantoms
    with pytest.raises(DivergenceError, match="loss = nan of the lung segmenter in step 1"):
        fit_segmenter(fresh(), images * float("nan"), masks, steps=2, seed=0)


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
    assert veiled.sum() > 0.7 * OPACITY_PROBABILITY * COUNT
    assert binomtest(int(veiled.sum()), COUNT, OPACITY_PROBABILITY, alternative="greater").pvalue > 1e-4
    assert (image[mask == 0] == -1).all()


def test_what_an_image_shows_does_not_change_the_target(masks):
    _, black = augment(torch.full_like(masks, -1.0), masks, drawn())
    _, noise = augment(torch.rand(COUNT, 1, 32, 32), masks, drawn())
    assert torch.equal(black, noise)
