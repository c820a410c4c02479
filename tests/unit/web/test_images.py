"""Images of cases: content, allowed places, and the cache."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_cxr.data.reading import intensities
from anomalib_cxr.errors import RadiographError
from anomalib_cxr.screening.pipeline.explanation import draw_heatmap
from anomalib_cxr.web.images import CaseImages, ImageUnavailableError

from .conftest import HEIGHT, WIDTH, draw_case, rescreened


def opened(png):
    return Image.open(io.BytesIO(png))


@pytest.fixture
def case(tmp_path):
    return draw_case(tmp_path, "c", 0.5)


@pytest.fixture
def images(tmp_path):
    return CaseImages(tmp_path)


def test_xray_is_the_file(images, case):
    picture = opened(images.render("xray", case))
    assert picture.mode == "L"
    assert np.array_equal(np.asarray(picture), np.asarray(Image.open(case.path)))


def test_large_xray_is_reduced(tmp_path, images, case):
    Image.new("I;16", (3000, 2100), 40000).save(case.path)
    picture = opened(images.render("xray", rescreened(case)))
    assert picture.size == (2048, 1434)
    assert np.unique(np.asarray(picture)).tolist() == [round(255 * 40000 / 65535)]


def test_values_have_16_bits_and_their_window(images, case):
    rows, columns = np.indices((HEIGHT, WIDTH))
    Image.fromarray((rows * 900 + columns * 7).astype(np.uint16)).save(case.path)
    picture = opened(images.render("values", rescreened(case)))
    assert np.array_equal(np.asarray(picture), rows * 900 + columns * 7)
    window = json.loads(picture.info["values"])
    assert (window["center"], window["width"], window["inverted"]) == (32767.5, 65535, False)


def test_large_values_are_reduced_within_their_range(tmp_path, images, case):
    edge = np.full((2100, 3000), 40000, np.uint16)
    edge[:, 1500:] = 60000
    Image.fromarray(edge).save(case.path)
    values = np.asarray(opened(images.render("values", rescreened(case))))
    assert values.shape == (1434, 2048)
    assert (values.min(), values.max()) == (40000, 60000)


def test_values_of_a_file_that_changed_are_not_shown(images, case):
    images.render("values", case)
    Image.new("L", (40, 60), 9).save(case.path)
    with pytest.raises(ImageUnavailableError, match="has changed"):
        images.render("values", case)


def test_heat_covers_the_image_and_is_clear_where_there_is_none(images, case):
    picture = opened(images.render("heat", case))
    assert picture.size == (WIDTH, HEIGHT)
    alpha = np.asarray(picture)[..., 3]
    assert (alpha[: HEIGHT // 2 - 4] == round(0.7 * 255)).all()
    assert (alpha[HEIGHT // 2 + 4 :] == 0).all()


def test_layers_of_large_xrays_are_reduced(images, case):
    large = replace(case, width=4000, height=3000)
    assert opened(images.render("heat", large)).size == (512, 384)
    assert opened(images.render("lungs", large)).size == (1024, 768)


@pytest.mark.parametrize("gray", [40, 200])
def test_heat_over_the_xray_is_the_heatmap_on_disk(tmp_path, images, case, gray):
    levels = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    Image.fromarray(levels).save(tmp_path / f"{case.layers}-heat.png")
    page = Image.new("RGBA", (WIDTH, HEIGHT), (gray, gray, gray, 255))
    page.alpha_composite(opened(images.render("heat", case)))
    disk = draw_heatmap(np.full((HEIGHT, WIDTH), gray / 255), levels / 255, np.zeros((8, 8)))
    assert np.abs(np.asarray(page)[..., :3].astype(int) - disk).max() <= 2


def test_lungs_are_an_outline(images, case):
    alpha = np.asarray(opened(images.render("lungs", case)))[..., 3] > 0
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    assert abs(rows[0] - HEIGHT / 4) <= 1
    assert abs(columns[-1] - (WIDTH * 3 / 4 - 1)) <= 1
    assert not alpha[HEIGHT // 2, WIDTH // 2]


def test_thumbnail_is_small(tmp_path, images, case):
    Image.new("RGB", (500, 250)).save(tmp_path / case.heatmap)
    assert opened(images.render("thumbnail", case)).size == (64, 32)


class TestRefusals:
    @pytest.mark.parametrize("stem", ["../secret", "layers/../../secret", "{outside}/secret", "link", ""])
    def test_layers_come_from_the_folder_alone(self, tmp_path, stem):
        folder = tmp_path / "out"
        folder.mkdir()
        for kind in ("heat", "lungs"):
            Image.new("L", (20, 20)).save(tmp_path / f"secret-{kind}.png")
            (folder / f"link-{kind}.png").symlink_to(tmp_path / f"secret-{kind}.png")
        case = replace(draw_case(folder, "c", 0.5), layers=stem.format(outside=tmp_path))
        for kind in ("heat", "lungs"):
            with pytest.raises(ImageUnavailableError, match="no such image"):
                CaseImages(folder).render(kind, case)

    @pytest.mark.parametrize("heatmap", ["../secret.png", "/etc/passwd", ""])
    def test_thumbnails_too(self, tmp_path, heatmap):
        folder = tmp_path / "out"
        folder.mkdir()
        Image.new("L", (20, 20)).save(tmp_path / "secret.png")
        with pytest.raises(ImageUnavailableError, match="no such image"):
            CaseImages(folder).render("thumbnail", replace(draw_case(folder, "c", 0.5), heatmap=heatmap))

    def test_another_file_than_was_screened(self, images, case):
        """A file of the same size and time, drawn before, is recognized by its content."""
        images.render("xray", case)
        content = bytearray(Path(case.path).read_bytes())
        content[-20] ^= 1
        Path(case.path).write_bytes(content)
        os.utime(case.path, ns=(case.modified, case.modified))
        with pytest.raises(ImageUnavailableError, match="has changed since it was screened"):
            images.render("xray", case)

    def test_the_same_content_written_again_is_the_file_that_was_screened(self, images, case):
        expected = images.render("xray", case)
        Path(case.path).write_bytes(Path(case.path).read_bytes())
        os.utime(case.path, ns=(1, 1))
        assert images.render("xray", case) == expected

    def test_no_image(self, images, case):
        Path(case.path).write_bytes(b"no image at all")
        with pytest.raises(RadiographError, match="not an image"):
            images.render("xray", rescreened(case))


class TestCache:
    @pytest.fixture
    def drawn(self, monkeypatch):
        read, names = intensities.read_intensities, []

        def counted(content, *white):
            names.append(content.path.stem)
            return read(content, *white)

        monkeypatch.setattr(intensities, "read_intensities", counted)
        return names

    def test_drawn_once(self, images, case, drawn):
        assert images.render("xray", case) == images.render("xray", case)
        assert drawn == ["c"]

    def test_screened_anew_is_drawn_anew(self, images, case, drawn):
        images.render("xray", case)
        images.render("xray", replace(case, screened="later"))
        assert drawn == ["c", "c"]

    def test_the_one_not_asked_for_for_longest_goes(self, tmp_path, drawn):
        cases = [draw_case(tmp_path, name, 0.5) for name in "abc"]
        size = len(CaseImages(tmp_path).render("xray", cases[0]))
        drawn.clear()
        images = CaseImages(tmp_path, capacity=2 * size)
        for index in (0, 1, 0, 2, 0, 1):
            images.render("xray", cases[index])
        assert drawn == ["a", "b", "c", "b"]
