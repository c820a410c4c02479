"""DICOM objects of a case, read back by pydicom and by highdicom; its parsers take only what follows the templates."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from anomalib_cxr.data.phantom.dicom import write_phantom_dicom
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.reading.content import FileContent
from anomalib_cxr.data.reading.dicom_file import load_dicom
from anomalib_cxr.data.reading.dicomdir import dicomdir_files
from anomalib_cxr.data.reading.metadata import read_header
from anomalib_cxr.errors import MissingExtraError, ScreeningError
from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, NOT_SCORED_NOTICE, Case, Decision
from anomalib_cxr.screening.worklist.dicom_document import _facts
from anomalib_cxr.screening.worklist.dicom_export import write_dicom_objects

NOTICE = "For research, not a medical device. Not for decisions about patients."
GUARANTEE = "At most 5 % of sick people are expected below the threshold, at 95 % confidence."
MODEL = "ab" * 32
HEATMAP = np.random.default_rng(0).integers(0, 256, (33, 21, 3), np.uint8)  # odd: the pixel data needs a byte more
HEAT = np.zeros((16, 16))
HEAT[3:6, 9:12], HEAT[10, 4] = 0.8, 0.5
MEASURED = {"score": 0.71234567890123, "threshold": 0.4, "probability": 1.25e-7, "p_value": 1 / 301}
SAME_AS_SOURCE = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyInstanceUID", "StudyDate"),
    *("StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
# Attributes of type 1 in the modules of PS3.3 A.8 (Secondary Capture) and A.35.3 (Comprehensive SR), and of type 2.
WITH_VALUE = {
    "OT": "StudyInstanceUID SeriesInstanceUID Modality ConversionType SamplesPerPixel PhotometricInterpretation Rows "
    "Columns BitsAllocated BitsStored HighBit PixelRepresentation PlanarConfiguration PixelData SOPClassUID "
    "SOPInstanceUID SpecificCharacterSet",
    "SR": "StudyInstanceUID SeriesInstanceUID Modality SeriesNumber Manufacturer InstanceNumber CompletionFlag "
    "VerificationFlag ContentDate ContentTime ValueType ConceptNameCodeSequence ContinuityOfContent ContentSequence "
    "SOPClassUID SOPInstanceUID SpecificCharacterSet CurrentRequestedProcedureEvidenceSequence",
    "DOC": "StudyInstanceUID SeriesInstanceUID Modality SeriesNumber ConversionType InstanceNumber BurnedInAnnotation "
    "MIMETypeOfEncapsulatedDocument EncapsulatedDocument SOPClassUID SOPInstanceUID SpecificCharacterSet",
    "PR": "StudyInstanceUID SeriesInstanceUID Modality SeriesNumber Manufacturer InstanceNumber ContentLabel "
    "PresentationCreationDate PresentationCreationTime ReferencedSeriesSequence DisplayedAreaSelectionSequence "
    "GraphicLayerSequence PresentationLUTShape SOPClassUID SOPInstanceUID SpecificCharacterSet",
}
MAY_BE_EMPTY = {
    "OT": "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID "
    "AccessionNumber SeriesNumber InstanceNumber PatientOrientation",
    "SR": "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID "
    "AccessionNumber ReferencedPerformedProcedureStepSequence PerformedProcedureCodeSequence",
    "DOC": "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID "
    "AccessionNumber ContentDate ContentTime AcquisitionDateTime DocumentTitle ConceptNameCodeSequence",
    "PR": "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID "
    "AccessionNumber ContentDescription ContentCreatorName",
}


def case_of(path, **changes):
    case = Case(
        str(path),
        1,
        1,
        Decision.TO_READ,
        **MEASURED,
        findings="Most unusual: right lung, upper zone.",
        guarantee=GUARANTEE,
        model=MODEL,
        screened="2026-01-31T10:00:00+00:00",
    )
    return replace(case, **changes)


def refused_case(why="not a chest X-ray"):
    return Case("/a", 1, 1, Decision.REFUSED, why=why, screened="2026-01-31T10:00:00+00:00")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = write_phantoms(tmp_path_factory.mktemp("phantoms") / "set", n_normal=1, n_sick=0, size=32)
    return pydicom.dcmread(dicomdir_files(write_phantom_dicom(root) / "DICOMDIR")[0])


@pytest.fixture
def case(source):
    header = read_header(source.filename)
    return case_of(source.filename, source=header.source, study_uid=header.study_uid, sop_uid=header.sop_uid)


@pytest.fixture
def written(case, source, tmp_path):
    return write_dicom_objects(case, source, HEATMAP, tmp_path / "dicom", HEAT)


@pytest.fixture
def of_picture(tmp_path):
    return write_dicom_objects(case_of("/xrays/chest.png"), None, HEATMAP, tmp_path / "dicom")


def group_of(path):
    (group,) = hd.sr.srread(path).content.get_image_measurement_groups()
    return group


def comments(path):
    items = hd.sr.utils.find_content_items(hd.sr.srread(path), name=codes.DCM.Comment, recursive=True)
    return [item.value for item in items]


class TestCapture:
    def test_pixels_are_the_heatmap(self, written):
        image = hd.imread(written[0])
        assert image.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
        np.testing.assert_array_equal(pydicom.dcmread(written[0]).pixel_array[: len(HEATMAP)], HEATMAP)

    def test_the_notice_is_burnt_in_below_the_heatmap(self, case, source, tmp_path):
        heatmap = np.zeros((300, 400, 3), np.uint8)
        path = write_dicom_objects(case, source, heatmap, tmp_path)[0]
        pixels = pydicom.dcmread(path).pixel_array
        assert (pixels[:300] == 0).all()
        strip = pixels[300:]
        columns = np.flatnonzero(strip.max(axis=(0, 2)) > 128)
        assert columns[0] < 20
        assert 200 < columns[-1] < 399  # the whole of it fits

    def test_of_a_refused_case_it_is_a_picture_that_says_why(self, source, tmp_path):
        short, long = (
            pydicom.dcmread(write_dicom_objects(refused_case(why), source, None, tmp_path / str(len(why)))[0])
            for why in ("blurred", "blurred " * 200)
        )
        assert short.SeriesDescription == "anomalib_cxr not scored"
        assert short.DerivationDescription == NOT_SCORED_NOTICE
        assert 0.002 < (short.pixel_array > 128).mean() < 0.1  # letters
        assert long.Rows > short.Rows
        assert (long.pixel_array > 128).any(axis=(1, 2))[-150:].any()  # the last lines are inside

    def test_it_tells_its_source_and_that_it_is_no_device(self, written, source):
        capture = pydicom.dcmread(written[0])
        assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert capture.ImageComments == NOTICE
        assert "Standard deviations (SD) above healthy images" in capture.DerivationDescription
        assert capture.DeviceSerialNumber == MODEL
        assert list(capture.PatientOrientation) == list(source.PatientOrientation)

    @pytest.mark.parametrize(
        "heatmap",
        [HEATMAP[..., 0], HEATMAP.astype(np.float32), np.zeros((4, 4, 4), np.uint8), HEATMAP.astype(np.uint16)],
    )
    def test_other_pictures_are_refused(self, case, source, tmp_path, heatmap):
        with pytest.raises(ScreeningError, match=r"heatmap of shape .*\n.*\(H, W, 3\) of uint8"):
            write_dicom_objects(case, source, heatmap, tmp_path / "dicom")
        assert list(tmp_path.iterdir()) == []


class TestReport:
    def test_measurements(self, written):
        found = {item.name.value: float(item.value) for item in group_of(written[1]).get_measurements()}
        assert found == pytest.approx(MEASURED, rel=1e-9)

    def test_the_probability_tells_its_prevalence(self, written):
        (name,) = [item.name for item in group_of(written[1]).get_measurements() if item.name.value == "probability"]
        assert name.meaning == "Probability of disease at the calibration's prevalence"

    @pytest.mark.parametrize("decision", Decision)
    def test_decision(self, case, source, tmp_path, decision):
        _, path, _ = write_dicom_objects(replace(case, decision=decision), source, HEATMAP, tmp_path)
        (evaluation,) = group_of(path).get_qualitative_evaluations()
        assert evaluation.value.meaning == decision.value

    def test_reasons_and_notice(self, written):
        assert set(comments(written[1])) == {
            "Most unusual: right lung, upper zone.",
            GUARANTEE,
            NOTICE,
            BELOW_THRESHOLD_NOTICE,
        }

    def test_a_refused_case_has_its_reason_and_no_measurements(self, source, tmp_path):
        _, path, _ = write_dicom_objects(refused_case(), source, None, tmp_path)
        assert group_of(path).get_measurements() == []
        (evaluation,) = group_of(path).get_qualitative_evaluations()
        assert evaluation.value.meaning == "refused"
        assert set(comments(path)) == {"not a chest X-ray", NOTICE, NOT_SCORED_NOTICE}

    def test_who_observed_by_which_algorithm(self, written):
        report = hd.sr.srread(written[1])
        (observer,) = report.content.get_observer_contexts()
        assert observer.observer_identifying_attributes.name == "anomalib_cxr"
        assert observer.observer_identifying_attributes.serial_number == MODEL
        parameters = codes.DCM.AlgorithmParameters
        (algorithm,) = hd.sr.utils.find_content_items(report, name=parameters, recursive=True)
        assert algorithm.value == f"SHA-256 of the model: {MODEL}"

    def test_references(self, written, source):
        capture, report, *_ = map(pydicom.dcmread, written)
        (image,) = group_of(written[1]).source_images
        assert image.referenced_sop_instance_uid == source.SOPInstanceUID
        (study,) = report.CurrentRequestedProcedureEvidenceSequence
        series = study.ReferencedSeriesSequence
        referenced = {item.ReferencedSOPInstanceUID for part in series for item in part.ReferencedSOPSequence}
        assert referenced == {source.SOPInstanceUID, capture.SOPInstanceUID}
        assert study.StudyInstanceUID == source.StudyInstanceUID

    def test_private_codes_are_declared(self, written):
        report = pydicom.dcmread(written[1])
        declared = {item.CodingSchemeDesignator for item in report.CodingSchemeIdentificationSequence}
        used = {item.value for item in report.iterall() if item.keyword == "CodingSchemeDesignator"}
        assert {scheme for scheme in used if scheme.startswith("99")} == declared & used
        assert used - declared <= {"DCM", "SCT", "UCUM", "RFC5646"}


class TestBoth:
    def test_patient_and_study_of_the_source_in_new_series(self, written, source):
        made = [pydicom.dcmread(path) for path in written]
        for dataset in made:
            assert [key for key in SAME_AS_SOURCE if dataset.get(key) != source.get(key)] == []
        uids = [dataset.SeriesInstanceUID for dataset in (*made, source)]
        assert len(set(uids)) == 5

    def test_mandatory_attributes(self, written, of_picture):
        for path in (*written, *of_picture):
            dataset = pydicom.dcmread(path)
            told = WITH_VALUE[dataset.Modality].split()
            assert [keyword for keyword in told if dataset.get(keyword) in (None, "", [])] == []
            assert [keyword for keyword in MAY_BE_EMPTY[dataset.Modality].split() if keyword not in dataset] == []
            assert path.name == f"{dataset.SOPInstanceUID}.dcm"
            assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID

    def test_values_are_valid(self, written, of_picture):
        with pydicom.config.strict_reading():
            for path in (*written, *of_picture):
                for element in pydicom.dcmread(path).iterall():
                    assert element.VR != "UI" or UID(element.value).is_valid

    def test_screened_again_they_are_the_same(self, written, case, source, tmp_path):
        again = write_dicom_objects(case, source, HEATMAP, tmp_path / "again", HEAT)
        assert [path.name for path in again] == [path.name for path in written]
        assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]

    @pytest.mark.parametrize(
        "changes",
        [{"model": "cd" * 32}, {"path": "/xrays/other.png"}, {"content": "ef" * 32}, {"calibration": "01" * 32}],
    )
    def test_another_model_or_image_has_others(self, of_picture, tmp_path, changes):
        others = write_dicom_objects(replace(case_of("/xrays/chest.png"), **changes), None, HEATMAP, tmp_path)
        assert not {path.name for path in others} & {path.name for path in of_picture}

    @pytest.mark.parametrize(
        ("keyword", "value"), [("PatientID", "B"), ("PatientName", "B"), ("StudyInstanceUID", "1.2.3"), (None, None)]
    )
    def test_one_sop_instance_uid_of_two_xrays(self, written, case, source, tmp_path, keyword, value):
        """Of two patients, of two studies, or of two contents: none overwrites the other's."""
        other = pydicom.dcmread(source.filename)
        if keyword:
            setattr(other, keyword, value)
        content = "" if keyword else "ef" * 32
        others = write_dicom_objects(replace(case, content=content), other, HEATMAP, tmp_path / "dicom")
        assert not {path.name for path in others} & {path.name for path in written}
        assert len(list((tmp_path / "dicom").iterdir())) == 4 + 3

    def test_dates_are_those_of_the_screening(self, written):
        for path in written:
            dataset = pydicom.dcmread(path)
            assert abs(int(dataset.InstanceCreationDate) - 20260131) <= 1  # by the zone of this machine
            made = "PresentationCreation" if dataset.Modality == "PR" else "Content"
            assert dataset.InstanceCreationDate == dataset[f"{made}Date"].value
            assert dataset.InstanceCreationTime == dataset[f"{made}Time"].value


