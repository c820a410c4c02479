"""Loading of DICOM files against pydicom, its bounds of memory, and its errors."""

from __future__ import annotations

import gzip
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from anomalib_cxr.data.reading import dicom_file
from anomalib_cxr.data.reading.dicom_file import as_radiograph_error, is_dicom, load_dicom, no_value_warnings
from anomalib_cxr.errors import RadiographError

SMALL = Path(get_testdata_file("CT_small.dcm"))


@pytest.mark.parametrize("name", ["CT_small.dcm", "image_dfl.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm"])
def test_same_as_pydicom(name):
    path = Path(get_testdata_file(name))
    assert load_dicom(path) == pydicom.dcmread(path)
    assert load_dicom(path, ["Rows", "PatientName"]).Rows == pydicom.dcmread(path).Rows
    assert "PixelData" not in load_dicom(path, ["Rows", "PixelData"])


def deflated(path, content):
    """Write a file whose deflated part is made of anything."""
    dataset = pydicom.dcmread(SMALL)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=True)
    with path.open("rb") as file:
        head = file.read(144 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength)
    path.write_bytes(head + content)
    return path


def test_a_deflated_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_file, "_MAX_INFLATED", 2**20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path = deflated(tmp_path / "bomb.dcm", packer.compress(bytes(2**20 + 1)) + packer.flush())
    assert path.stat().st_size < 2**12
    with pytest.raises(ValueError, match="inflates to more than 1,048,576 bytes"):
        load_dicom(path)


def test_a_claimed_length_reserves_no_memory(tmp_path):
    dataset = Dataset()
    dataset.preamble = bytes(128)
    dataset.file_meta = pydicom.dcmread(SMALL).file_meta
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.add_new(0x7FE00010, "OB", b"\0" * 10)
    path = tmp_path / "long.dcm"
    dataset.save_as(path, enforce_file_format=False)
    content = path.read_bytes()
    at = content.rindex(b"OB\0\0") + 4
    path.write_bytes(content[:at] + (2**32 - 4096).to_bytes(4, "little") + content[at + 4 :])
    code = f"""
import resource
from pathlib import Path
from anomalib_cxr.data.reading import dicom_file
from anomalib_cxr.data.reading.dicom_file import load_dicom
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
print(len(load_dicom(Path({str(path)!r})).PixelData))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert (answer.stdout, answer.returncode) == ("10\n", 0), answer.stderr


class TestIsDicom:
    @pytest.mark.parametrize(
        ("content", "expected"), [(bytes(128) + b"DICM", True), (b"DICM", False), (bytes(200), False)]
    )
    def test_by_its_preamble(self, tmp_path, content, expected):
        (tmp_path / "file").write_bytes(content)
        assert is_dicom(tmp_path / "file") is expected

    @pytest.mark.parametrize(
        ("implicit", "little", "skipped"),
        [(True, True, 132), (False, True, 132), (False, False, 132), (False, True, 0), (True, True, -1)],
        ids=["implicit", "explicit", "big endian", "no meta", "meta"],
    )
    def test_without_preamble_or_meta(self, tmp_path, implicit, little, skipped):
        """Of the bytes that pydicom writes, the preamble, the file meta information, or both are cut off."""
        expected, path = pydicom.dcmread(SMALL), tmp_path / "file"
        if skipped == 0:
            path.write_bytes(bytes(128) + b"DICM")
        if skipped == -1:
            path.write_bytes(SMALL.read_bytes()[132:])
        else:
            buffer = pydicom.filebase.DicomBytesIO()
            buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
            pydicom.filewriter.write_dataset(buffer, expected)
            with path.open("ab") as file:
                file.write(buffer.getvalue())
        assert is_dicom(path)
        assert load_dicom(path, ["Rows", "PatientName"]).PatientName == expected.PatientName
        np.testing.assert_array_equal(
            np.frombuffer(load_dicom(path).PixelData, "<u2"), expected.pixel_array.ravel().view("u2")
        )

    @pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "txt", "gz"])
    def test_other_files(self, tmp_path, suffix):
        path = tmp_path / f"file.{suffix}"
        if suffix == "txt":
            path.write_text("\x08\x00 no image" * 100)
        elif suffix == "gz":
            path.write_bytes(gzip.compress(bytes(3000)))
        else:
            Image.new("L", (64, 64)).save(path)
        assert not is_dicom(path)

    def test_a_folder(self, tmp_path):
        with pytest.raises(RadiographError, match="cannot be opened: Is a directory"):
            is_dicom(tmp_path)


@pytest.mark.parametrize("error", [MemoryError(), RadiographError("a", "b", "c", "d")])
def test_radiograph_and_memory_errors_pass(error):
    with pytest.raises(type(error)) as caught, as_radiograph_error(Path("file"), "damaged"):
        raise error
    assert caught.value is error


def warnings_of(value):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Dataset().PatientBirthDate = value
    return len(caught)


def test_no_value_warnings_while_any_thread_reads():
    assert warnings_of("long ago") == 1
    with ThreadPoolExecutor(1) as pool, no_value_warnings:
        with no_value_warnings:
            assert warnings_of("long ago") == 0
        assert pool.submit(warnings_of, "long ago").result() == 0
    assert warnings_of("long ago") == 1


def test_a_damaged_value_is_not_quoted_at_length():
    with pytest.raises(RadiographError) as caught, as_radiograph_error(Path("file"), "damaged"):
        raise ValueError("x" * 10_000)
    assert len(caught.value.reason) < 250
