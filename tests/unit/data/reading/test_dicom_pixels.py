"""Stored values by what the header says of their bits; shifts and masks by hand."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000, ExplicitVRBigEndian, RLELossless

from anomalib_cxr.data.reading.dicom import read_dicom
from anomalib_cxr.errors import RadiographError

STORED = np.arange(4096, dtype=np.uint16).reshape(64, 64)
EXPECTED = STORED / 4095


def assert_reads(path, expected=EXPECTED):
    np.testing.assert_allclose(read_dicom(path), expected, atol=1e-6)


@pytest.mark.parametrize("shift", [1, 4])
def test_high_bit_above_the_stored_bits_is_shifted(write, shift):
    assert_reads(write(STORED << shift, HighBit=11 + shift))
    assert_reads(write((STORED << shift) | 1, HighBit=11 + shift))  # an unused bit


def test_left_justified_signed_values(write):
    signed = ((STORED.astype(np.int32) - 2048) << 4).astype(np.int16)
    assert_reads(write(signed, HighBit=15))


def test_high_bit_may_be_absent(write):
    assert_reads(write(HighBit=None))


def test_values_beyond_the_stored_bits_are_told(write):
    stored = STORED.copy()
    stored[3, 5] = 4097
    with pytest.raises(RadiographError, match=r"up to 4097, but BitsStored \(0028,0101\) = 12\n.*from 0 to 4095"):
        read_dicom(write(stored))


def test_overlay_in_the_unused_bits_is_removed(write):
    path = write(STORED | ((STORED % 3 == 0).astype(np.uint16) << 12))
    dataset = pydicom.dcmread(path)
    dataset.add_new((0x6000, 0x0100), "US", 16)
    dataset.add_new((0x6000, 0x0102), "US", 12)
    dataset.save_as(path)
    assert_reads(path)


def test_signed_values_with_or_without_repeated_sign(write):
    signed = (STORED.astype(np.int32) - 2048).astype(np.int16)
    assert_reads(write(signed))
    assert_reads(write(signed & 0x0FFF))
    with pytest.raises(RadiographError, match=r"BitsStored .* = 12\n.*from -2048 to 2047"):
        read_dicom(write(signed * 2))


@pytest.mark.parametrize("order", ["little", "big"])
def test_eight_and_thirty_two_bits_allocated(write, order):
    syntax = {"syntax": ExplicitVRBigEndian} if order == "big" else {}
    eight = (STORED >> 4).astype(np.uint8)
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    assert_reads(
        write(
            eight.view("u1") if order == "little" else eight.reshape(-1, 2)[:, ::-1].reshape(64, 64), **bits, **syntax
        ),
        eight / 255,
    )
    assert_reads(write(STORED.astype(np.uint32), BitsAllocated=32, **syntax))


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"HighBit": 10}, r"HighBit \(0028,0102\) = 10\n.*: 11, one less than Bits Stored"),
        ({"HighBit": 16}, r"HighBit \(0028,0102\) = 16"),
        ({"BitsAllocated": 12}, r"BitsAllocated \(0028,0100\) = 12\n.*: 8, 16 or 32"),
        ({"BitsStored": 17}, r"BitsStored \(0028,0101\) = 17\n.*: 1 to 16"),
        ({"BitsStored": 0}, r"BitsStored \(0028,0101\) = 0"),
        ({"SamplesPerPixel": 3}, r"SamplesPerPixel \(0028,0002\) = 3"),
    ],
)
def test_bits_that_cannot_be(write, tags, reason):
    with pytest.raises(RadiographError, match=reason):
        read_dicom(write(**tags))


def test_high_bit_of_compressed_pixels(write):
    path = write(HighBit=15)
    dataset = pydicom.dcmread(path)
    dataset.HighBit = 11
    dataset.compress(RLELossless)
    dataset.HighBit = 15
    dataset.save_as(path)
    with pytest.raises(RadiographError, match=r"HighBit \(0028,0102\) = 15 of compressed pixels"):
        read_dicom(path)


@pytest.mark.parametrize(("top", "told"), [(4100, False), (5000, True)])
def test_a_lossy_compression_may_overshoot_a_little(write, monkeypatch, top, told):
    path = write()
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEG2000
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0\0"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    values = np.where(STORED == 4095, top, STORED).astype(np.uint16)
    monkeypatch.setattr("anomalib_cxr.data.reading.dicom_pixels.decode_frame", lambda *_: values)
    if told:
        with pytest.raises(RadiographError, match="up to 5000"):
            read_dicom(path)
    else:
        assert_reads(path)
