"""Colors and outline at known pixels."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from anomalib_cxr.screening.pipeline.explanation import draw_heatmap, write_picture

OUTLINE = [89, 217, 242]
NONE = np.zeros((16, 16))


def test_without_heat_the_xray_stays_as_it_is():
    picture = np.random.default_rng(0).random((40, 30))
    drawn = draw_heatmap(picture, np.zeros((8, 8)), NONE)
    assert (drawn.shape, drawn.dtype) == ((40, 30, 3), np.uint8)
    assert np.abs(drawn - 255 * picture[..., None]).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("level", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("gray", [0.0, 0.8])
def test_color_of_the_heat(level, gray):
    """Opaque as it is hot: at most 60 %."""
    color = np.array(mpl.colormaps["inferno"](level)[:3])
    expected = 255 * (gray * (1 - 0.6 * level) + color * 0.6 * level)
    drawn = draw_heatmap(np.full((20, 20), gray), np.full((8, 8), level), NONE)
    assert np.abs(drawn - expected).max() <= 1


def test_heat_lies_where_it_is():
    heat = np.zeros((8, 8))
    heat[:2, 6:] = 1
    drawn = draw_heatmap(np.full((80, 40), 0.5), heat, NONE).astype(int)
    colored = np.abs(drawn - drawn.mean(axis=2, keepdims=True)).max(axis=2) > 20
    assert colored[:16, 32:].all()
    assert not colored[30:].any()
    assert not colored[:, :20].any()


def test_outline_of_the_lungs():
    lungs = np.zeros((32, 32))
    lungs[8:24, 4:12] = 1
    drawn = draw_heatmap(np.full((32, 32), 0.5), np.zeros((8, 8)), lungs)
    outlined = (drawn == OUTLINE).all(axis=2)
    expected = lungs.astype(bool)
    expected[9:23, 5:11] = False
    assert np.array_equal(outlined, expected)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_written_and_read_again(tmp_path, shape):
    path = tmp_path / "new" / "picture.png"
    levels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_picture(levels, path)
    assert np.array_equal(np.asarray(Image.open(path)), levels)
    write_picture(np.clip(levels / 255, 0, 1), path)
    assert np.array_equal(np.asarray(Image.open(path)), levels)
    assert list(path.parent.iterdir()) == [path]


def test_beyond_black_and_white(tmp_path):
    write_picture(np.array([[-0.5, 0.5, 1.5]]), tmp_path / "picture.png")
    assert np.asarray(Image.open(tmp_path / "picture.png")).tolist() == [[0, 128, 255]]


def test_a_full_disk_leaves_the_former(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    write_picture(np.zeros((4, 4)), path)
    before = path.read_bytes()

    def fail(self, file, **_):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        write_picture(np.ones((4, 4)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
