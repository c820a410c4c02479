"""Pictures of all X-rays, whatever their files are called."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from anomalib_cxr import RoiImageBatch
from anomalib_cxr.models.base.visualizer import RadiographVisualizer


def save_gray(path, value, bits=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = (np.full((40, 40), value) * (2**bits - 1)).round()
    Image.fromarray(levels.astype(np.uint8 if bits == 8 else np.uint16)).save(path, format="PNG")
    return str(path)


def draw(visualizer, folder, paths):
    batch = RoiImageBatch(
        image=torch.zeros(len(paths), 3, 32, 32),
        image_path=paths,
        pred_score=torch.zeros(len(paths)),
        anomaly_map=torch.zeros(len(paths), 1, 32, 32),
        pred_label=torch.zeros(len(paths), dtype=torch.bool),
        pred_mask=torch.zeros(len(paths), 1, 32, 32, dtype=torch.bool),
    )
    visualizer.on_test_batch_end(SimpleNamespace(default_root_dir=folder), None, batch, batch, 0)
    return sorted(path.relative_to(folder / "images") for path in (folder / "images").rglob("*.png"))


def test_files_of_one_name_in_nested_folders_have_a_picture_each(tmp_path):
    paths = [save_gray(tmp_path / patient / "study" / "image", 0.5) for patient in ("a", "b", "c")]
    found = draw(RadiographVisualizer(), tmp_path / "results", paths)
    assert len(found) == 3
    assert {path.name for path in found} == {"image.png"}


def test_names_with_dots_are_kept(tmp_path):
    paths = [save_gray(tmp_path / f"1.2.840.{number}", 0.5) for number in (1, 2)]
    found = draw(RadiographVisualizer(), tmp_path / "results", paths)
    assert [path.name for path in found] == ["1.2.840.1.png", "1.2.840.2.png"]


def test_a_second_pass_over_the_same_file_replaces_its_picture(tmp_path):
    visualizer, paths = RadiographVisualizer(), [save_gray(tmp_path / "one.png", 0.5)]
    assert draw(visualizer, tmp_path / "results", paths) == draw(visualizer, tmp_path / "results", paths)


@pytest.mark.parametrize("bits", [8, 16])
def test_gray_stays_gray(tmp_path, bits):
    (name,) = draw(RadiographVisualizer(), tmp_path / "results", [save_gray(tmp_path / "x.png", 0.5, bits)])
    picture = np.asarray(Image.open(tmp_path / "results" / "images" / name).convert("L"))
    assert abs(int(picture[200, 128]) - 128) <= 2  # below the caption, in the X-ray itself
