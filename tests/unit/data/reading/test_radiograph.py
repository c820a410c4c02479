"""Reading image files and masks; every expected value follows from the numbers written into the file."""

from __future__ import annotations

import subprocess
import sys

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file

from anomalib_cxr.data.reading import gray, limits
from anomalib_cxr.data.reading.intensities import image_size
from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.errors import RadiographError

RAMP = np.arange(32 * 24, dtype=np.uint32).reshape(32, 24)
GRAY = (RAMP % 256).astype(np.uint8)  # holds 0 and 255


def save(path, values, mode=None, **options):
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def assert_reads(path, expected, white=None):
    image = read_radiograph(path, white)
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image.numpy(), expected[None], rtol=1e-6)


class TestGray:
    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
    def test_eight_bits(self, tmp_path, suffix):
        assert_reads(save(tmp_path / f"a{suffix}", GRAY), GRAY / 255)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
    def test_gray_stored_as_color(self, tmp_path, mode):
        assert_reads(save(tmp_path / "a.png", GRAY, mode), GRAY / 255)

    def test_palette(self, tmp_path):
        image = Image.fromarray(GRAY)
        image = image.convert("P")
        image.putpalette([level for index in range(256) for level in (255 - index,) * 3])
        image.save(tmp_path / "a.png")
        assert_reads(tmp_path / "a.png", 1 - GRAY / 255)

    def test_color_is_read_as_luminance(self, tmp_path):
        colors = np.zeros((16, 16, 3), np.uint8)
        colors[:8, :, 0], colors[8:, :, 1] = 255, 255
        image = read_radiograph(save(tmp_path / "a.png", colors))[0]
        torch.testing.assert_close(image[[0, 8], 0], torch.tensor([0.299, 0.587]), atol=1 / 255, rtol=0)

    def test_one_bit(self, tmp_path):
        bits = GRAY > 100
        assert_reads(save(tmp_path / "a.png", bits), bits.astype(float))

    def test_jpeg(self, tmp_path):
        smooth = np.tile(np.linspace(20, 230, 64).astype(np.uint8), (64, 1))
        image = read_radiograph(save(tmp_path / "a.jpg", smooth, quality=95))
        assert image.shape == (1, 64, 64)
        assert np.abs(image[0].numpy() - smooth / 255).max() < 3 / 255

    def test_float_tiff(self, tmp_path):
        values = (GRAY / 255).astype(np.float32)
        assert_reads(save(tmp_path / "a.tif", values), values)

    def test_content_decides_not_the_suffix(self, tmp_path):
        path = save(tmp_path / "a.png", GRAY)
        assert_reads(path.rename(tmp_path / "a.dcm"), GRAY / 255)


class TestSixteenBits:
    def test_copy_of_eight_bits_reads_the_same(self, tmp_path):
        eight = read_radiograph(save(tmp_path / "8.png", GRAY))
        sixteen = read_radiograph(save(tmp_path / "16.png", GRAY.astype(np.uint16) * 257))
        torch.testing.assert_close(sixteen, eight, atol=1e-7, rtol=0)

    @pytest.mark.parametrize("highest", [4095, 4094, 700])
    def test_white_is_the_setting_whatever_the_values(self, tmp_path, highest):
        values = np.clip(RAMP * 100, 0, highest).astype(np.uint16)
        path = save(tmp_path / "a.png", values)
        assert_reads(path, values / 4095, 4095)
        assert_reads(path, values / 65535, 65535)

    def test_values_above_the_stated_white_are_told(self, tmp_path):
        path = save(tmp_path / "a.png", np.full((32, 24), 4096, np.uint16))
        with pytest.raises(RadiographError, match=r"values from 4096 to 4096, but sixteen_bit_white = 4095\n"):
            read_radiograph(path, 4095)

    @pytest.mark.parametrize(("highest", "bits"), [(4095, 12), (4096, 13), (32767, 15)])
    def test_bits_in_doubt_are_refused(self, tmp_path, highest, bits):
        path = save(tmp_path / "a.png", np.full((32, 24), highest, np.uint16))
        with pytest.raises(RadiographError, match=rf"{bits} bits in use, or a dark(?s:.*)set sixteen_bit_white to"):
            read_radiograph(path)
        assert image_size(path) == (32, 24)

    def test_default_is_told_once(self, tmp_path, caplog):
        gray._tell_default.cache_clear()
        path = save(tmp_path / "a.png", (RAMP * 80).astype(np.uint16))
        with caplog.at_level("INFO"):
            read_radiograph(path), read_radiograph(path)
        assert [record.message for record in caplog.records if "white is 65535, the default" in record.message] == [
            "16-bit pictures: white is 65535, the default; sixteen_bit_white is the setting"
        ]

    def test_big_endian_tiff(self, tmp_path):
        values = (RAMP * 80).astype(">u2")
        Image.frombytes("I;16B", (24, 32), values.tobytes()).save(tmp_path / "a.tif")
        assert_reads(tmp_path / "a.tif", values / 65535)

    def test_thirty_two_bit_mode(self, tmp_path):
        assert_reads(save(tmp_path / "a.tif", (RAMP * 80).astype(np.int32)), RAMP * 80 / 65535)