class TestOutline:
    def test_it_surrounds_what_is_most_unusual(self, written, source):
        state = pydicom.dcmread(written[3])
        assert state.SOPClassUID == pydicom.uid.GrayscaleSoftcopyPresentationStateStorage
        image = state.ReferencedSeriesSequence[0].ReferencedImageSequence[0]
        assert image.ReferencedSOPInstanceUID == source.SOPInstanceUID
        largest, smallest = state.GraphicAnnotationSequence[0].GraphicObjectSequence
        points = np.reshape(largest.GraphicData, (-1, 2)) * 16 / (source.Columns, source.Rows)
        np.testing.assert_allclose(points[0], points[-1])
        np.testing.assert_allclose([points.min(axis=0), points.max(axis=0)], [[9, 3], [12, 6]], atol=0.51)
        points = np.reshape(smallest.GraphicData, (-1, 2)) * 16 / (source.Columns, source.Rows)
        np.testing.assert_allclose(points.mean(axis=0), [4.5, 10.5], atol=0.2)

    def test_notice_and_findings(self, written):
        state = pydicom.dcmread(written[3])
        (text,) = state.GraphicAnnotationSequence[0].TextObjectSequence
        assert text.UnformattedTextValue.startswith("For research. Not a medical device. Most unusual: right lung")

    @pytest.mark.parametrize(("photometric", "shape"), [("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY")])
    def test_the_xray_keeps_its_gray_scale(self, case, source, tmp_path, photometric, shape):
        changed = pydicom.dcmread(source.filename)
        changed.PhotometricInterpretation = photometric
        changed.WindowCenter, changed.WindowWidth, changed.VOILUTFunction = 77, 33, "SIGMOID"
        state = pydicom.dcmread(write_dicom_objects(case, changed, HEATMAP, tmp_path, HEAT)[3])
        assert state.PresentationLUTShape == shape
        (window,) = state.SoftcopyVOILUTSequence
        assert (window.WindowCenter, window.WindowWidth, window.VOILUTFunction) == (77, 33, "SIGMOID")

    def test_a_voi_table(self, case, source, tmp_path):
        changed = pydicom.dcmread(source.filename)
        del changed.WindowCenter, changed.WindowWidth
        table = Dataset()
        table.LUTDescriptor, table.LUTData = [256, 0, 12], list(range(0, 4096, 16))  # 12 bits in words of 16
        table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "US"
        changed.VOILUTSequence = [table]
        path = write_dicom_objects(case, changed, HEATMAP, tmp_path, HEAT)[3]
        (lut,) = pydicom.dcmread(path).SoftcopyVOILUTSequence[0].VOILUTSequence
        assert list(lut.LUTDescriptor) == [256, 0, 16]
        entries = np.frombuffer(lut.LUTData, "<u2")
        np.testing.assert_allclose(entries / 65535, np.arange(0, 4096, 16) / 4095, atol=1e-5)
        assert verify(path) == []

    def test_nothing_unusual_has_no_outline(self, case, source, tmp_path):
        path = write_dicom_objects(case, source, HEATMAP, tmp_path, np.zeros((16, 16)))[3]
        (annotation,) = pydicom.dcmread(path).GraphicAnnotationSequence
        assert "GraphicObjectSequence" not in annotation
        assert "TextObjectSequence" in annotation
        assert verify(path) == []

    @pytest.mark.parametrize("keyword", ["Rows", "WindowWidth", "RescaleSlope"])
    def test_a_damaged_gray_scale_has_none(self, case, source, tmp_path, keyword):
        changed = pydicom.dcmread(source.filename)
        changed.RescaleIntercept, changed.RescaleSlope = 0, 1
        with pydicom.config.disable_value_validation():
            changed[keyword] = pydicom.DataElement(changed[keyword].tag, "LO", "damaged")
            paths = write_dicom_objects(case, changed, HEATMAP, tmp_path, HEAT)
        assert [pydicom.dcmread(path).Modality for path in paths] == ["OT", "SR", "DOC"]

    def test_a_picture_has_none(self, tmp_path):
        paths = write_dicom_objects(case_of("/xrays/chest.png"), None, HEATMAP, tmp_path, HEAT)
        assert [pydicom.dcmread(path).Modality for path in paths] == ["OT", "SR", "DOC"]


