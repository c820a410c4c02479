"""Which files a screening is to look at."""

from __future__ import annotations

import shutil

import pytest

from anomalib_cxr.errors import DatasetError
from anomalib_cxr.screening.pipeline.inputs import find_inputs


@pytest.fixture
def tree(images, dicoms, tmp_path):
    """Pictures and a DICOM folder in a folder, with a text beside them."""
    folder = tmp_path / "in"
    (folder / "deep" / "er").mkdir(parents=True)
    shutil.copy(images[0], folder / "b.png")
    shutil.copy(images[1], folder / "deep" / "er" / "a.png")
    shutil.copytree(dicoms[0].parents[3], folder / "DICOM")
    (folder / "notes.txt").write_text("no picture")
    return folder


def names(files, folder):
    return [file.relative_to(folder.resolve()).as_posix() for file in files]


def test_folders_with_all_in_them(tree, tmp_path):
    found = find_inputs([tree], tmp_path / "out")
    slices = [f"DICOM/PT00000{number}/ST000000/SE000000/IM000000" for number in (0, 1)]
    assert names(found, tree) == [*slices, "b.png", "deep/er/a.png"]
    assert all(file.is_absolute() for file in found)


def test_dicomdir(tree, tmp_path):
    found = find_inputs([tree / "DICOM" / "DICOMDIR"], tmp_path / "out")
    assert [name.split("/")[1] for name in names(found, tree)] == ["PT000000", "PT000001"]


def test_each_once_in_the_order_of_the_inputs(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tree)
    given = [tree / "deep", tree / "b.png", tree / "deep" / "er" / "a.png", tree.relative_to(tree) / "b.png"]
    assert names(find_inputs(given, tmp_path / "out"), tree) == ["deep/er/a.png", "b.png"]


def test_pictures_of_the_worklist_are_no_inputs(tree):
    output = tree / "out"
    for place in ("heatmaps", "layers", "uploads"):
        (output / place).mkdir(parents=True)
        shutil.copy(tree / "b.png", output / place / "x.png")
    assert names(find_inputs([tree / "out", tree / "b.png"], output), tree) == ["out/uploads/x.png", "b.png"]


def test_all_missing_ones_at_once(tree, tmp_path):
    given = [tmp_path / "none", tree, tmp_path / "neither.png"]
    with pytest.raises(DatasetError, match="inputs that do not exist") as error:
        find_inputs(given, tmp_path / "out")
    assert error.value.offenders == {"no such path": [given[0], given[2]]}


def test_nothing_to_screen(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(DatasetError, match=r"no radiograph in .*in\n.*PNG"):
        find_inputs([tmp_path / "in"], tmp_path / "out")
