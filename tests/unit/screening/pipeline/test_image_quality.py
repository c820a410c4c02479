"""The quality check on phantoms that are blurred, noisy or squeezed, with their true lungs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from anomalib_cxr.data.phantom.drawing import draw_phantom
from anomalib_cxr.data.phantom.findings import FINDINGS
from anomalib_cxr.screening.pipeline import image_quality as module
from anomalib_cxr.screening.pipeline.image_quality import (
    BLURRED,
    MAX_ASPECT,
    SIDE,
    measure_detail,
    quality_refusals,
    reduce_for_quality,
)
from anomalib_cxr.segmentation.postprocessing import find_lungs

BLURRED_WORDS = "blurred: the lungs lack fine detail"
NOISY_WORDS = "noisy: noise covers the fine detail of the lungs"


@pytest.fixture(scope="module")
def phantoms():
    """One healthy phantom, and one of each finding."""
    rng = np.random.default_rng(11)
    return [draw_phantom(rng, 256, finding) for finding in (None, *FINDINGS)]


def ask(image, lungs):
    """Ask about an image as it is read from a PNG of 8 bits."""
    levels = ((np.clip(image, 0, 1) * 255).round() / 255).astype(np.float32)
    return quality_refusals(levels.shape, reduce_for_quality(levels), find_lungs(lungs.astype(np.float32)))


def resized(image, width, height):
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def test_good_ones_pass(phantoms):
    assert [ask(phantom.image, phantom.lungs) for phantom in phantoms] == [[]] * 6


@pytest.mark.parametrize("size", [64, 128, 512])
def test_size_does_not_matter(size):
    rng = np.random.default_rng(12)
    for finding in (None, *FINDINGS):
        phantom = draw_phantom(rng, size, finding)
        assert ask(phantom.image, phantom.lungs) == []


def test_exposure_does_not_matter(phantoms):
    for phantom in phantoms:
        assert ask(0.4 + 0.3 * phantom.image, phantom.lungs) == []
        assert ask(phantom.image**2, phantom.lungs) == []


@pytest.mark.parametrize("sigma", [3, 6, 12])
def test_blurred(phantoms, sigma):
    for phantom in phantoms:
        assert ask(gaussian_filter(phantom.image, sigma), phantom.lungs) == [BLURRED_WORDS]


def test_smooth_in_one_lung_only(phantoms):
    """The other one must not make up for it."""
    for phantom in phantoms:
        one = phantom.lungs & (np.arange(256) < 128)
        weight = gaussian_filter(one.astype(float), 2)
        image = (1 - weight) * phantom.image + weight * gaussian_filter(phantom.image, 4)
        assert ask(image, phantom.lungs) == [BLURRED_WORDS]


def test_enlarged_again(phantoms):
    for phantom in phantoms:
        image = np.asarray(Image.fromarray(resized(phantom.image, 32, 32)).resize((256, 256), Image.Resampling.BICUBIC))
        assert ask(image, phantom.lungs) == [BLURRED_WORDS]


@pytest.mark.parametrize(("blur", "noise"), [(4, 0.01), (4, 0.02), (8, 0.02)])
def test_noise_does_not_conceal_blur(phantoms, blur, noise):
    rng = np.random.default_rng(0)
    for phantom in phantoms:
        image = gaussian_filter(phantom.image, blur) + rng.normal(0, noise, phantom.image.shape)
        assert BLURRED_WORDS in ask(image, phantom.lungs)


@pytest.mark.parametrize("sigma", [0.15, 0.25, 0.5])
def test_noisy(phantoms, sigma):
    rng = np.random.default_rng(0)
    for phantom in phantoms:
        assert NOISY_WORDS in ask(phantom.image + rng.normal(0, sigma, phantom.image.shape), phantom.lungs)


@pytest.mark.parametrize(("width", "height"), [(85, 256), (256, 85)])
def test_squeezed(phantoms, width, height):
    image = resized(phantoms[0].image, width, height)
    lungs = resized(phantoms[0].lungs.astype(np.float32), 64, 64) > 0.5
    assert ask(image, lungs)[0] == f"squeezed or cropped: {width} x {height} pixels"


def test_limit_of_the_shape(phantoms):
    lungs = phantoms[0].lungs
    width = int(200 * MAX_ASPECT)
    assert ask(resized(phantoms[0].image, width, 200), lungs) == []
    assert len(ask(resized(phantoms[0].image, width + 1, 200), lungs)) == 1


class TestMeasureDetail:
    def test_white_noise(self):
        """Its octaves have the energies of the differences of two Gaussian kernels."""
        noise = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
        impulse = np.zeros((41, 41))
        impulse[20, 20] = 1
        kernels = [impulse, *(gaussian_filter(impulse, scale) for scale in (0.5, 1, 2, 4))]
        energies = [np.log10(np.square(a - b).sum()) for a, b in pairwise(kernels)]
        (found,) = measure_detail(noise, np.ones((SIDE, SIDE), bool))
        np.testing.assert_allclose(found[:3], -np.diff(energies), atol=0.08)
        assert found.noise == pytest.approx(1, abs=0.1)  # of the deviation of the image, all of which is noise

    def test_blur_lowers_all_ratios(self, phantoms):
        phantom = phantoms[0]
        sharp, blurred = (
            measure_detail(reduce_for_quality(image), phantom.lungs)
            for image in (phantom.image, gaussian_filter(phantom.image, 6))
        )
        assert len(sharp) == len(blurred) == 2
        for before, after in zip(sharp, blurred, strict=True):
            assert all(np.greater(before[:3], BLURRED))
            assert all(np.less(after[:2], before[:2]))

    def test_size_of_the_mask_does_not_matter(self, phantoms):
        reduced = reduce_for_quality(phantoms[0].image)
        enlarged = phantoms[0].lungs.repeat(2, axis=0).repeat(3, axis=1)
        assert measure_detail(reduced, enlarged) == measure_detail(reduced, phantoms[0].lungs)

    def test_no_lungs(self):
        assert measure_detail(np.eye(64, dtype=np.float32), np.zeros((32, 32), bool)) == []

    def test_uniform(self):
        (found,) = measure_detail(np.full((64, 64), 0.5, np.float32), np.ones((32, 32), bool))
        assert found == pytest.approx((0, 0, 0, 0), abs=0.05)  # but for rounding


def test_reduced_to_the_size_of_the_check():
    assert reduce_for_quality(np.zeros((300, 200), np.float32)).shape == (SIDE, SIDE)
    assert reduce_for_quality(np.zeros((300, 50), np.float32)).shape == (50, 50)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 4.0])
def test_smoothing_is_scipys(scale):
    image = np.random.default_rng(0).random((50, 40), np.float32)
    np.testing.assert_allclose(module._smooth(image, scale), gaussian_filter(image, scale, mode="nearest"), atol=1e-6)
