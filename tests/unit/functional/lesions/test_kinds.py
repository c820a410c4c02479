"""Lesions that change what the lung shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_cxr.functional.lesions import gray_levels
from anomalib_cxr.functional.lesions.kinds import _add_cut_paste, _add_texture, _add_warp, _moments

COUNT = 20


def painted(paint, lungs, inside, generator):
    return paint(lungs, inside, gray_levels(lungs, inside), generator)


@pytest.mark.parametrize("paint", [_add_texture, _add_warp])
def test_a_lung_without_structure_stays(paint, generator):
    lungs, inside = torch.full((COUNT, 1, 64, 64), 0.4), torch.ones(COUNT, 1, 64, 64)
    torch.testing.assert_close(painted(paint, lungs, inside, generator), lungs)


def test_texture_sharpens_or_blurs_and_keeps_the_brightness(chest, generator):
    lungs, _ = chest(count=COUNT)
    lungs = 0.3 + 0.1 * torch.rand(lungs.shape, generator=generator)
    result = painted(_add_texture, lungs, torch.ones_like(lungs), generator)
    change = result - lungs
    assert change.mean().abs() < 0.02 * change.abs().mean()
    sharper = result.diff(dim=3).square().sum(dim=(1, 2, 3)) > lungs.diff(dim=3).square().sum(dim=(1, 2, 3))
    assert 0.4 * COUNT < sharper.sum() < COUNT  # two thirds of the range sharpen


@pytest.mark.parametrize("size", [(96, 96), (64, 112)])
def test_a_warp_moves_by_a_few_hundredths_of_the_height(generator, size):
    ramp = torch.arange(float(size[1])).expand(COUNT, 1, *size) / size[0]  # the gray value says where a pixel is from
    moved = (painted(_add_warp, ramp, torch.ones_like(ramp), generator) - ramp)[..., 16:-16].abs()
    assert moved.max() < 0.25
    assert (moved.amax(dim=(1, 2, 3)) > 1 / size[0]).float().mean() > 0.7  # by more than a pixel


def test_a_piece_is_matched_to_the_place_it_is_pasted_to(generator):
    lungs = torch.rand(COUNT, 1, 64, 64, generator=generator) * 0.2 + 0.3
    inside = torch.ones_like(lungs)
    contrast = gray_levels(lungs, inside).contrast
    unlike = lungs.clone()
    unlike[::2] = 1 - 0.5 * unlike[::2]  # what the odd images are given is brighter and flatter
    state = generator.get_state()
    alike = painted(_add_cut_paste, lungs, inside, generator)[1::2]
    generator.set_state(state)
    matched = painted(_add_cut_paste, unlike, inside, generator)[1::2]
    shift = (matched - alike).mean(dim=(1, 2, 3)).abs()
    assert (shift < 0.01 * contrast[1::2].flatten()).all()


def test_moments_are_weighted(generator):
    images, weights = torch.rand(2, 3, 1, 8, 9, generator=generator)
    mean, spread = _moments(images, weights)
    for number, (image, weight) in enumerate(zip(images.numpy(), weights.numpy(), strict=True)):
        expected = np.average(image, weights=weight)
        assert mean[number].item() == pytest.approx(expected, rel=1e-3)
        variance = np.average((image - expected) ** 2, weights=weight)
        assert spread[number].item() == pytest.approx(np.sqrt(variance) + 0.01, rel=1e-3)
