"""Antialiased resizing of arrays against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from anomalib_cxr.data.reading.downsampling import downsample
from anomalib_cxr.functional import antialiased_resize


def noise(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (256, 256, (64, 64)),
        (100, 80, (64, 64)),
        (97, 131, (64, 32)),
        (65, 64, (64, 64)),
        (31, 45, (64, 64)),
        (20, 200, (64, 64)),
        (3, 4892, (8, 256)),
        (4892, 3, (256, 8)),
        (1, 1, (4, 4)),
        (5, 7, (1, 1)),
        (1, 513, (1, 512)),
    ],
)
def test_is_torchs(height, width, size):
    image = noise(height, width)
    found, tensor = downsample(image, size), torch.from_numpy(image)[None, None]
    assert (found.shape, found.dtype, found.flags.c_contiguous) == (size, np.float32, True)
    np.testing.assert_allclose(found, interpolate(tensor, size, mode="bilinear", antialias=True)[0, 0], atol=2e-6)
    np.testing.assert_allclose(found, antialiased_resize(tensor, size)[0, 0], atol=2e-5)


def test_the_same_size_changes_nothing():
    image = noise(64, 48)
    assert np.array_equal(downsample(image, (64, 48)), image)


@pytest.mark.parametrize("side", [33, 64, 1000, 4892])
def test_a_constant_stays_and_nothing_is_shifted(side):
    ramp = np.tile(np.linspace(0, 1, side, dtype=np.float32), (2, 1))
    found = downsample(ramp, (2, 32))
    np.testing.assert_allclose(downsample(np.ones((2, side), np.float32), (32, 32)), 1, atol=1e-6)
    np.testing.assert_allclose(found, 1 - found[:, ::-1], atol=1e-6)


def test_not_a_number_stays():
    assert np.isnan(downsample(np.full((9, 9), np.nan, np.float32), (4, 4))).all()


def test_a_view_is_resized_as_its_copy():
    turned = np.rot90(noise(40, 30))
    assert np.array_equal(downsample(turned, (16, 16)), downsample(turned.copy(), (16, 16)))
