"""Reading X-rays as arrays without torch, and their size; what the formats say is tested with the tensors."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from anomalib_cxr.data.reading.intensities import image_size, intact_size, read_intensities
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.errors import RadiographError

GRAY = (np.arange(32 * 24) % 256).astype(np.uint8).reshape(32, 24)


@pytest.fixture
def path(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_array_has_the_values_of_the_tensor(path):
    intensities = read_intensities(path)
    assert intensities.dtype == np.float32
    np.testing.assert_allclose(intensities, GRAY / 255, rtol=1e-6)
    assert np.array_equal(read_radiograph(path)[0].numpy(), intensities)


def test_torch_is_not_needed(path):
    code = (
        "import sys; from anomalib_cxr.data.reading.intensities import read_intensities\n"
        "print(read_intensities(sys.argv[1]).shape, 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)  # noqa: S603
    assert told.stdout.strip() == "(32, 24) False"


class TestIntactSize:
    def test_height_comes_first(self, path):
        assert intact_size(path) == image_size(path) == (32, 24)

    def test_every_flipped_bit_of_the_picture_is_seen(self, path):
        content = path.read_bytes()
        start, end = content.index(b"IDAT"), content.index(b"IEND") - 4
        for place in range(start + 4, end):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(RadiographError, match="truncated or damaged"):
                intact_size(path)

    def test_truncated(self, path):
        path.write_bytes(path.read_bytes()[:-13])
        with pytest.raises(RadiographError, match="truncated or damaged"):
            intact_size(path)
