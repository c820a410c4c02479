"""Folders of X-rays: what is found, what a mask belongs to, and what cannot be told apart."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pandas as pd
import pytest

from anomalib_cxr.data.sources.folder_files import find_labeled, match_masks
from anomalib_cxr.errors import DatasetError


@pytest.fixture
def lay_out(tmp_path):
    """Write empty files: nothing is opened here."""

    def write(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return write


def found(root, *, excluded=(), **folders):
    return find_labeled(root, folders, [root / name for name in excluded])


def names(paths, root):
    return [Path(path).relative_to(root).as_posix() for path in paths]


def test_mixed_formats_in_nested_folders(lay_out):
    root = lay_out("ok/a.png", "ok/1/2/IM0001", "ok/1/b.DCM", "sick/c.tif", "ok/notes.txt", "ok/DICOMDIR", "ok/.x.png")
    table = found(root, normal_dir=["ok"], abnormal_dir=["sick"])
    assert names(table.image_path, root) == ["ok/1/2/IM0001", "ok/1/b.DCM", "ok/a.png", "sick/c.tif"]
    assert table.label_index.tolist() == [0, 0, 0, 1]
    assert set(table.split) == {""}


def test_several_folders_of_a_setting(lay_out):
    root = lay_out("a/1.png", "b/2.png", "tb/3.png", "mass/4.png", "held/5.png")
    table = found(root, normal_dir=["a", root / "b"], abnormal_dir=["tb", "mass"], normal_test_dir=["held"])
    assert names(table.image_path, root) == ["a/1.png", "b/2.png", "held/5.png", "mass/4.png", "tb/3.png"]
    assert table.label_index.tolist() == [0, 0, 0, 1, 1]
    assert table.split.tolist() == ["", "", "test", "", ""]


def test_missing_and_empty_folders_are_named_together(lay_out):
    root = lay_out("ok/a.png", "sick/notes.txt")
    with pytest.raises(DatasetError, match=r"normal_dir: no folder .*gone; abnormal_dir: .*sick with notes.txt"):
        found(root, normal_dir=["gone"], abnormal_dir=["sick"])


def test_files_of_two_labels(lay_out):
    root = lay_out("all/sick/a.png", "all/b.png", "held/c.png", "held/d.png")
    os.link(root / "held/c.png", root / "all/c.png")
    (root / "all/d.png").symlink_to(root / "held/d.png")
    with pytest.raises(DatasetError, match="X-rays in folders of two settings") as caught:
        found(root, normal_dir=["all"], abnormal_dir=["all/sick"], normal_test_dir=["held"])
    offenders = {reason: sorted(names(paths, root)) for reason, paths in caught.value.offenders.items()}
    assert offenders == {
        "in abnormal_dir and normal_dir": ["all/sick/a.png"],
        "in normal_dir and normal_test_dir": ["all/c.png", "all/d.png", "held/c.png", "held/d.png"],
    }


def test_masks_inside_are_no_xrays(lay_out):
    root = lay_out("a.png", "masks/a.png", "predicted_masks/a.png")
    assert names(found(root, excluded=["masks", "predicted_masks"], normal_dir=["."]).image_path, root) == ["a.png"]


class TestMasks:
    def images(self, root, *files):
        return pd.DataFrame({"image_path": [str(root / file) for file in files], "folder": str(root / "sick")})

    def test_by_name_in_the_same_subfolder(self, lay_out):
        root = lay_out("masks/1/IM1.png", "masks/2/IM1.png", "masks/b_mask.png")
        images = self.images(root, "sick/2/IM1.dcm", "sick/b.png", "sick/c.png", "sick/1/IM1")
        masks = match_masks(images, root, [root / "masks"], "mask_dir")
        assert [names(paths, root) for paths in masks] == [
            ["masks/2/IM1.png"],
            ["masks/b_mask.png"],
            [],
            ["masks/1/IM1.png"],
        ]

    def test_by_name_relative_to_the_root(self, lay_out):
        root = lay_out("masks/sick/a.png")
        masks = match_masks(self.images(root, "sick/a.dcm"), root, [root / "masks"], "lung_mask_dir")
        assert [names(paths, root) for paths in masks] == [["masks/sick/a.png"]]

    def test_one_of_each_folder(self, lay_out):
        root = lay_out("left/a.png", "right/a.png")
        masks = match_masks(self.images(root, "sick/a.png"), root, [root / "left", root / "right"], "lung_mask_dir")
        assert [names(paths, root) for paths in masks] == [["left/a.png", "right/a.png"]]

    def test_masks_of_no_xray_are_told(self, lay_out, caplog):
        root = lay_out("masks/a.png", "masks/z.png")
        with caplog.at_level(logging.WARNING):
            match_masks(self.images(root, "sick/a.png"), root, [root / "masks"], "mask_dir")
        assert "mask_dir: 1 masks of no X-ray, such as" in caplog.text
        assert "z.png" in caplog.text

    def test_two_of_a_name(self, lay_out):
        root = lay_out("masks/a.png", "masks/a_mask.png", "masks/b.png")
        with pytest.raises(DatasetError, match="several masks of the same name") as caught:
            match_masks(self.images(root, "sick/a.png"), root, [root / "masks"], "mask_dir")
        assert [names(paths, root) for paths in caught.value.offenders.values()] == [
            ["masks/a.png", "masks/a_mask.png"]
        ]

    def test_no_folder(self, tmp_path):
        with pytest.raises(DatasetError, match="mask_dir: no folder"):
            match_masks(self.images(tmp_path), tmp_path, [tmp_path / "masks"], "mask_dir")