class TestPage:
    def page(self, path):
        document = pydicom.dcmread(path)
        return document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]

    def test_one_page_with_result_and_notice(self, written, case, source, tmp_path):
        (tmp_path / "page.pdf").write_bytes(self.page(written[2]))
        assert self.page(written[2]).count(b"/Type /Page\n") + self.page(written[2]).count(b"/Type /Page ") == 1
        if shutil.which("gs") is None:
            pytest.skip("Ghostscript is not there")
        command = [
            "gs",
            "-q",
            "-dBATCH",
            "-dNOPAUSE",
            "-sDEVICE=txtwrite",
            "-sOutputFile=-",
            str(tmp_path / "page.pdf"),
        ]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
        told = " ".join(text.split())
        for part in (
            "For research. Not a medical device.",
            NOTICE,
            case.findings,
            case.decision_text,
            source.SOPInstanceUID,
        ):
            assert part in told
        assert str(source.PatientID) not in told
        assert "Not scored" not in told

    def test_of_a_refused_case_it_says_why(self):
        facts = " ".join(_facts(refused_case("blurred")))
        assert "Reason: blurred" in facts
        assert NOT_SCORED_NOTICE in facts
        assert "score that" not in facts
        assert "threshold" not in facts

    def test_what_looks_like_a_formula_is_text(self, case, source, tmp_path):
        odd = replace(case, findings=r"$\frac{1}$ \alpha $x_1", why="a\x00b")
        assert self.page(write_dicom_objects(odd, source, HEATMAP, tmp_path)[2]).startswith(b"%PDF")


