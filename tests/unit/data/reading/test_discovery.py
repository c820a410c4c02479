"""Search of folders: each file is found or named with the reason, however it is linked, locked, hidden or nested."""

from __future__ import annotations

import os
import subprocess

import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from anomalib_cxr.data.reading import discovery
from anomalib_cxr.data.reading.discovery import DANGLING, DOCUMENT, HIDDEN, INDEX, REPEATED, SPECIAL, WRITTEN
from anomalib_cxr.data.reading.written import mark_folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "archive").mkdir()
    return tmp_path / "archive"


def write(*files):
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"content")


def search(folder):
    found = discovery.find_radiographs(folder)
    names = [file.relative_to(folder).as_posix() for file in found.files]
    left_out = {
        reason: [path.relative_to(folder).as_posix() for path in paths] for reason, paths in found.left_out.items()
    }
    return names, left_out


def test_all_files_sorted_whatever_their_names(folder):
    write(folder / "b.png", folder / "a" / "IM0001", folder / "a" / "b" / "x.unknown")
    assert search(folder) == (["a/IM0001", "a/b/x.unknown", "b.png"], {})


class TestLinks:
    def test_to_a_study_folder_and_to_a_file_are_followed(self, folder, tmp_path):
        write(tmp_path / "elsewhere" / "study" / "a.png", tmp_path / "elsewhere" / "b.png")
        (folder / "study").symlink_to(tmp_path / "elsewhere" / "study")
        (folder / "b.png").symlink_to(tmp_path / "elsewhere" / "b.png")
        assert search(folder) == (["b.png", "study/a.png"], {})

    def test_to_nothing_are_named(self, folder):
        (folder / "gone.dcm").symlink_to("nowhere")
        (folder / "itself").symlink_to("itself")
        assert search(folder) == ([], {DANGLING: ["gone.dcm", "itself"]})

    def test_to_what_is_listed_are_named(self, folder):
        write(folder / "z" / "a.png")
        (folder / "a.png").symlink_to(folder / "z" / "a.png")
        (folder / "link").symlink_to(folder / "z")
        (folder / "z" / "up").symlink_to(folder)  # a circle
        assert search(folder) == (["z/a.png"], {REPEATED: ["a.png", "link", "z/up"]})


class TestLeftOut:
    def test_a_locked_folder(self, folder, monkeypatch):
        write(folder / "locked" / "a.png", folder / "b.png")
        scan = os.scandir

        def refuse(path):  # the tests may run as root, who can open it
            if path.name == "locked":
                raise PermissionError(13, "Permission denied")
            return scan(path)

        monkeypatch.setattr(discovery.os, "scandir", refuse)
        assert search(folder) == (["b.png"], {"folder that cannot be opened: Permission denied": ["locked"]})

    def test_hidden_files_and_folders(self, folder):
        write(folder / ".a.png", folder / ".cache" / "b.png", folder / "c.png")
        assert search(folder) == (["c.png"], {HIDDEN: [".a.png", ".cache"]})

    def test_a_pipe(self, folder):
        os.mkfifo(folder / "pipe")
        assert search(folder) == ([], {SPECIAL: ["pipe"]})

    @pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir"])
    def test_the_index_of_a_disc(self, folder, name):
        write(folder / name, folder / "IM1")
        assert search(folder) == (["IM1"], {INDEX: [name]})

    def test_what_this_package_wrote(self, folder):
        write(folder / "list" / "heatmaps" / "a.png", folder / "list" / "uploads" / "b.png")
        mark_folder(folder / "list" / "heatmaps")
        assert search(folder) == (["list/uploads/b.png"], {WRITTEN: ["list/heatmaps"]})


class TestDocuments:
    @pytest.mark.parametrize(
        "content", [b"", b"Findings: none", b"BMI: 23, and so on and on", b"\xd0\xcf\x11\xe0", b"%PDF-1.4"]
    )
    def test_by_name_and_content_are_left_out(self, folder, content):
        (folder / "a.DOC").write_bytes(content)
        assert search(folder) == ([], {DOCUMENT: ["a.DOC"]})

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
    def test_by_name_alone_are_found(self, folder, kind):
        Image.new("L", (32, 32)).save(folder / "a.txt", format=kind)
        assert search(folder) == (["a.txt"], {})

    def test_dicom_is_found(self, folder):
        with open(get_testdata_file("CT_small.dcm"), "rb") as file:  # noqa: PTH123
            (folder / "report.doc").write_bytes(file.read())
        assert search(folder) == (["report.doc"], {})


@pytest.fixture
def nested(folder):
    """1 950 folders in one another with a file in the last one, and folders below whose path is too long to open."""
    place = os.open(folder, os.O_RDONLY)
    for name in ["d"] * 1950 + ["e" * 200] * 2:
        if name != "d":
            os.close(os.open("a.png", os.O_CREAT | os.O_WRONLY, dir_fd=place))
        os.mkdir(name, dir_fd=place)
        below = os.open(name, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)  # noqa: S603, S607  # pytest's removal calls itself for each


def test_more_folders_than_python_calls(nested):
    found, left_out = search(nested)
    assert [name.count("d/") for name in found] == [1950]
    (reason,) = left_out
    assert reason == "folder that cannot be opened: File name too long"


def test_names_of_other_encodings(folder):
    name = os.fsdecode(b"M\xfcller.png")
    write(folder / name)
    assert discovery.find_radiographs(folder).files == [folder / name]