@pytest.fixture
def dicom(tmp_path):
    """A DICOM file without suffix, relabeled from pydicom's own 128 x 128 sample."""
    dataset = dcmread(get_testdata_file("CT_small.dcm", download=False))
    dataset.Modality = "DX"
    dataset.save_as(tmp_path / "chest")
    return tmp_path / "chest"


def test_dicom_without_suffix(dicom):
    dataset = dcmread(dicom)
    stored = dataset.pixel_array.astype(float)
    image = read_radiograph(dicom)
    assert image_size(dicom) == (128, 128)
    np.testing.assert_allclose(image[0].numpy(), (stored + 32768) / 65535, atol=1e-6)


class TestMask:
    def test_above_half_of_eight_bits(self, tmp_path):
        mask = read_mask(save(tmp_path / "a.png", GRAY))
        assert mask.dtype == torch.bool
        np.testing.assert_array_equal(mask.numpy(), GRAY >= 128)

    def test_above_half_of_sixteen_bits(self, tmp_path):
        values = (RAMP * 85).astype(np.uint16)
        np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", values)).numpy(), values >= 32768)

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16])
    def test_zero_and_one(self, tmp_path, dtype):
        lung = GRAY > 200
        np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", lung.astype(dtype))).numpy(), lung)

    @pytest.mark.parametrize("mode", ["RGB", "P"])
    def test_color_and_palette(self, tmp_path, mode):
        white = np.where(GRAY > 200, 255, 0).astype(np.uint8)
        np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", white, mode)).numpy(), white == 255)

    def test_several_files_are_merged(self, tmp_path):
        left, right = np.zeros_like(GRAY), np.zeros_like(GRAY)
        left[4:20, 2:8], right[6:24, 14:20] = 255, 255
        mask = read_mask(save(tmp_path / "l.png", left), str(save(tmp_path / "r.png", right)))
        np.testing.assert_array_equal(mask.numpy(), (left | right) == 255)

    def test_file_without_lung(self, tmp_path):
        assert not read_mask(save(tmp_path / "a.png", np.zeros_like(GRAY))).any()

    def test_sizes_differ(self, tmp_path):
        left, right = save(tmp_path / "l.png", GRAY), save(tmp_path / "r.png", GRAY[:20])
        with pytest.raises(RadiographError, match=r"r\.png: mask of 20 x 24 px, but l\.png is 32 x 24 px"):
            read_mask(left, right)

    def test_labels_below_half_are_not_taken_for_no_lung(self, tmp_path):
        path = save(tmp_path / "a.png", GRAY % 3)
        with pytest.raises(RadiographError, match=r"greatest value is 2, not above half of white \(255\)"):
            read_mask(path)

    def test_missing(self, tmp_path):
        with pytest.raises(RadiographError, match="cannot be opened: No such file"):
            read_mask(tmp_path / "absent.png")


