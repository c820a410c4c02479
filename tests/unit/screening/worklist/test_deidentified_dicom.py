"""De-identified DICOM: the same pixels and gray, and nothing else of the header that tells who it is."""

from __future__ import annotations

import io
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from dicognito.anonymizer import Anonymizer
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    generate_uid,
)

from anomalib_cxr.data.reading.content import read_content
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.errors import RadiographError
from anomalib_cxr.screening.worklist.deidentified_dicom import deidentified_dicom

MARK = "DOEJOHN"
TEXTS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT", "UR"}


def xray(signed=False):
    """A digital X-ray of 12 bits with a window, pixel data, and sizes."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(dataset, keyword, generate_uid())
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Modality, dataset.ViewPosition, dataset.BodyPartExamined = "DX", "PA", "CHEST"
    dataset.PatientName, dataset.PatientID, dataset.PatientSex, dataset.PatientAge = "Doe^John", "17", "M", "094Y"
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MONOCHROME1", 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = int(signed)
    dataset.Rows, dataset.Columns = 48, 40
    dataset.RescaleSlope, dataset.RescaleIntercept = 2, -100
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = 3000, 2500, "SIGMOID"
    values = np.random.default_rng(0).integers(-2048 if signed else 0, 2048 if signed else 4096, (48, 40))
    dataset.PixelData = values.astype("<i2" if signed else "<u2").tobytes()
    return dataset


def saved(dataset, tmp_path, name="xray.dcm"):
    with pydicom.config.disable_value_validation():
        dataset.save_as(tmp_path / name, enforce_file_format=True)
    return tmp_path / name


def deidentified(path, anonymizer=None):
    data = deidentified_dicom(read_content(path), anonymizer or Anonymizer())
    return data, pydicom.dcmread(io.BytesIO(data))


def fill(dataset, depth=0):
    """Put the mark into all texts that the dictionary knows, where none is, and into sequences and private ones."""
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if keyword and not retired and tag not in dataset and tag >> 16 > 0x0002:
            if vr in TEXTS:
                dataset.add_new(tag, vr, MARK)
            elif vr == "SQ" and depth == 0:
                item = Dataset()
                fill(item, 1) if keyword == "RequestAttributesSequence" else item.add_new(0x00081030, "LO", MARK)
                dataset.add_new(tag, vr, [item])
    block = dataset.private_block(0x0011, MARK, create=True)
    block.add_new(1, "LO", MARK)
    block.add_new(2, "UN", MARK.encode())


def test_no_text_of_any_attribute_is_left(tmp_path):
    dataset = xray()
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        dataset.add_new(pydicom.datadict.tag_for_keyword(keyword), "SQ", [])
    with pydicom.config.disable_value_validation():
        fill(dataset)
        dataset.PatientAge, dataset.PatientSex, dataset.LossyImageCompression = MARK[:4], MARK, MARK
        dataset.SOPClassUID = dataset.StudyInstanceUID = "1.2.826.999"
        dataset.WindowCenterWidthExplanation = MARK
        path = saved(dataset, tmp_path)
    assert len(path.read_bytes().split(MARK.encode())) > 1000
    data, result = deidentified(path)
    assert MARK.encode() not in data
    assert b"Doe" not in data
    assert b"999" not in data
    assert result.PatientIdentityRemoved == "YES"
    texts = {element.keyword: str(element.value) for element in result if element.VR in TEXTS and element.value}
    assert set(texts) <= {
        *(
            "ImageType",
            "Modality",
            "StudyID",
            "AccessionNumber",
            "PatientName",
            "PatientID",
            "PatientSex",
            "BodyPartExamined",
            "ViewPosition",
        ),
        *("PhotometricInterpretation", "VOILUTFunction"),
        *("PatientIdentityRemoved", "DeidentificationMethod", "RescaleType"),
    }


@pytest.mark.parametrize("signed", [False, True])
def test_pixels_and_gray_are_the_same(tmp_path, signed):
    path = saved(xray(signed), tmp_path)
    data, result = deidentified(path)
    assert np.array_equal(result.pixel_array, pydicom.dcmread(path).pixel_array)
    (tmp_path / "new.dcm").write_bytes(data)
    assert np.array_equal(read_radiograph(tmp_path / "new.dcm"), read_radiograph(path))
    assert (result.PatientSex, result.PatientAge, result.ViewPosition) == ("M", "090Y", "PA")


def test_a_table_is_kept_without_its_explanation(tmp_path):
    dataset = xray()
    del dataset.WindowCenter, dataset.WindowWidth, dataset.RescaleSlope, dataset.RescaleIntercept
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        table = Dataset()
        table.add_new("LUTDescriptor", "US", [4096, 0, 12])
        table.add_new("LUTData", "US", np.arange(4096)[::-1].tolist())
        table.LUTExplanation, table.ModalityLUTType = MARK, MARK
        setattr(dataset, keyword, [table])
    path = saved(dataset, tmp_path)
    data, _ = deidentified(path)
    assert MARK.encode() not in data
    (tmp_path / "new.dcm").write_bytes(data)
    assert np.array_equal(read_radiograph(tmp_path / "new.dcm"), read_radiograph(path))


def test_compressed_pixels_are_unpacked_with_what_their_stream_says(tmp_path):
    """A JPEG stream may have a comment, which no list of attributes knows."""
    dataset = xray()
    dataset.compress(JPEGLSLossless)
    expected = dataset.pixel_array
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([frame.replace(b"\xff\xd8", b"\xff\xd8\xff\xfe\x00\x09DOEJOHN", 1)])
    assert b"DOEJOHN" in dataset.PixelData
    data, result = deidentified(saved(dataset, tmp_path))
    assert b"DOEJOHN" not in data
    assert result.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert np.array_equal(result.pixel_array, expected)


def test_xrays_of_a_study_keep_together_and_are_others_in_each_export(tmp_path):
    first, second = xray(), xray()
    second.StudyInstanceUID = first.StudyInstanceUID
    assert first.PatientID == second.PatientID == "17"
    paths = [saved(each, tmp_path, f"{index}.dcm") for index, each in enumerate((first, second))]
    anonymizer = Anonymizer()
    results = [deidentified(path, anonymizer)[1] for path in paths]
    assert results[0].StudyInstanceUID == results[1].StudyInstanceUID != first.StudyInstanceUID
    assert results[0].SOPInstanceUID != results[1].SOPInstanceUID
    assert results[0].PatientID == results[1].PatientID != "17"
    assert results[0].file_meta.MediaStorageSOPInstanceUID == results[0].SOPInstanceUID
    assert deidentified(paths[0])[1].StudyInstanceUID != results[0].StudyInstanceUID


def test_burnt_in_text_is_refused_and_a_damaged_file_is(tmp_path):
    dataset = xray()
    dataset.BurnedInAnnotation = "YES"
    with pytest.raises(RadiographError, match="burnt into the pixels"):
        deidentified(saved(dataset, tmp_path))
    dataset = xray()
    dataset.PixelData = dataset.PixelData[:100]
    with pytest.raises(RadiographError):
        deidentified(saved(dataset, tmp_path))
    dataset = xray()
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    with pytest.raises(RadiographError, match="SamplesPerPixel"):
        deidentified(saved(dataset, tmp_path))


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="no dicom3tools on this machine")
def test_is_a_valid_object(tmp_path):
    data, _ = deidentified(saved(xray(), tmp_path))
    (tmp_path / "new.dcm").write_bytes(data)
    told = subprocess.run(["dciodvfy", tmp_path / "new.dcm"], capture_output=True, text=True, check=False).stderr  # noqa: S603, S607
    assert [line for line in told.splitlines() if line.startswith("Error")] == []
