"""Colors and outline at known pixels."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_erosion, gaussian_filter

from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.screening.heat_colors import color_heat
from anomalib_cxr.screening.pipeline.explanation import describe, draw_heatmap, write_png

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
    """The upper part of a colormap, soon opaque, at most to 70 %."""
    color = np.array(mpl.colormaps["plasma"](0.3 + 0.7 * level)[:3])
    opacity = 0.7 * (1 - np.exp(-level / 0.12))
    expected = 255 * (gray * (1 - opacity) + color * opacity)
    drawn = draw_heatmap(np.full((20, 20), gray), np.full((8, 8), level), NONE)
    assert np.abs(drawn - expected).max() <= 1


@pytest.mark.parametrize("size", [(96, 80), (20, 24)])  # larger and smaller than the maps
def test_is_the_mixture_of_xray_and_colors(size):
    """Each pixel by the formula, with the maps resized as the network's input is."""
    rng = np.random.default_rng(0)
    heat, lungs = (gaussian_filter(rng.random((48, 40)), 2) for _ in range(2))
    heat, xray = np.clip(4 * heat - 1.8, 0, 1), rng.random(size)
    enlarged = antialiased_resize(torch.from_numpy(np.stack([heat, lungs]))[:, None], size)[:, 0].numpy()
    colors = color_heat(enlarged[0])
    expected = 255 * (xray[..., None] * (1 - colors[..., 3:]) + colors[..., :3] * colors[..., 3:])
    inside = enlarged[1] > 0.5
    expected[inside & ~binary_erosion(inside)] = OUTLINE
    assert np.ptp(colors[..., 3]) > 0.3
    assert np.abs(draw_heatmap(xray, heat, lungs) - expected).max() <= 4  # a level of heat, if rounding lifts it


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
    write_png(levels, path)
    assert np.array_equal(np.asarray(Image.open(path)), levels)
    write_png(np.clip(levels / 255, 0, 1), path)
    assert np.array_equal(np.asarray(Image.open(path)), levels)
    assert list(path.parent.iterdir()) == [path]


def test_beyond_black_and_white(tmp_path):
    write_png(np.array([[-0.5, 0.5, 1.5]]), tmp_path / "picture.png")
    assert np.asarray(Image.open(tmp_path / "picture.png")).tolist() == [[0, 128, 255]]


def test_a_full_disk_leaves_the_former(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    write_png(np.zeros((4, 4)), path)
    before = path.read_bytes()

    write = Path.write_bytes

    def fail(self, content):
        write(self, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(OSError, match="No space left"):
            write_png(np.ones((4, 4)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


LUNGS = np.zeros((48, 48))
LUNGS[6:42, 5:20] = LUNGS[6:42, 28:43] = 1


def heat_at(row, column, side=48):
    heat = np.zeros((side, side))
    heat[row, column] = 1
    return heat


@pytest.mark.parametrize(
    ("row", "column", "place"),
    [
        (8, 12, "right lung, upper zone (left in the image)"),
        (24, 12, "right lung, middle zone (left in the image)"),
        (40, 12, "right lung, lower zone (left in the image)"),
        (8, 36, "left lung, upper zone (right in the image)"),
        (24, 36, "left lung, middle zone (right in the image)"),
        (40, 36, "left lung, lower zone (right in the image)"),
    ],
)
def test_place(row, column, place):
    assert describe(0.5, heat_at(row, column), LUNGS).endswith(f"Most unusual: {place}.")


def test_heat_of_another_size():
    found = describe(0.5, heat_at(20, 3, side=24), LUNGS)
    assert "right lung, lower zone" in found


def test_heat_outside_the_lungs_does_not_count():
    heat = heat_at(24, 24) + 0.2 * heat_at(40, 36)
    assert "left lung, lower zone" in describe(0.5, heat, LUNGS)


def test_one_hot_pixel_is_less_than_a_hot_region():
    heat = heat_at(8, 12)
    heat[36:42, 30:40] = 0.9
    assert "left lung, lower zone" in describe(0.5, heat, LUNGS)


def test_no_lungs():
    assert describe(0.5, heat_at(8, 12), np.zeros((48, 48))).endswith("Most unusual: no lungs found.")


@pytest.mark.parametrize(("share", "words"), [(1.0, "100 %"), (0.034, "3 %"), (0.01, "1 %"), (0.0033, "0.3 %")])
def test_share(share, words):
    assert describe(share, heat_at(8, 12), LUNGS).startswith(f"{words} of healthy images score as high.")
