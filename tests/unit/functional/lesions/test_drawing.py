"""Noise, places and shapes against what is known of them; frames that are not square above all."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from anomalib_cxr.functional.lesions import drawing

SIZES = [(96, 96), (64, 112), (112, 64)]


@pytest.mark.parametrize(("count", "size"), [(1, 40), (7, 40), (40, 40)])
def test_grains_are_spread_by_bicubic_interpolation(count, size, generator):
    grains = torch.randn(2, 1, count, count, generator=generator)
    spread = drawing._spread(count, size, grains)
    expected = functional.interpolate(grains, size=(size, size), mode="bicubic", align_corners=False)
    torch.testing.assert_close(spread @ grains @ spread.T, expected)


@pytest.mark.parametrize("size", SIZES)
def test_noise_is_as_smooth_down_as_across(size, generator):
    noise = drawing.smooth_noise(torch.zeros(60, 1, *size), 16, 16, generator)
    down, across = noise.diff(dim=2).square().mean(), noise.diff(dim=3).square().mean()
    assert down / across == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("size", [*SIZES, (5, 5)])
def test_clouds_have_unit_variance(size, generator):
    clouds = drawing.fractal_noise(torch.zeros(4, 1, *size), 5, generator)
    assert clouds.shape == (4, 1, *size)
    torch.testing.assert_close(clouds.std(dim=(1, 2, 3)), torch.ones(4))


def test_places_are_in_the_lungs(chest, generator):
    _, inside = chest((64, 112))
    y, x = drawing.sample_centers(inside, 200, generator)
    inside = functional.max_pool2d(inside, 9, stride=1, padding=4)  # a place lies within a cell of 4 pixels
    row, column = (axis[:, :, 0, 0].mul(64).long() for axis in (y, x))
    assert all((image[0, rows, columns] > 0).all() for image, rows, columns in zip(inside, row, column, strict=True))


def test_places_prefer_the_upper_lung_in_half_of_the_images(generator):
    y, x = drawing.sample_centers(torch.ones(4000, 1, 64, 8), 1, generator)
    upper = (1.6 / 2 - 1.4 / 3) / (1.6 - 1.4 / 2)  # mean of a density that falls from 1.6 to 0.2
    assert y.mean() == pytest.approx((0.5 + upper) / 2, abs=0.02)
    assert x.mean() == pytest.approx(0.5 * 8 / 64, abs=0.01)


@pytest.mark.parametrize("size", SIZES)
def test_the_mean_radius_of_an_ellipse_gives_its_area(size, in_the_middle, generator):
    in_the_middle(drawing)
    distance = drawing.ellipse_distance(torch.ones(20, 1, *size), (0.15, 0.15), generator)
    area = (distance < 1).sum(dim=(1, 2, 3)) / size[0] ** 2
    torch.testing.assert_close(area, torch.full((20,), math.pi * 0.15**2), rtol=0.05, atol=0)


@pytest.mark.parametrize("size", SIZES)
def test_resampling(size, generator):
    image = torch.rand(1, 1, *size, generator=generator)
    y, x = (axis.expand(1, 1, *size) for axis in drawing.pixel_positions(image))
    torch.testing.assert_close(drawing.resample(image, y, x), image, rtol=0, atol=1e-4)
    shifted = drawing.resample(image, y, x + 3 / size[0])  # three pixels from the right, and mirrored at the border
    torch.testing.assert_close(shifted[..., :-3], image[..., 3:], rtol=0, atol=1e-4)
    torch.testing.assert_close(shifted[..., -3:], image[..., -3:].flip(3), rtol=0, atol=1e-4)


def test_numbers_fill_their_range_and_some_is_a_share(generator):
    drawn = drawing.uniform(torch.zeros(500, 1, 1, 1), -2, 3, generator, count=4)
    assert drawn.shape == (500, 4, 1, 1)
    assert -2 <= drawn.min() < -1.9 < 2.9 < drawn.max() < 3
    assert drawing.bernoulli(torch.zeros(2000, 1, 1, 1), 0.3, generator).float().mean() == pytest.approx(0.3, abs=0.05)


def test_a_blot_is_densest_in_its_middle(in_the_middle, generator):
    in_the_middle(drawing)
    blots = drawing.irregular_blob(torch.ones(50, 1, 64, 64), (0.1, 0.1), generator)
    assert 0 <= blots.min() < blots.max() <= 1
    assert blots[..., 31:33, 31:33].mean() > 0.85
    assert blots[..., :8, :].mean() < 0.01
