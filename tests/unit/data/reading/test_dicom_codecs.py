"""Compressed pixels: what imagecodecs, pyjpegls or OpenJPEG encoded, and bounds of memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from anomalib_cxr.data.reading import dicom
from anomalib_cxr.data.reading.dicom import read_dicom
from anomalib_cxr.errors import RadiographError

STORED = np.arange(4096, dtype=np.uint16).reshape(64, 64)
REAL = Path(__file__).resolve().parents[5] / "shared" / "data" / "external" / "dicom"


def compressed(path, syntax, frame):
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    return path


LOSSLESS = {
    uid.JPEGLossless: lambda values: imagecodecs.ljpeg_encode(values, bitspersample=12),
    uid.JPEGLosslessSV1: lambda values: imagecodecs.ljpeg_encode(values, bitspersample=12),
    uid.JPEGLSLossless: imagecodecs.jpegls_encode,
    uid.JPEGLSNearLossless: imagecodecs.jpegls_encode,
    uid.JPEG2000Lossless: lambda values: imagecodecs.jpeg2k_encode(values, reversible=True, codecformat="J2K"),
    uid.JPEG2000: lambda values: imagecodecs.jpeg2k_encode(values, reversible=True, codecformat="JP2"),
    uid.HTJ2KLossless: lambda values: imagecodecs.htj2k_encode(values, reversible=True),
    uid.HTJ2K: lambda values: imagecodecs.htj2k_encode(values, reversible=True),
}


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.name)
def test_every_value_survives(write, syntax):
    path = compressed(write(), syntax, LOSSLESS[syntax](STORED))
    np.testing.assert_allclose(read_dicom(path), STORED / 4095, atol=1e-6)


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGLSLossless], ids=lambda syntax: syntax.name)
def test_signed_values_are_coded_as_their_bits(write, syntax):
    signed = (STORED.astype(np.int32) - 2048).astype(np.int16)
    path = compressed(write(signed), syntax, LOSSLESS[syntax](signed.view(np.uint16) & 0x0FFF))
    np.testing.assert_allclose(read_dicom(path), STORED / 4095, atol=1e-6)


def test_signed_jpeg_2000(write):
    signed = (STORED.astype(np.int32) - 2048).astype(np.int16)
    frame = imagecodecs.jpeg2k_encode(signed, reversible=True, codecformat="J2K")
    path = compressed(write(signed), uid.JPEG2000Lossless, frame)
    np.testing.assert_allclose(read_dicom(path), STORED / 4095, atol=1e-6)


@pytest.mark.parametrize("bits", [8, 12])
def test_lossy_jpeg(write, bits):
    smooth = np.tile(np.linspace(0.1, 0.9, 64), (64, 1))
    values = np.round(smooth * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    frame = imagecodecs.jpeg8_encode(values, level=98, bitspersample=bits)
    path = write(values, BitsAllocated=8 if bits == 8 else 16, BitsStored=bits, HighBit=bits - 1)
    compressed(path, uid.JPEGBaseline8Bit if bits == 8 else uid.JPEGExtended12Bit, frame)
    assert np.abs(read_dicom(path) - smooth).max() < 0.02


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("syntax", [*LOSSLESS, uid.JPEGExtended12Bit], ids=lambda syntax: syntax.name)
def test_a_truncated_frame_is_no_image(write, syntax, share):
    values = np.random.default_rng(0).permutation(STORED.ravel()).reshape(64, 64)
    frame = LOSSLESS.get(syntax, lambda values: imagecodecs.jpeg8_encode(values, bitspersample=12))(values)
    with pytest.raises(RadiographError, match=r"PixelData \(7FE0,0010\) truncated or damaged"):
        read_dicom(compressed(write(), syntax, frame[: int(len(frame) * share)]))


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.name)
def test_a_frame_of_another_size_is_not_decoded(write, syntax, monkeypatch):
    path = compressed(write(), syntax, LOSSLESS[syntax](np.tile(STORED, (2, 1))))
    for codec in ("jpeg8", "jpegls", "jpeg2k"):
        monkeypatch.setattr(imagecodecs, f"{codec}_decode", lambda _: pytest.fail("decoded"))
    with pytest.raises(RadiographError, match="truncated or damaged: frame of 128 x 64 x 1 in place of 64 x 64 x 1"):
        read_dicom(path)


def test_any_bytes_are_an_image_or_an_error(write):
    rng, path = np.random.default_rng(0), write()
    for syntax in LOSSLESS.keys() - {uid.JPEGLSLossless, uid.JPEGLSNearLossless}:  # CharLS may take seconds to see it
        frame = LOSSLESS[syntax](STORED)
        for _ in range(8):
            damaged = bytearray(frame[: rng.integers(1, len(frame) + 1)])
            for _ in range(rng.integers(6)):
                damaged[rng.integers(len(damaged))] = rng.integers(256)
            try:
                image = read_dicom(compressed(path, syntax, bytes(damaged)))
            except RadiographError as error:
                assert error.path == path  # noqa: PT017  # either outcome is right
            else:
                assert image.shape == (64, 64)


@pytest.mark.skipif(not REAL.is_dir(), reason="no shared files")
class TestReal:
    """Files of Fuji, Konica, Philips, SimpleITK and others."""

    @pytest.mark.parametrize(
        ("name", "tool"),
        [
            ("chest/simpleitk_cxr.dcm", "dcmdjpeg"),
            ("nonchest/fodicom_teeth_CR-ModalitySequenceLUT.dcm", "dcmdjpeg"),
            ("nonchest/fuji_tibia_RG3_JPLY.dcm", "dcmdjpeg"),
            ("chest/philips_RG1_JLSN.dcm", "dcmdjpls"),
        ],
    )
    def test_same_pixels_as_dcmtk(self, name, tool, tmp_path, monkeypatch):
        if shutil.which(tool) is None:
            pytest.skip("no DCMTK")
        monkeypatch.setattr(dicom, "check_subject", lambda *_: None)
        subprocess.run([tool, REAL / name, tmp_path / "raw"], check=True)  # noqa: S603
        np.testing.assert_allclose(read_dicom(REAL / name), read_dicom(tmp_path / "raw"), atol=2 / 1023)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("chest/fuji_CR-MONO1-10-chest_nopreamble.dcm", "chest/fuji_gdcm-CR-MONO1-10-chest.dcm"),
            ("chest/philips_RG1_J2KI.dcm", "chest/philips_RG1_JLSN.dcm"),
            ("nonchest/fuji_hip_RG2_J2KI.dcm", "nonchest/fuji_hip_RG2_JPLL.dcm"),
            ("nonchest/fuji_tibia_RG3_JPLY.dcm", "nonchest/fuji_tibia_RG3_JLSL.dcm"),
        ],
    )
    def test_two_compressions_of_one_picture(self, one, other, monkeypatch):
        monkeypatch.setattr(dicom, "check_subject", lambda *_: None)
        first, second = read_dicom(REAL / one), read_dicom(REAL / other)
        assert np.abs(first - second).mean() < 0.01
        assert np.corrcoef(first.flatten(), second.flatten())[0, 1] > 0.995

    @pytest.mark.slow
    def test_nothing_on_the_console(self):
        code = (
            "import sys; from pathlib import Path; from anomalib_cxr.data.reading.radiograph import read_radiograph\n"
            "from anomalib_cxr.errors import RadiographError\n"
            "for path in sorted(Path(sys.argv[1]).glob('*/*')):\n"
            "    try: read_radiograph(path)\n"
            "    except RadiographError as error: assert 'damaged' not in str(error), error\n"
        )
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code, str(REAL)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
