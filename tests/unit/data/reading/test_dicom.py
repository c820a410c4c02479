"""DICOM reading against the formulas of PS3.3 C.11, worked out with numpy on files that pydicom writes."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    MPEG2MPML,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from anomalib_cxr.data.reading.dicom import dicom_size, read_dicom
from anomalib_cxr.errors import RadiographError

STORED = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # every value of 12 bits once


def table(first, bits, entries, vr="US", order="<"):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65536, first, bits])
    data = entries.tolist() if vr == "US" else entries.astype(entries.dtype.newbyteorder(order)).tobytes()
    item.add_new("LUTData", vr, data)
    return item


def assert_reads(path, expected):
    image = read_dicom(path)
    assert image.dtype == np.float32
    assert image.shape == expected.shape
    assert image.min() >= 0
    assert image.max() <= 1
    np.testing.assert_allclose(image, expected, atol=1e-6)


class TestScale:
    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
    def test_stored_bits_span_the_scale_without_a_window(self, write, syntax):
        assert_reads(write(syntax=syntax), STORED / 4095)

    def test_scale_does_not_depend_on_the_content(self, write):
        assert_reads(write(STORED // 4), (STORED // 4) / 4095)

    def test_signed_values(self, write):
        signed = (STORED.astype(np.int32) - 2048).astype(np.int16)
        assert_reads(write(signed), STORED / 4095)

    def test_rescale_without_a_window_changes_nothing(self, write):
        assert_reads(write(RescaleSlope=2.5, RescaleIntercept=-1000), STORED / 4095)

    def test_slope_without_intercept_and_the_contrary(self, write):
        window = {"WindowCenter": 1024, "WindowWidth": 2048}
        expected = np.clip((STORED * 0.5 - 1023.5) / 2047 + 0.5, 0, 1)
        assert_reads(write(RescaleSlope=0.5, **window), expected)
        assert_reads(write(RescaleIntercept=-7, **window), np.clip((STORED - 7.0 - 1023.5) / 2047 + 0.5, 0, 1))

    def test_negative_slope_turns_the_scale_round(self, write):
        assert_reads(write(RescaleSlope=-1, RescaleIntercept=4095), 1 - STORED / 4095)

    def test_rle_is_decoded(self, write):
        path = write()
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
        assert_reads(path, STORED / 4095)


class TestWindow:
    def test_linear_is_the_default(self, write):
        expected = np.clip((STORED - (2000 - 0.5)) / (1000 - 1) + 0.5, 0, 1)
        assert_reads(write(WindowCenter=2000, WindowWidth=1000), expected)
        assert_reads(write(WindowCenter=2000, WindowWidth=1000, VOILUTFunction=""), expected)

    def test_linear_exact(self, write):
        path = write(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT")
        assert_reads(path, np.clip((STORED - 2000.0) / 1000 + 0.5, 0, 1))

    def test_sigmoid(self, write):
        path = write(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID")
        assert_reads(path, 1 / (1 + np.exp(-4 * (STORED - 2000.0) / 1000)))

    def test_first_of_several_windows(self, write):
        path = write(WindowCenter=[2000, 100], WindowWidth=[1000, 50])
        assert_reads(path, np.clip((STORED - 1999.5) / 999 + 0.5, 0, 1))

    @pytest.mark.parametrize("slope", [0.5, -0.5])
    def test_window_is_in_rescaled_values(self, write, slope):
        path = write(RescaleSlope=slope, RescaleIntercept=10, WindowCenter=slope * 2000, WindowWidth=301)
        assert_reads(path, np.clip((STORED * slope + 10 - (slope * 2000 - 0.5)) / 300 + 0.5, 0, 1))

    def test_empty_window_is_no_window(self, write):
        assert_reads(write(WindowCenter="", WindowWidth=""), STORED / 4095)


class TestTables:
    CURVE = np.round(65535 * np.linspace(0, 1, 4096) ** 2).astype(np.uint16)

    @pytest.mark.parametrize("vr", ["US", "OW"])
    def test_voi_table(self, write, vr):
        path = write(VOILUTSequence=[table(0, 16, self.CURVE, vr)])
        assert_reads(path, self.CURVE[STORED] / 65535)

    def test_big_endian_words(self, write):
        path = write(syntax=ExplicitVRBigEndian, VOILUTSequence=[table(0, 16, self.CURVE, "OW", ">")])
        assert_reads(path, self.CURVE[STORED] / 65535)

    @pytest.mark.parametrize(("vr", "dtype"), [("US", np.uint16), ("OW", np.uint16), ("OW", np.uint8)])
    def test_long_table_of_eight_bits(self, write, vr, dtype):
        entries = (self.CURVE >> 8).astype(dtype)
        assert_reads(write(VOILUTSequence=[table(0, 8, entries, vr)]), entries[STORED] / 255)

    def test_table_of_all_sixteen_bits_states_its_length_as_zero(self, write):
        entries = np.arange(65536, dtype=np.uint16)[::-1]
        path = write(STORED * 16, BitsStored=16, HighBit=15, VOILUTSequence=[table(0, 16, entries, "OW")])
        assert_reads(path, 1 - STORED * 16 / 65535)

    def test_values_outside_take_the_ends(self, write):
        entries = np.arange(1, 101, dtype=np.uint16)
        expected = entries[np.clip(STORED.astype(int) - 1000, 0, 99)] / 1023
        assert_reads(write(VOILUTSequence=[table(1000, 10, entries)]), expected)

    def test_table_of_words_is_scaled_by_the_bits_of_its_entries(self, write):
        entries = self.CURVE >> 4  # 12 bits
        for_both = {"VOILUTSequence": [table(0, 16, entries)]}, {"ModalityLUTSequence": [table(0, 16, entries)]}
        for tags in for_both:
            assert_reads(write(**tags), entries[STORED] / 4095)

    @pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "VOILUTSequence"])
    def test_first_value_of_signed_input_is_signed_whatever_its_vr(self, write, sequence):
        signed = (STORED.astype(np.int32) - 2048).astype(np.int16)
        assert_reads(write(signed, **{sequence: [table(65536 - 2048, 16, self.CURVE)]}), self.CURVE[STORED] / 65535)

    def test_first_value_below_zero_after_the_rescale(self, write):
        path = write(RescaleIntercept=-1000, VOILUTSequence=[table(65536 - 1000, 16, self.CURVE)])
        assert_reads(path, self.CURVE[STORED] / 65535)

    def test_first_value_of_unsigned_input_is_unsigned(self, write):
        stored = (STORED // 2 + 40000).astype(np.uint16)
        path = write(stored, BitsStored=16, HighBit=15, VOILUTSequence=[table(40000, 16, self.CURVE)])
        assert_reads(path, self.CURVE[STORED // 2] / 65535)

    def test_fewer_entries_than_stated(self, write):
        item = table(0, 16, self.CURVE)
        item.LUTDescriptor = [5000, 0, 16]
        with pytest.raises(RadiographError, match=r"LUTDescriptor \(0028,3002\) = \[5000, 0, 16\], 4096 entries"):
            read_dicom(write(VOILUTSequence=[item]))

    def test_table_wins_over_window(self, write):
        path = write(VOILUTSequence=[table(0, 16, self.CURVE)], WindowCenter=2000, WindowWidth=1000)
        assert_reads(path, self.CURVE[STORED] / 65535)

    def test_modality_table_alone(self, write):
        path = write(ModalityLUTSequence=[table(0, 16, self.CURVE)])
        assert_reads(path, self.CURVE[STORED] / 65535)

    def test_modality_table_then_window(self, write):
        path = write(ModalityLUTSequence=[table(0, 16, self.CURVE)], WindowCenter=30000, WindowWidth=20001)
        assert_reads(path, np.clip((self.CURVE[STORED] - 29999.5) / 20000 + 0.5, 0, 1))

    def test_rescale_then_voi_table(self, write):
        path = write(RescaleSlope=0.5, RescaleIntercept=-100, VOILUTSequence=[table(0, 16, self.CURVE)])
        expected = self.CURVE[np.clip(np.rint(STORED * 0.5 - 100).astype(int), 0, 4095)] / 65535
        assert_reads(path, expected)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"WindowCenter": 2000, "WindowWidth": 1000},
        {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"},
        {"RescaleSlope": -2, "RescaleIntercept": 7},
        {"VOILUTSequence": [table(0, 16, TestTables.CURVE)]},
    ],
)
def test_monochrome1_is_the_negative_of_monochrome2(write, tags):
    positive = read_dicom(write(**tags))
    negative = read_dicom(write(PhotometricInterpretation="MONOCHROME1", **tags))
    np.testing.assert_allclose(negative, 1 - positive, atol=1e-6)


class TestPadding:
    """PS3.3 C.7.5.1.1.2: pixels that the detector did not measure, here the background."""

    @pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
    @pytest.mark.parametrize(("value", "limit"), [(0, None), (4095, None), (4000, 4095), (4095, 4000)])
    def test_is_background(self, write, photometric, value, limit):
        tags = {} if limit is None else {"PixelPaddingRangeLimit": limit}
        gray = STORED / 4095 if photometric == "MONOCHROME2" else 1 - STORED / 4095
        low, high = sorted((value, value if limit is None else limit))
        expected = np.where((low <= STORED) & (high >= STORED), 0, gray)
        assert_reads(write(PixelPaddingValue=value, PhotometricInterpretation=photometric, **tags), expected)

    @pytest.mark.parametrize("value", [-2000, 65536 - 2000])
    def test_of_signed_values(self, write, value):
        signed = (STORED.astype(np.int32) - 2048).astype(np.int16)
        path = write(signed, PhotometricInterpretation="MONOCHROME1")
        dataset = pydicom.dcmread(path)
        dataset.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
        dataset.save_as(path)
        assert_reads(path, np.where(signed == -2000, 0, 1 - STORED / 4095))

    def test_is_a_stored_value_not_a_rescaled_one(self, write):
        path = write(RescaleSlope=2, RescaleIntercept=-9, PixelPaddingValue=4095)
        assert_reads(path, np.where(STORED == 4095, 0, STORED / 4095))


def test_contradicting_polarity(write):
    with pytest.raises(RadiographError, match=r"= 'MONOCHROME2' but PresentationLUTShape .* = 'INVERSE'"):
        read_dicom(write(PresentationLUTShape="INVERSE"))
    assert_reads(write(PresentationLUTShape="INVERSE", PhotometricInterpretation="MONOCHROME1"), 1 - STORED / 4095)


@pytest.mark.parametrize(
    "window", [{"WindowCenter": 9000, "WindowWidth": 100}, {"WindowCenter": -90, "WindowWidth": 9}]
)
def test_window_that_shows_nothing(write, window):
    with pytest.raises(RadiographError, match="nothing to see: all stored values from 0 to 4095 have one gray"):
        read_dicom(write(**window))


def test_size_comes_from_the_header(write):
    path = write(STORED[:20])
    assert dicom_size(path) == (20, 64)
    path.write_bytes(path.read_bytes()[:-100])
    assert dicom_size(path) == (20, 64)


class TestAccepted:
    @pytest.mark.parametrize("view", ["AP", "PA", "pa", "", None])
    def test_frontal_views(self, write, view):
        assert read_dicom(write(ViewPosition=view)).shape == (64, 64)

    @pytest.mark.parametrize("modality", ["CR", "DX", "RG", "", None])
    def test_radiographs(self, write, modality):
        assert read_dicom(write(Modality=modality)).shape == (64, 64)

    def test_one_frame(self, write):
        assert read_dicom(write(NumberOfFrames=1)).shape == (64, 64)


class TestRefused:
    @pytest.mark.parametrize(
        ("tags", "reason"),
        [
            ({"PixelData": None}, r"PixelData \(7FE0,0010\) is missing"),
            ({"Rows": None, "Columns": None}, r"Rows \(0028,0010\), Columns \(0028,0011\) are missing"),
            ({"BitsStored": None}, r"BitsStored \(0028,0101\) is missing"),
            ({"PhotometricInterpretation": None}, r"PhotometricInterpretation \(0028,0004\) is missing"),
            ({"PhotometricInterpretation": "RGB"}, r"PhotometricInterpretation \(0028,0004\) = 'RGB'"),
            ({"NumberOfFrames": 12}, r"NumberOfFrames \(0028,0008\) = 12"),
            ({"WindowCenter": 9, "WindowWidth": 0}, r"\(0028,1051\) Window Width must be greater"),
            ({"WindowCenter": 9, "WindowWidth": 5, "VOILUTFunction": "CUBIC"}, r"\(0028,1056\).*'CUBIC'"),
            ({"WindowCenter": float("nan"), "WindowWidth": 5}, r"WindowCenter \(0028,1050\) = nan"),
            ({"RescaleSlope": 0, "RescaleIntercept": 5}, r"RescaleSlope \(0028,1053\) = 0\.0"),
            ({"VOILUTSequence": [Dataset()]}, "not readable as DICOM: .*LUTDescriptor"),
        ],
    )
    def test_tags(self, write, tags, reason):
        path = write(**tags)
        with pytest.raises(RadiographError, match=reason) as caught:
            read_dicom(path)
        assert caught.value.path == path

    @pytest.mark.parametrize("view", ["LL", "RL", "LATERAL", "LLO", "RLO", "LLD", "xtable"])
    def test_other_views(self, write, view):
        with pytest.raises(RadiographError, match=rf"ViewPosition \(0018,5101\) = '{view.upper()}'"):
            read_dicom(write(ViewPosition=view))

    @pytest.mark.parametrize("modality", ["CT", "MR", "RF", "XA", "MG", "SR", "OT"])
    def test_other_modalities(self, write, modality):
        with pytest.raises(RadiographError, match=rf"Modality \(0008,0060\) = '{modality}'"):
            read_dicom(write(Modality=modality))

    def test_size_without_rows(self, write):
        with pytest.raises(RadiographError, match=r"Rows \(0028,0010\) is missing"):
            dicom_size(write(Rows=None))

    def test_truncated_pixels(self, write):
        path = write()
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(RadiographError, match=r"PixelData \(7FE0,0010\) truncated"):
            read_dicom(path)

    @pytest.mark.parametrize("tags", [{"Columns": 16}, {"NumberOfFrames": ""}, {"Rows": 32}])
    def test_more_pixels_than_one_image(self, write, tags):
        with pytest.raises(RadiographError, match=r"PixelData \(7FE0,0010\) too long: [\d,]+ bytes\n.*single image"):
            read_dicom(write(np.tile(STORED, (3, 1)) if "NumberOfFrames" in tags else STORED, **({"Rows": 64} | tags)))

    def test_long_values_are_cut(self, write):
        with pytest.raises(RadiographError, match=r"ViewPosition \(0018,5101\) = 'LATERAL") as caught:
            read_dicom(write(ViewPosition="LATERAL" * 1000))
        assert len(caught.value.reason) < 120

    def test_truncated_header(self, write):
        path = write()
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(RadiographError, match=r"Rows \(0028,0010\).* missing"):
            read_dicom(path)

    def test_no_dicom_at_all(self, tmp_path):
        path = tmp_path / "notes.dcm"
        path.write_text("no image")
        with pytest.raises(RadiographError, match="not readable as DICOM"):
            read_dicom(path)
        with pytest.raises(RadiographError, match="not readable as DICOM"):
            dicom_size(path)

    @pytest.mark.parametrize("implicit", [True, False])
    def test_missing_transfer_syntax_is_that_of_the_header(self, write, implicit):
        path = write()
        dataset = pydicom.dcmread(path)
        del dataset.file_meta.TransferSyntaxUID
        pydicom.dcmwrite(path, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert_reads(path, STORED / 4095)

    def test_missing_transfer_syntax_of_compressed_pixels(self, write):
        path = encapsulated(write(), JPEGLSLossless)
        dataset = pydicom.dcmread(path)
        del dataset.file_meta.TransferSyntaxUID
        pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=True, enforce_file_format=False)
        with pytest.raises(RadiographError, match=r"TransferSyntaxUID \(0002,0010\) is missing, and .* compressed"):
            read_dicom(path)

    def test_syntax_without_any_decoder(self, write):
        with pytest.raises(RadiographError, match=r"TransferSyntaxUID \(0002,0010\) = MPEG2"):
            read_dicom(encapsulated(write(), MPEG2MPML))

    def test_syntax_whose_codec_is_not_installed(self, write, monkeypatch):
        monkeypatch.setattr(imagecodecs.JPEGLS, "available", False)
        with pytest.raises(RadiographError, match=r"= JPEG-LS Lossless.*cannot be decoded here\n.*\n.*pip install"):
            read_dicom(encapsulated(write(), JPEGLSLossless))


def encapsulated(path, syntax):
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = pydicom.encaps.encapsulate([b"\x00\x01"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    return path
