"""Smoothing against SciPy's, and normalized pictures against what they must not depend on."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter

from anomalib_cxr.functional.normalization import (
    LOCAL_EPSILON,
    LUNG_EPSILON,
    normalize_by_lungs,
    normalize_locally,
    smooth,
)


@pytest.fixture
def images():
    return torch.rand(2, 1, 24, 37, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0, 8.0])
def test_smooths_as_scipy_does(images, sigma):
    found = smooth(images.double(), sigma)
    for image, smoothed in zip(images[:, 0].double().numpy(), found[:, 0], strict=True):
        torch.testing.assert_close(smoothed, torch.from_numpy(gaussian_filter(image, sigma, mode="reflect")))


class TestLocally:
    def test_is_what_scipy_gives(self, images):
        image = images[0, 0].double().numpy()
        away = image - gaussian_filter(image, 4)
        expected = away / (gaussian_filter(away**2, 4) ** 0.5 + LOCAL_EPSILON)
        torch.testing.assert_close(normalize_locally(images[:1].double(), 4)[0, 0], torch.from_numpy(expected))

    def test_does_not_depend_on_brightness_and_hardly_on_contrast(self, images):
        first = normalize_locally(images, 4)
        torch.testing.assert_close(normalize_locally(images + 0.3, 4), first, atol=1e-4, rtol=0)
        assert (normalize_locally(images * 0.6, 4) - first).abs().max() < 0.2

    def test_a_flat_picture_stays_flat(self):
        assert normalize_locally(torch.full((1, 1, 9, 9), 0.4), 2).abs().max() < 1e-4


class TestByLungs:
    def test_lungs_have_mean_0_and_deviation_1(self, images):
        inside = torch.zeros(24, 37)
        inside[4:20, 6:30] = 1
        lungs = normalize_by_lungs(images, inside)[:, 0, 4:20, 6:30].flatten(1)
        torch.testing.assert_close(lungs.mean(dim=1), torch.zeros(2), atol=1e-5, rtol=0)
        spread = images[:, 0, 4:20, 6:30].flatten(1).std(dim=1, correction=0)
        torch.testing.assert_close(lungs.std(dim=1, correction=0), spread / (spread + LUNG_EPSILON))

    def test_each_image_may_have_its_own_region(self, images):
        inside = torch.zeros(2, 1, 24, 37)
        inside[0, ..., :12], inside[1, ..., 20:] = 1, 1
        found = normalize_by_lungs(images, inside)
        for number, region in enumerate(inside):
            torch.testing.assert_close(found[[number]], normalize_by_lungs(images[[number]], region[0]))
