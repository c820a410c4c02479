"""Gray levels of samples: orientation against Pillow, luminance and opacity by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from anomalib_cxr.data.reading.gray import Samples, oriented, oriented_size, to_levels
from anomalib_cxr.errors import RadiographError

PATH = Path("chest.png")


@pytest.mark.parametrize("orientation", range(10))
def test_orientation_is_that_of_pillow(orientation):
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fromarray(values)
    image.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(oriented(values, orientation), expected)
    assert oriented_size((2, 3), orientation) == expected.shape


def test_gray_stored_as_color_keeps_every_level():
    gray = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    levels = to_levels(PATH, Samples(np.stack([gray] * 3, -1), None), None)
    np.testing.assert_array_equal(levels.values, gray)


def test_luminance_of_many_rows():
    color = np.zeros((600, 2, 3), np.uint16)
    color[:, 0, 0], color[:, 1, 1] = 40000, 20000
    values = to_levels(PATH, Samples(color, None), None).values
    np.testing.assert_allclose(values, np.tile([0.299 * 40000, 0.587 * 20000], (600, 1)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparent_is_black_after_the_inversion(dtype):
    white = np.iinfo(dtype).max
    alpha = np.array([[white, white // 5, 0]], dtype)
    levels = to_levels(PATH, Samples(np.zeros((1, 3), dtype), white, alpha, inverted=True), None)
    np.testing.assert_allclose(levels.values, [[white, white // 5, 0]], rtol=1e-6)


def test_transparent_throughout():
    with pytest.raises(RadiographError, match="every pixel is transparent"):
        to_levels(PATH, Samples(np.ones((2, 2), np.uint8), 255, np.zeros((2, 2), np.uint8)), None)


def test_white_of_an_inverted_file_is_the_stated_one():
    levels = to_levels(PATH, Samples(np.array([[0, 4095]], np.uint16), None, inverted=True), 4095)
    assert levels.values.tolist() == [[4095, 0]]