class TestPicture:
    def test_no_patient_and_a_study_of_its_own(self, of_picture):
        capture, report, _ = map(pydicom.dcmread, of_picture)
        for dataset in (capture, report):
            assert not any(dataset.get(keyword) for keyword in ("PatientName", "PatientID", "PatientBirthDate"))
        assert capture.StudyInstanceUID == report.StudyInstanceUID
        assert "SourceImageSequence" not in capture
        assert group_of(of_picture[1]).source_images == []

    def test_the_report_refers_to_the_capture(self, of_picture):
        capture, report, _ = map(pydicom.dcmread, of_picture)
        series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == capture.SOPInstanceUID


class TestOddSources:
    def test_names_in_other_characters(self, case, source, tmp_path):
        odd = pydicom.dcmread(source.filename)
        odd.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        odd.PatientName = "Yamada^Tarou=山田^太郎"
        odd.save_as(tmp_path / "odd.dcm")
        paths = write_dicom_objects(case, pydicom.dcmread(tmp_path / "odd.dcm"), HEATMAP, tmp_path)
        assert [str(pydicom.dcmread(path).PatientName) for path in paths] == ["Yamada^Tarou=山田^太郎"] * 3

    def test_names_of_an_unstated_character_set_are_left_empty(self, case, source, tmp_path):
        """A guess would be filed as the name of another person."""
        odd = pydicom.dcmread(source.filename)
        odd.pop("SpecificCharacterSet", None)
        odd.PatientName, odd.PatientID = "N" * 11, "A17"
        odd.save_as(tmp_path / "odd.dcm")
        content = (tmp_path / "odd.dcm").read_bytes().replace(b"N" * 11, "Иванов^Пётр".encode("cp1251"))
        (tmp_path / "odd.dcm").write_bytes(content)
        paths = write_dicom_objects(case, pydicom.dcmread(tmp_path / "odd.dcm"), HEATMAP, tmp_path)
        assert {(str(found.PatientName), found.PatientID) for found in map(pydicom.dcmread, paths)} == {("", "A17")}

    def test_an_empty_dataset(self, case, tmp_path):
        paths = write_dicom_objects(case, Dataset(), HEATMAP, tmp_path)
        assert [pydicom.dcmread(path).PatientID for path in paths] == [""] * 3

    def test_invalid_values_are_left_empty_and_quoted_nowhere(self, case, source, tmp_path, caplog):
        odd = pydicom.dcmread(source.filename)
        with pydicom.config.disable_value_validation():
            odd.PatientName, odd.PatientID, odd.PatientSex = "NoCaret" * 10, "x" * 99, "female"
            odd.PatientBirthDate, odd.StudyTime, odd.StudyID = "long ago", "noon", "a\\b"
            odd.SOPClassUID = "1.2.3.4"
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                paths = write_dicom_objects(case, odd, HEATMAP, tmp_path)
            for path in paths:
                made = pydicom.dcmread(path)
                wrong = ("PatientName", "PatientID", "StudyID", "PatientSex", "PatientBirthDate", "StudyTime")
                assert [key for key in wrong if made[key].value] == []
                assert made.AccessionNumber == odd.AccessionNumber
        assert "NoCaret" not in caplog.text

    @pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID"])
    def test_a_missing_uid(self, case, source, tmp_path, keyword):
        odd = pydicom.dcmread(source.filename)
        del odd[keyword]
        paths = write_dicom_objects(case, odd, HEATMAP, tmp_path)
        assert hd.sr.srread(paths[1]).PatientID == source.PatientID
        assert ("SourceImageSequence" in pydicom.dcmread(paths[0])) == (keyword == "StudyInstanceUID")


