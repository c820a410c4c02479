"""TIFF files in every layout hold one picture; tifffile writes them, the values written are the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from anomalib_cxr.data.reading.intensities import image_size
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.errors import RadiographError

DEEP = (np.arange(40 * 32, dtype=np.uint16) * 51).reshape(40, 32)
SIXTEEN = DEEP / 65535
BYTES = (DEEP >> 8).astype(np.uint8)
OPAQUE = np.full_like(DEEP, 65535)


def write(path, values, **options):
    tifffile.imwrite(path, values, **({"photometric": "minisblack"} | options))
    return path


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    ("values", "options"),
    [
        (DEEP, {}),
        (DEEP, {"tile": (16, 16)}),
        (DEEP, {"rowsperstrip": 7, "compression": "lzw", "predictor": 2}),
        (DEEP, {"compression": "zlib"}),
        (DEEP, {"bigtiff": True}),
        (65535 - DEEP, {"photometric": "miniswhite"}),
        (np.float32(SIXTEEN), {}),
        (1 - SIXTEEN.astype(np.float32), {"photometric": "miniswhite"}),
        (1 - SIXTEEN, {"photometric": "miniswhite"}),
        (np.stack([DEEP, OPAQUE], -1), {"extrasamples": ["unassalpha"]}),
        (np.stack([65535 - DEEP, OPAQUE], -1), {"extrasamples": ["unassalpha"], "photometric": "miniswhite"}),
        (np.stack([DEEP] * 3, -1), {"photometric": "rgb"}),
        (np.stack([DEEP] * 3), {"photometric": "rgb", "planarconfig": "separate"}),
        (np.stack([DEEP] * 3 + [OPAQUE], -1), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        (np.stack([DEEP] * 3 + [DEEP], -1), {"photometric": "rgb", "extrasamples": ["unspecified"]}),
    ],
)
def test_one_picture_in_all_layouts(tmp_path, values, options, byteorder):
    path = write(tmp_path / "a.tif", values, byteorder=byteorder, **options)
    assert image_size(path) == (40, 32)
    np.testing.assert_allclose(read_radiograph(path)[0].numpy(), SIXTEEN, atol=1e-6)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("bits", [1, 4, 8, 10, 12, 14])
def test_bits_of_a_sample_state_white(tmp_path, photometric, bits):
    top = 2**bits - 1
    values = (np.arange(40 * 32).reshape(40, 32) % (top + 1)).astype(np.uint8 if bits <= 8 else np.uint16)
    stored = top - values if photometric == "miniswhite" else values
    if bits == 1:
        stored = stored.astype(bool)
    path = write(tmp_path / "a.tif", stored, photometric=photometric, **({"bitspersample": bits} if bits > 1 else {}))
    np.testing.assert_allclose(read_radiograph(path)[0].numpy(), values / top, atol=1e-6)


@pytest.mark.parametrize("fill", [np.uint16(257), np.uint16(1)], ids=["16 bits", "8 bits, against the standard"])
def test_palette(tmp_path, fill):
    colors = np.tile((255 - np.arange(256, dtype=np.uint16)) * fill, (3, 1))
    path = write(tmp_path / "a.tif", BYTES, photometric="palette", colormap=colors)
    np.testing.assert_allclose(read_radiograph(path)[0].numpy(), 1 - BYTES / 255, atol=1e-6)


def test_transparent_pixels_are_black(tmp_path):
    alpha = np.where(DEEP > 30000, OPAQUE, 0)
    path = write(tmp_path / "a.tif", np.stack([DEEP, alpha], -1), extrasamples=["unassalpha"])
    np.testing.assert_allclose(read_radiograph(path)[0].numpy(), np.where(DEEP > 30000, SIXTEEN, 0), atol=1e-6)


def test_orientation(tmp_path):
    path = write(tmp_path / "a.tif", np.rot90(DEEP), extratags=[(274, "H", 1, 6, True)])
    assert image_size(path) == (40, 32)
    np.testing.assert_allclose(read_radiograph(path)[0].numpy(), SIXTEEN, atol=1e-6)


def test_a_preview_is_no_second_picture(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(DEEP[::2, ::2], photometric="minisblack", subfiletype=1)
        file.write(DEEP, photometric="minisblack")
    np.testing.assert_allclose(read_radiograph(tmp_path / "a.tif")[0].numpy(), SIXTEEN, atol=1e-6)


def test_missing_strips_are_not_read_as_black(tmp_path):
    path = write(tmp_path / "a.tif", DEEP, rowsperstrip=8)
    with tifffile.TiffFile(path, mode="r+") as file:
        sizes = file.pages[0].tags["StripByteCounts"]
        sizes.overwrite((0, *sizes.value[1:]))
    with pytest.raises(RadiographError, match="truncated or damaged: strips or tiles are missing"):
        read_radiograph(path)


def test_a_claimed_tile_reserves_no_memory(tmp_path):
    path = write(tmp_path / "a.tif", DEEP, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        for name in ("TileWidth", "TileLength"):
            file.pages[0].tags[name].overwrite(65520)
    with pytest.raises(RadiographError, match="tiles of 4,292,870,400 samples"):
        read_radiograph(path)


@pytest.mark.parametrize(
    ("values", "options", "reason"),
    [
        (np.stack([DEEP] * 4, -1), {"photometric": "separated"}, "SEPARATED, which is not supported"),
        (np.stack([DEEP] * 3, -1), {"photometric": "cielab"}, "CIELAB, which is not supported"),
        (np.stack([DEEP] * 5, -1), {"planarconfig": "contig"}, "5 samples a pixel, which is not supported"),
        (DEEP.astype(np.complex64), {}, "complex64, which is not supported"),
        (np.stack([DEEP] * 3), {"metadata": None}, "3 frames"),
        (DEEP.astype(np.int16) - 5, {}, "values from -"),
    ],
)
def test_refused_by_name(tmp_path, values, options, reason):
    with pytest.raises(RadiographError, match=reason):
        read_radiograph(write(tmp_path / "a.tif", values, **options))