class TestSize:
    def test_height_comes_first(self, tmp_path):
        assert image_size(save(tmp_path / "a.png", GRAY)) == (32, 24)

    def test_header_is_enough(self, tmp_path):
        path = save(tmp_path / "a.png", GRAY)
        path.write_bytes(path.read_bytes()[:60])
        assert image_size(path) == (32, 24)

    @pytest.mark.parametrize("read", [image_size, read_radiograph, read_mask])
    def test_too_small(self, tmp_path, read):
        path = save(tmp_path / "a.png", GRAY[:15])
        with pytest.raises(RadiographError, match="too small: 15 x 24 px"):
            read(path)

    @pytest.mark.parametrize("read", [image_size, read_radiograph, read_mask])
    def test_too_large(self, tmp_path, monkeypatch, read):
        monkeypatch.setattr(limits, "MAX_PIXELS", 700)
        path = save(tmp_path / "a.png", GRAY)
        with pytest.raises(RadiographError, match=r"too large: 32 x 24 px\n.*at most 700 px"):
            read(path)

    def test_decompression_bomb(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
        path = save(tmp_path / "a.png", GRAY)
        with pytest.raises(RadiographError, match=r"too large: Image size \(768 pixels\)"):
            read_radiograph(path)

    def test_small_dicom(self, dicom):
        dataset = dcmread(dicom)
        dataset.Rows, dataset.PixelData = 8, dataset.PixelData[: 8 * 128 * 2]
        dataset.save_as(dicom)
        with pytest.raises(RadiographError, match="too small: 8 x 128 px"):
            read_radiograph(dicom)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tiff", "png"])
def test_memory_of_a_pixel_is_bounded(tmp_path, kind):
    """16-bit color with opacity, the worst case, in a process of its own."""
    side, path = 3000, tmp_path / "a"
    ramp = np.broadcast_to((np.arange(side) * 21).astype(np.uint16), (side, side))
    samples = np.stack([ramp, ramp[:, ::-1], ramp, np.full_like(ramp, 60000)], -1)
    if kind == "tiff":
        tifffile.imwrite(path, samples, photometric="rgb", extrasamples=["unassalpha"], compression="zlib")
    else:
        path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(samples), level=1))
    code = (
        "import resource, sys; from anomalib_cxr.data.reading.radiograph import read_radiograph\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = used(); read_radiograph(sys.argv[1]); print(used() - before)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    assert int(done.stdout) - path.stat().st_size < 24 * side * side


class TestRefused:
    def refuses(self, path, reason):
        with pytest.raises(RadiographError, match=reason) as caught:
            read_radiograph(path)
        assert caught.value.path == path

    def test_missing(self, tmp_path):
        self.refuses(tmp_path / "absent.png", "cannot be opened: No such file")

    def test_folder(self, tmp_path):
        self.refuses(tmp_path, "cannot be opened: ")

    def test_zero_bytes(self, tmp_path):
        (tmp_path / "a.png").touch()
        self.refuses(tmp_path / "a.png", r"empty file \(0 bytes\)")

    def test_text(self, tmp_path):
        (tmp_path / "a.png").write_text("no image " * 50)
        self.refuses(tmp_path / "a.png", "not an image, or its header is damaged")

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
    def test_truncated(self, tmp_path, suffix):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
        path = save(tmp_path / f"a{suffix}", noise)
        path.write_bytes(path.read_bytes()[:1500])
        self.refuses(path, "truncated or damaged|not an image")

    @pytest.mark.parametrize("suffix", [".tif", ".png"])
    def test_several_frames(self, tmp_path, suffix):
        frames = [Image.fromarray(GRAY + np.uint8(shift)) for shift in range(3)]
        frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
        self.refuses(tmp_path / f"a{suffix}", "3 frames")

    def test_nan(self, tmp_path):
        values = np.zeros((32, 24), np.float32)
        values[3, 5] = np.nan
        self.refuses(save(tmp_path / "a.tif", values), "NaN among the values")

    def test_float_beyond_one(self, tmp_path):
        values = np.full((32, 24), 200.0, np.float32)
        self.refuses(save(tmp_path / "a.tif", values), r"values from 200\.0 to 200\.0")

    @pytest.mark.parametrize("value", [-1, 65536])
    def test_integers_beyond_sixteen_bits(self, tmp_path, value):
        values = np.zeros((32, 24), np.int32)
        values[0, 0] = value
        self.refuses(save(tmp_path / "a.tif", values), f"values from {min(value, 0)} to {max(value, 0)}")
