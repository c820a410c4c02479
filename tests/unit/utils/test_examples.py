"""Example configurations in a folder of the user's own."""

from __future__ import annotations

import shutil

import pytest

from anomalib_cxr.errors import CxrError
from anomalib_cxr.utils import examples
from anomalib_cxr.utils.examples import configs_folder, copy_examples


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_copies_every_configuration_and_the_readme(tmp_path):
    copy_examples(tmp_path / "new" / "folder")
    copied = contents(tmp_path / "new" / "folder")
    source = {name: content for name, content in contents(configs_folder()).items() if name.name != "README.md"}
    assert contents(tmp_path / "new" / "folder" / "configs") == source
    assert b"anomalib train --config configs/quickstart.yaml" in copied.pop(type(tmp_path)("README.md"))
    assert len(copied) == len(source)


def test_adds_to_a_folder_with_other_files(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "own.yaml").write_text("mine")
    copy_examples(tmp_path)
    assert (tmp_path / "configs" / "own.yaml").read_text() == "mine"
    assert (tmp_path / "configs" / "quickstart.yaml").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"configs", "README.md"}


def test_overwrites_nothing_and_names_what_is_there(tmp_path):
    (tmp_path / "configs" / "data").mkdir(parents=True)
    for name in ("README.md", "configs/quickstart.yaml", "configs/data/chest_phantom.yaml"):
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(CxrError, match="3 files that are there already") as error:
        copy_examples(tmp_path)
    assert all(str(tmp_path / name) in str(error.value) for name in before)
    assert contents(tmp_path) == before


def test_a_failed_copy_leaves_nothing(tmp_path, monkeypatch):
    def copy_half(source, target):
        target.mkdir()
        (target / "quickstart.yaml").touch()
        raise OSError("no space left")

    monkeypatch.setattr(examples.shutil, "copytree", copy_half)
    with pytest.raises(OSError, match="no space left"):
        copy_examples(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_installed_package_has_its_own(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "anomalib_cxr"
    shutil.copytree(configs_folder() / "data", package / "configs" / "data")
    monkeypatch.setattr(examples, "PACKAGE", package)
    assert configs_folder() == package / "configs"