class TestPixelFacts:
    """What the standard asks of images that are derived from a lossy or annotated one, PS3.3 C.7.6.1."""

    def capture(self, case, source, tmp_path, syntax=None, **facts):
        changed = pydicom.dcmread(source.filename, stop_before_pixels=True)
        for keyword, value in facts.items():
            setattr(changed, keyword, value)
        changed.file_meta.TransferSyntaxUID = syntax or changed.file_meta.TransferSyntaxUID
        return pydicom.dcmread(write_dicom_objects(case, changed, HEATMAP, tmp_path)[0])

    @pytest.mark.parametrize("stated", ["YES", "NO"])
    def test_burned_in_annotation(self, case, source, tmp_path, stated):
        assert self.capture(case, source, tmp_path, BurnedInAnnotation=stated).BurnedInAnnotation == stated

    def test_lossy_compression_that_is_stated(self, case, source, tmp_path):
        facts = {
            "LossyImageCompression": "01",
            "LossyImageCompressionRatio": ["12.5", "3"],
            "LossyImageCompressionMethod": ["ISO_10918_1", "ISO_15444_1"],
        }
        made = self.capture(case, source, tmp_path, **facts)
        assert {keyword: made[keyword].value for keyword in facts} == facts

    @pytest.mark.parametrize(
        ("syntax", "method"),
        [
            (pydicom.uid.JPEGBaseline8Bit, "ISO_10918_1"),
            (pydicom.uid.JPEG2000, "ISO_15444_1"),
            (pydicom.uid.JPEGLSNearLossless, "ISO_14495_1"),
        ],
    )
    def test_lossy_compression_of_the_file_itself(self, case, source, tmp_path, syntax, method):
        made = self.capture(case, source, tmp_path, syntax, LossyImageCompression="00")
        assert (made.LossyImageCompression, made.LossyImageCompressionMethod) == ("01", method)

    def test_nothing_is_claimed_of_a_file_that_states_nothing(self, case, source, tmp_path):
        silent = pydicom.dcmread(source.filename)
        del silent.BurnedInAnnotation, silent.LossyImageCompression
        silent.save_as(tmp_path / "silent.dcm")
        made = self.capture(case, pydicom.dcmread(tmp_path / "silent.dcm"), tmp_path, pydicom.uid.JPEGLossless)
        assert [key for key in ("BurnedInAnnotation", "LossyImageCompression") if key in made] == []


