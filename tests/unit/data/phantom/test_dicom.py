"""Phantoms as DICOM: the same image as the PNG to the last gray level, and all attributes that the standard demands."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.fileset import FileSet

from anomalib_cxr.data.phantom import dicom as phantom_dicom
from anomalib_cxr.data.phantom.dicom import write_phantom_dicom
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.reading.dicomdir import dicomdir_files
from anomalib_cxr.data.reading.metadata import read_clinical_reading, read_header
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.errors import DatasetError

# Type 1 (with a value) and type 2 (may be empty) in the modules of PS3.3 A.26, and what their conditions make of it.
WITH_VALUE = """
StudyInstanceUID Modality SeriesInstanceUID PresentationIntentType ImageLaterality ImageType SamplesPerPixel
PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation PixelData
PixelIntensityRelationship PixelIntensityRelationshipSign RescaleIntercept RescaleSlope RescaleType
PresentationLUTShape LossyImageCompression BurnedInAnnotation PatientOrientation ImagerPixelSpacing WindowCenter
WindowWidth SOPClassUID SOPInstanceUID AnatomicRegionSequence DeidentificationMethod
""".split()  # noqa: SIM905  # a list of words
MAY_BE_EMPTY = """
PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber
SeriesNumber Manufacturer InstanceNumber DetectorType AcquisitionContextSequence PositionerType
""".split()  # noqa: SIM905  # a list of words


def drawn(folder, **settings):
    return write_phantoms(folder, **{"n_normal": 3, "n_sick": 1, "size": 32, **settings})


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", params=[8, 16])
def bits(request):
    return request.param


@pytest.fixture(scope="module")
def root(tmp_path_factory, bits):
    root = drawn(tmp_path_factory.mktemp("phantoms") / "set", bits=bits)
    write_phantom_dicom(root)
    return root


@pytest.fixture(scope="module")
def pairs(root):
    """DICOM files with the PNG files that they are copies of."""
    files = dicomdir_files(root / "DICOM" / "DICOMDIR")
    return [(file, root / "CXR_png" / f"{pydicom.dcmread(file).PatientID}.png") for file in files]


class TestImage:
    def test_same_as_the_png(self, pairs):
        assert len(pairs) == 4
        for file, png in pairs:
            levels = np.asarray(Image.open(png))
            white = np.iinfo(levels.dtype).max
            image = read_radiograph(file)
            torch.testing.assert_close(image, read_radiograph(png), rtol=0, atol=2e-7)
            np.testing.assert_array_equal(np.rint(image[0].double().numpy() * white), levels)

    def test_every_third_is_inverse(self, pairs):
        polarity = [pydicom.dcmread(file).PhotometricInterpretation for file, _ in pairs]
        assert polarity == ["MONOCHROME2", "MONOCHROME2", "MONOCHROME1", "MONOCHROME2"]
        levels = np.asarray(Image.open(pairs[2][1]))
        np.testing.assert_array_equal(pydicom.dcmread(pairs[2][0]).pixel_array, np.iinfo(levels.dtype).max - levels)


class TestHeader:
    def test_patient(self, root, pairs):
        for number, (file, png) in enumerate(pairs):
            header = read_header(file)
            reading = read_clinical_reading(root / "ClinicalReadings" / f"{png.stem}.txt")
            assert header.source == "DICOM DX, anomalib_cxr phantom"
            assert header.patient_name == f"PHANTOM^{number:04d}"
            assert (header.sex, header.age) == (reading.sex, reading.age)
            assert header.view_position == "PA"

    def test_mandatory_attributes(self, pairs):
        for file, _ in pairs:
            dataset = pydicom.dcmread(file)
            assert [keyword for keyword in WITH_VALUE if dataset.get(keyword) in (None, "", [])] == []
            assert [keyword for keyword in MAY_BE_EMPTY if keyword not in dataset] == []
            assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
            assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID

    def test_values_are_valid(self, pairs):
        with pydicom.config.strict_reading():
            for file, _ in pairs:
                assert len(list(pydicom.dcmread(file).iterall())) > 40

    def test_uids_are_unique_but_for_what_is_one(self, pairs):
        datasets = [pydicom.dcmread(file) for file, _ in pairs]
        uids = {
            part[key].value for part in datasets for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        }
        assert len(uids) == 3 * len(pairs)
        assert all(pydicom.uid.UID(uid).is_valid for uid in uids)

    def test_the_list_as_pydicom_reads_it(self, root, pairs):
        files = FileSet(root / "DICOM" / "DICOMDIR")
        assert {instance.SOPInstanceUID for instance in files} == {read_header(file).sop_uid for file, _ in pairs}


class TestSecondTime:
    def test_unchanged_with_its_set(self, root, bits, monkeypatch):
        monkeypatch.setattr(phantom_dicom, "_dataset", None)  # writing again would fail
        times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
        assert write_phantom_dicom(drawn(root, bits=bits)) == root / "DICOM"
        assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times

    def test_the_same_set_elsewhere_has_the_same_files(self, tmp_path, root, bits):
        write_phantom_dicom(drawn(tmp_path / "set", bits=bits))
        assert contents(tmp_path / "set") == contents(root)

    def test_another_seed_has_other_uids(self, tmp_path, pairs):
        folder = write_phantom_dicom(drawn(tmp_path / "set", seed=1))
        others = {read_header(file).sop_uid for file in dicomdir_files(folder / "DICOMDIR")}
        assert not others & {read_header(file).sop_uid for file, _ in pairs}

    def test_missing_files_are_refused(self, tmp_path):
        folder = write_phantom_dicom(drawn(tmp_path / "set"))
        dicomdir_files(folder / "DICOMDIR")[1].unlink()
        with pytest.raises(DatasetError, match=r"missing \(1\)"):
            write_phantom_dicom(tmp_path / "set")


class TestPlace:
    def test_no_set_of_phantoms(self, tmp_path):
        with pytest.raises(DatasetError, match="no set of phantoms"):
            write_phantom_dicom(tmp_path)

    def test_an_interrupted_attempt_is_removed(self, tmp_path):
        root = drawn(tmp_path / "set")
        (root / ".DICOM.partial").mkdir()
        (root / ".DICOM.partial" / "half").write_bytes(b"half")
        write_phantom_dicom(root)
        assert not (root / ".DICOM.partial").exists()
        assert not (root / "DICOM" / "half").exists()

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_a_failure_leaves_nothing_behind(self, tmp_path, monkeypatch, error):
        root = drawn(tmp_path / "set")
        before = contents(root)

        def fail(self, path):
            path.mkdir()
            (path / "half").write_bytes(b"half")
            raise error

        monkeypatch.setattr(FileSet, "write", fail)
        with pytest.raises(DatasetError if isinstance(error, OSError) else KeyboardInterrupt):
            write_phantom_dicom(root)
        assert contents(root) == before
