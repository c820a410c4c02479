"""Inputs of a screening: what is listed under which name, and what is left out."""

from __future__ import annotations

import os
import shutil

import pytest
from PIL import Image

from anomalib_cxr.data.reading.discovery import DOCUMENT, INDEX, WRITTEN
from anomalib_cxr.data.reading.written import mark_folder
from anomalib_cxr.errors import DatasetError
from anomalib_cxr.screening.pipeline.inputs import describe_left_out, find_inputs


@pytest.fixture
def tree(tmp_path, dicoms):
    """Two pictures, a text, and the DICOM files of two phantoms with their DICOMDIR."""
    folder = tmp_path / "archive"
    (folder / "deep" / "er").mkdir(parents=True)
    for file in (folder / "b.png", folder / "deep" / "er" / "a.png"):
        Image.new("L", (32, 32)).save(file)
    shutil.copytree(dicoms[0].parents[3], folder / "DICOM")
    (folder / "notes.txt").write_text("no picture")
    return folder


def names(files, folder):
    return [file.relative_to(folder).as_posix() for file in files]


def test_folders_with_all_in_them(tree):
    found = find_inputs([tree])
    slices = [f"DICOM/PT00000{number}/ST000000/SE000000/IM000000" for number in (0, 1)]
    assert names(found.files, tree) == [*slices, "b.png", "deep/er/a.png"]
    assert found.left_out == {DOCUMENT: [tree / "notes.txt"], INDEX: [tree / "DICOM" / "DICOMDIR"]}


@pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir"])
def test_dicomdir(tree, name):
    (tree / "DICOM" / "DICOMDIR").rename(tree / "DICOM" / name)
    found = find_inputs([tree / "DICOM" / name])
    assert [name.split("/")[1] for name in names(found.files, tree)] == ["PT000000", "PT000001"]


def test_each_once_in_the_order_of_the_inputs(tree, monkeypatch):
    monkeypatch.chdir(tree)
    given = [tree / "deep", tree / "b.png", tree / "deep" / "er" / "a.png", tree.relative_to(tree) / "b.png"]
    assert names(find_inputs(given).files, tree) == ["deep/er/a.png", "b.png"]


def test_under_the_path_that_the_user_knows(tree, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tree)
    monkeypatch.chdir(tree / "deep")
    found = find_inputs([tmp_path / "link" / "deep", (tree / "deep" / ".." / "b.png").relative_to(tree / "deep")])
    assert found.files == [tmp_path / "link" / "deep" / "er" / "a.png", tree / "b.png"]


def test_a_step_back_over_a_link_stays_the_same_file(tree, tmp_path):
    (tmp_path / "link").symlink_to(tree / "deep" / "er")
    (file,) = find_inputs([tmp_path / "link" / ".." / ".." / "b.png"]).files
    assert file.samefile(tree / "b.png")


def test_outputs_are_no_inputs_but_uploads_and_what_the_user_put_there_are(tree):
    for place in ("heatmaps", "layers", "uploads", "study"):
        (tree / "out" / place).mkdir(parents=True)
        shutil.copy(tree / "b.png", tree / "out" / place / "x.png")
    for place in ("heatmaps", "layers"):
        mark_folder(tree / "out" / place)
    found = find_inputs([tree / "out"])
    assert names(found.files, tree) == ["out/study/x.png", "out/uploads/x.png"]
    assert found.left_out == {WRITTEN: [tree / "out" / "heatmaps", tree / "out" / "layers"]}


def test_all_missing_ones_at_once(tree, tmp_path):
    given = [tmp_path / "none", tree, tmp_path / "neither.png"]
    with pytest.raises(DatasetError, match="inputs that do not exist") as error:
        find_inputs(given)
    assert error.value.offenders == {"no such path": [given[0], given[2]]}


def test_nothing_to_screen_names_what_was_left_out(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.png").symlink_to("nowhere")
    with pytest.raises(DatasetError, match=r"no radiograph in .*in\n.*link to nothing \(1\):\n.*link.png\n.*PNG"):
        find_inputs([tmp_path / "in"])


def test_missing_names_of_other_encodings_can_be_printed(tmp_path):
    with pytest.raises(DatasetError, match=r"M\\xfcller.png") as error:
        find_inputs([tmp_path / os.fsdecode(b"M\xfcller.png")])
    str(error.value).encode()


def test_summary_names_the_first_and_counts_all(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    assert describe_left_out({"hidden": paths, "locked": paths[:1]}).splitlines() == [
        "not screened, hidden: 7",
        *(f"  {path}" for path in paths[:5]),
        "  and 2 more",
        "not screened, locked: 1",
        f"  {paths[0]}",
    ]