def verify(path):
    """Return the errors that dicom3tools find in a file, and that DCMTK and highdicom find in a report."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy of dicom3tools is not there")
    command = ["dciodvfy", "-new", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    found = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    if pydicom.dcmread(path).Modality == "SR":
        hd.sr.srread(path)
        if shutil.which("dsrdump"):
            command = ["dsrdump", "-q", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
            found += [done.stderr] * bool(done.returncode)
    return found


GARBAGE = {
    "too long": "x" * 300,
    "control characters": "a\0b\x1b\nc",
    "several values": "a\\b\\c",
    "a UID with a leading zero": "1.2.03.4",
    "too long a UID": "1." * 60 + "1",
    "no letters of ASCII": "山田^太郎" * 12,
    "too many parts of a name": "a^b^c^d^e^f=a=b=c",
    "no number": "-3.5.1",
    "blanks": "   ",
}
HEADER = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "IssuerOfPatientID"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription"),
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "PatientOrientation"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "BurnedInAnnotation"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)


class TestConformance:
    """By tools that have nothing in common with pydicom."""

    def test_of_a_dicom_file_and_of_a_picture(self, written, of_picture):
        assert [verify(path) for path in (*written, *of_picture)] == [[]] * 7

    def test_of_long_names_in_other_letters(self, case, source, tmp_path):
        """The standard allows 64 characters, which dciodvfy takes for bytes: names are kept all the same."""
        odd = pydicom.dcmread(source.filename)
        odd.SpecificCharacterSet = "ISO_IR 192"
        odd.PatientName = "Константинопольский-Задунайский^Александр^Владимирович"
        paths = write_dicom_objects(case, odd, HEATMAP, tmp_path)
        assert [str(pydicom.dcmread(path).PatientName) for path in paths] == [odd.PatientName] * 3
        errors = [error for path in paths for error in verify(path)]
        assert [error for error in errors if "PatientName" not in error or "Length invalid" not in error] == []

    def test_of_a_refused_case(self, source, tmp_path):
        assert [verify(path) for path in write_dicom_objects(refused_case(), source, None, tmp_path)] == [[]] * 3

    @pytest.mark.parametrize("value", GARBAGE.values(), ids=GARBAGE)
    def test_of_garbage_in_the_header(self, case, source, tmp_path, value):
        odd = pydicom.dcmread(source.filename, stop_before_pixels=True)
        with pydicom.config.disable_value_validation():
            for keyword in HEADER:
                with suppress(ValueError):  # what pydicom does not take, a file may still hold: see the next test
                    setattr(odd, keyword, value)
        told = replace(case, why=value, findings=value * 9, guarantee="\0")
        paths = write_dicom_objects(told, odd, HEATMAP, tmp_path, HEAT)
        assert [error for path in paths for error in verify(path)] == []

    @pytest.mark.parametrize("seed", range(12))
    def test_of_a_damaged_header(self, case, source, tmp_path, seed):
        rng = np.random.default_rng(seed)
        content = bytearray(Path(source.filename).read_bytes())
        end = content.index(b"\xe0\x7f\x10\x00")  # the pixels
        for place in rng.integers(400, end, 12):
            content[place] ^= 1 << int(rng.integers(8))
        try:
            damaged = load_dicom(FileContent(Path("a.dcm"), bytes(content)), pixels=False)
            paths = write_dicom_objects(case, damaged, HEATMAP, tmp_path, HEAT)
        except (ValueError, KeyError, EOFError, NotImplementedError, struct.error, TypeError, AttributeError) as error:
            pytest.skip(f"not loaded: {error}")
        assert [error for path in paths for error in verify(path)] == []


def test_without_highdicom(case, source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingExtraError, match=r'no module highdicom\n.*\n.*pip install "anomalib-cxr\[dicom\]"'):
        write_dicom_objects(case, source, HEATMAP, tmp_path / "dicom")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing_half_written(case, source, tmp_path, monkeypatch):
    def fail(self, path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Dataset, "save_as", fail)
    with pytest.raises(OSError, match="No space left"):
        write_dicom_objects(case, source, HEATMAP, tmp_path / "dicom")
    assert list((tmp_path / "dicom").iterdir()) == []
