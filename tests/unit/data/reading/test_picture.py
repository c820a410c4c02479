"""PNG and JPEG files: what they say about their pixels, and the formats that are never opened."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageOps

from anomalib_cxr.data.reading.intensities import intact_size
from anomalib_cxr.data.reading.picture import picture_size, read_picture
from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.errors import RadiographError

TWELVE = (np.arange(40 * 32, dtype=np.uint16) * 3).reshape(40, 32)  # 12 bits
BYTES = (TWELVE >> 4).astype(np.uint8)
CASES = Path(__file__).resolve().parents[5] / "shared" / "cases"


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_with_color_and_opacity_equal_the_gray_file(tmp_path, channels):
    color = [TWELVE] * (3 if channels > 2 else 1) + [np.full_like(TWELVE, 65535)] * (channels % 2 == 0)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(np.stack(color, -1).squeeze()))
    np.testing.assert_allclose(read_radiograph(path, 4095)[0].numpy(), TWELVE / 4095, atol=1e-6)
    assert intact_size(path) == (40, 32)


@pytest.mark.parametrize("orientation", [*range(1, 9), None])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_orientation(tmp_path, suffix, orientation):
    image, path = Image.fromarray(BYTES), tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[274] = orientation or 1
    image.save(path, **({} if orientation is None else {"exif": exif}))
    with Image.open(path) as saved:
        expected = np.asarray(ImageOps.exif_transpose(saved))
    assert picture_size(path) == expected.shape
    np.testing.assert_array_equal(read_picture(path).values, expected)
    np.testing.assert_array_equal(read_mask(path).numpy(), expected > 127)


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def test_orientation_behind_the_pixels(tmp_path):
    path, exif = tmp_path / "a.png", Image.Exif()
    exif[274] = 6
    Image.fromarray(BYTES).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + content[-12:])
    assert picture_size(path) == (32, 40)
    np.testing.assert_array_equal(read_picture(path).values, np.rot90(BYTES, -1))


@pytest.mark.parametrize(("mode", "transparent"), [("L", 7), ("P", 7), ("RGB", (7, 7, 7)), ("I;16", 7)])
def test_a_transparent_value_is_black(tmp_path, mode, transparent):
    values = np.where(BYTES < 7, 200, BYTES)
    values = (values * np.uint16(257)) if mode == "I;16" else values.astype(np.uint8)
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([level for level in range(256) for _ in range(3)])
    elif mode == "RGB":
        image = image.convert("RGB")
    transparent = 7 * 257 if mode == "I;16" else transparent
    image.save(tmp_path / "a.png", transparency=transparent)
    levels = read_picture(tmp_path / "a.png")
    np.testing.assert_allclose(levels.values, np.where(values == values.dtype.type(np.max(transparent)), 0, values))


def test_cmyk_jpeg(tmp_path):
    Image.fromarray(BYTES).convert("RGB").convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_radiograph(tmp_path / "a.jpg")[0].numpy() - BYTES / 255).max() < 0.03


@pytest.mark.parametrize("bits", [12, 16])
def test_deep_jpeg_is_refused_by_name(tmp_path, bits):
    path = tmp_path / "a.jpg"
    path.write_bytes(imagecodecs.jpeg8_encode(TWELVE, bitspersample=bits, lossless=bits == 16))
    with pytest.raises(RadiographError, match=f"JPEG of {bits} bits, which is not supported"):
        read_radiograph(path)


@pytest.mark.parametrize("suffix", ["eps", "gif", "ppm", "webp", "pcx", "tga", "pdf", "ico"])
def test_formats_that_no_page_names_are_not_opened(tmp_path, suffix):
    Image.fromarray(BYTES).save(tmp_path / f"a.{suffix}")
    path = (tmp_path / f"a.{suffix}").rename(tmp_path / "a.png")
    with pytest.raises(RadiographError, match=r"not an image, or its header is damaged\n.*PNG, JPEG, TIFF, BMP"):
        read_radiograph(path)


@pytest.mark.skipif(not CASES.is_dir(), reason="no shared cases")
class TestCases:
    @pytest.mark.parametrize(
        ("folder", "mean", "white"),
        [
            ("01_tiff_white_is_zero", 0.4602, None),
            ("02_12bit_in_16bit_colour_or_alpha", 0.4601, 4095),
            ("03_exif_orientation", 0.4602, None),
        ],
    )
    def test_one_picture(self, folder, mean, white):
        images = [read_radiograph(path, white) for path in sorted((CASES / folder).iterdir())]
        assert len(images) >= 5
        for image in images:
            assert abs(image.mean() - mean) < 1e-4
            assert (image - images[-1]).abs().max() < 0.05
