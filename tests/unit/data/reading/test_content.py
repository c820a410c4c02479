"""Content of a file, read once: all readers see the same bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from pydicom.data import get_testdata_file

from anomalib_cxr.data.reading import content as module
from anomalib_cxr.data.reading.content import FileContent, read_content
from anomalib_cxr.data.reading.dicom_file import is_dicom, load_dicom
from anomalib_cxr.data.reading.intensities import image_size, intact_size
from anomalib_cxr.data.reading.metadata import read_header
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.errors import RadiographError

DICOM = Path(get_testdata_file("CT_small.dcm"))


@pytest.fixture
def picture(tmp_path):
    Image.linear_gradient("L").save(tmp_path / "chest.png")
    return tmp_path / "chest.png"


def test_what_the_file_is(picture):
    content = read_content(str(picture))
    assert content.path == picture
    assert content.data == picture.read_bytes()
    assert content.sha256 == hashlib.sha256(picture.read_bytes()).hexdigest()
    assert (content.size, content.modified) == (picture.stat().st_size, picture.stat().st_mtime_ns)


@pytest.mark.parametrize("read", [read_radiograph, read_header, image_size, intact_size, is_dicom])
@pytest.mark.parametrize("source", ["png", "dicom"])
def test_readers_take_the_content_for_the_file(tmp_path, picture, read, source):
    path = picture
    if source == "dicom":
        if read in {read_radiograph, intact_size}:
            pytest.skip("a sample of pydicom is no radiograph")
        path = shutil.copy(DICOM, tmp_path / "chest")
    expected, content = read(path), read_content(path)
    Path(path).write_bytes(b"another file")  # nothing reads the path again
    got = read(content)
    assert torch.equal(got, expected) if isinstance(got, torch.Tensor) else got == expected


def test_datasets_take_the_content_for_the_file():
    assert load_dicom(read_content(DICOM)) == load_dicom(DICOM)


def test_errors_name_the_path():
    with pytest.raises(RadiographError, match="not an image") as caught:
        read_radiograph(FileContent(Path("a/chest.png"), b"nothing"))
    assert caught.value.path == Path("a/chest.png")


class TestRefused:
    def test_missing_and_folder(self, tmp_path):
        with pytest.raises(RadiographError, match="cannot be opened: No such file"):
            read_content(tmp_path / "absent")
        with pytest.raises(RadiographError, match="cannot be opened: Is a directory"):
            read_content(tmp_path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
    @pytest.mark.timeout(20)
    def test_a_pipe_that_nobody_writes_to(self, tmp_path):
        os.mkfifo(tmp_path / "chest.png")
        with pytest.raises(RadiographError, match="neither a file nor a folder"):
            read_content(tmp_path / "chest.png")

    def test_empty(self, tmp_path):
        (tmp_path / "chest.png").touch()
        with pytest.raises(RadiographError, match=r"empty file \(0 bytes\)"):
            read_content(tmp_path / "chest.png")

    def test_more_bytes_than_an_image_has(self, picture, monkeypatch):
        monkeypatch.setattr(module, "MAX_BYTES", 100)
        with pytest.raises(RadiographError, match=r"too large: \d+ bytes(?s:.*)at most 100 bytes"):
            read_content(picture)

    def test_written_to_meanwhile(self, picture, monkeypatch):
        fstat, calls = os.fstat, []

        def appended(number):
            calls.append(number)
            if len(calls) == 2:
                picture.write_bytes(picture.read_bytes() + b"more")
            return fstat(number)

        monkeypatch.setattr(module.os, "fstat", appended)
        with pytest.raises(RadiographError, match="changed while it was read"):
            read_content(picture)
