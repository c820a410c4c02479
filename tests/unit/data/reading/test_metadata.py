"""Headers against what pydicom writes, clinical readings against their publishers' description."""

from __future__ import annotations

import struct
import warnings

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from anomalib_cxr.data.reading.metadata import (
    ClinicalReading,
    Header,
    parse_clinical_reading,
    read_clinical_reading,
    read_header,
)
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.errors import RadiographError

TAGS = {
    "Modality": "DX",
    "Manufacturer": "ACME",
    "ManufacturerModelName": "X-100",
    "StudyInstanceUID": "1.2.3",
    "SOPInstanceUID": "1.2.3.4",
    "PatientID": "P 7",
    "PatientName": "DOE^JANE",
    "PatientSex": "F",
    "PatientAge": "045Y",
    "PatientBirthDate": "19700101",
    "StudyDate": "20200101",
    "ViewPosition": "PA",
}


@pytest.fixture
def write(tmp_path):
    """Write a DICOM file; keyword arguments set tags, or leave them out where None."""

    def _write(**tags):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
        dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            for keyword, value in (TAGS | tags).items():
                if value is not None:
                    setattr(dataset, keyword, value)
            path = tmp_path / "chest"
            dataset.save_as(path, enforce_file_format=True)
        return path

    return _write


def test_all_fields(write):
    assert read_header(write()) == Header(
        source="DICOM DX, ACME X-100",
        study_uid="1.2.3",
        sop_uid="1.2.3.4",
        patient_id="P 7",
        patient_name="DOE^JANE",
        sex="F",
        age=45.0,
        view_position="PA",
        study_date="2020-01-01",
    )


def test_no_field(write):
    assert read_header(write(**dict.fromkeys(TAGS))) == Header("DICOM unknown, unknown")
    assert read_header(write(**dict.fromkeys(TAGS, ""))) == Header("DICOM unknown, unknown")


def test_a_real_file():
    path = get_testdata_file("CT_small.dcm")
    dataset, header = pydicom.dcmread(path), read_header(path)
    assert header.study_uid == dataset.StudyInstanceUID
    assert header.sop_uid == dataset.SOPInstanceUID
    assert (header.patient_id, header.patient_name) == (dataset.PatientID, str(dataset.PatientName))


class TestSource:
    @pytest.mark.parametrize(
        ("manufacturer", "model", "expected"),
        [
            ("  ACME   Ltd ", " X-100\t", "DICOM DX, ACME Ltd X-100"),
            ("ACME", None, "DICOM DX, ACME"),
            ("", "X-100", "DICOM DX, X-100"),
            ("ACME\\Sons", "X\n1", "DICOM DX, ACME Sons X 1"),
            (" ", "\x00", "DICOM DX, unknown"),
        ],
    )
    def test_blanks_are_normalized(self, write, manufacturer, model, expected):
        assert read_header(write(Manufacturer=manufacturer, ManufacturerModelName=model)).source == expected

    @pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n", b"text", bytes(128) + b"DICX", b"DICM"])
    def test_whatever_is_no_dicom_is_a_picture(self, tmp_path, content):
        (tmp_path / "chest.dcm").write_bytes(content)
        assert read_header(tmp_path / "chest.dcm") == Header("picture")

    def test_an_image(self, tmp_path):
        Image.new("L", (32, 32)).save(tmp_path / "chest.png")
        assert read_header(str(tmp_path / "chest.png")) == Header("picture")


class TestPatient:
    @pytest.mark.parametrize(
        ("text", "years"),
        [("045Y", 45), ("006M", 0.5), ("052W", 364 / 365.25), ("010D", 10 / 365.25), ("0Y", 0), ("120Y", 120)],
    )
    def test_age(self, write, text, years):
        assert read_header(write(PatientAge=text)).age == pytest.approx(years)

    @pytest.mark.parametrize("text", [None, "", "45", "old", "Y", "9" * 400 + "Y", "04"])
    def test_odd_age_gives_way_to_the_dates(self, write, text):
        assert read_header(write(PatientAge=text)).age == pytest.approx(50, abs=0.01)

    @pytest.mark.parametrize(
        "dates",
        [
            {"PatientBirthDate": None},
            {"StudyDate": ""},
            {"PatientBirthDate": "19701301"},
            {"PatientBirthDate": "01.01.1970"},
            {"PatientBirthDate": "20200102"},
            {"StudyDate": "0"},
        ],
    )
    def test_dates_without_an_age(self, write, dates):
        assert read_header(write(PatientAge=None, **dates)).age is None

    def test_born_on_the_day(self, write):
        assert read_header(write(PatientAge=None, PatientBirthDate="20200101")).age == 0

    @pytest.mark.parametrize(
        ("value", "sex"), [("M", "M"), ("f", "F"), ("O", ""), ("male", ""), ("", ""), ("M\\F", "")]
    )
    def test_sex(self, write, value, sex):
        assert read_header(write(PatientSex=value)).sex == sex

    def test_name_in_its_character_set(self, write):
        path = write(SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jörg=山田^太郎")
        assert read_header(path).patient_name == "Müller^Jörg=山田^太郎"

    @pytest.mark.parametrize("stated", [None, "", "ISO_IR 6"])
    @pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "latin-1", "shift_jis"])
    def test_letters_of_an_unstated_character_set_are_not_guessed(self, write, stated, encoding):
        name = {"latin-1": "Müller^Jörg", "shift_jis": "山田^太郎"}.get(encoding, "Иванов^Пётр")
        header = read_header(self.with_bytes(write, stated, name.encode(encoding)))
        assert "\ufffd" in header.patient_name
        assert all(letter.isascii() or letter == "\ufffd" for letter in header.patient_name)
        assert header.source.startswith("DICOM DX, ")
        if encoding == "latin-1":
            assert header.patient_name == "M\ufffdller^J\ufffdrg"

    def test_unstated_utf_8_is_read(self, write):
        assert read_header(self.with_bytes(write, None, "Иванов^Пётр".encode())).patient_name == "Иванов^Пётр"

    def with_bytes(self, write, stated, name):
        """Write a file with a name of these bytes, which pydicom's own writer would refuse."""
        path = write(SpecificCharacterSet=stated, PatientName="N" * len(name))
        content = path.read_bytes()
        assert content.count(b"N" * len(name)) == 1
        path.write_bytes(content.replace(b"N" * len(name), name))
        return path

    def test_nothing_of_the_patient_is_in_a_warning(self, write):
        path = write(PatientBirthDate="born 1970", PatientAge="old", PatientID="x" * 99, PatientName="a^b^c^d^e^f^g")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_header(path).patient_id == "x" * 64


def test_view_position_in_capitals(write):
    assert read_header(write(ViewPosition="ll")).view_position == "LL"


TEXTS = ["Modality", "Manufacturer", "ManufacturerModelName", "PatientID", "StudyInstanceUID", "ViewPosition"]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("keyword", TEXTS)
def test_no_flipped_bit_of_a_length_carries_the_patient_elsewhere(write, keyword, syntax):
    secrets = {"PatientName": "Secret^Person", "PatientBirthDate": "19010203"}
    secrets |= {} if keyword == "PatientID" else {"PatientID": "SECRET-ID"}
    path = write(**secrets)
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    implicit = syntax == ImplicitVRLittleEndian
    dcmwrite(path, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    content = path.read_bytes()
    tag = tag_for_keyword(keyword)
    at = content.index(struct.pack("<HH", tag >> 16, tag & 0xFFFF), 132) + (4 if implicit else 6)
    for bit in range(32 if implicit else 16):
        damaged = bytearray(content)
        damaged[at + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        for read in (read_header, read_radiograph):
            try:
                found = read(path)
            except RadiographError as error:
                texts = [error.reason]
            else:
                texts = (
                    [found.source, found.study_uid, found.sop_uid, found.view_position] if read is read_header else []
                )
            assert not any(secret in text for secret in ("Secret", "SECRET", "19010203") for text in texts)
            assert all(len(text) < 400 for text in texts)


@pytest.mark.parametrize("uid", ["1.2.3" + "4" * 70, "1.2.drop", "garbage"])
def test_garbage_in_the_uids(write, uid):
    header = read_header(write(SOPInstanceUID=uid, StudyInstanceUID=uid))
    assert (header.sop_uid, header.study_uid) == ("", "")


def test_texts_are_bounded_by_their_vr(write):
    header = read_header(write(Manufacturer="m" * 500, Modality="C" * 300, PatientName="=".join(["n" * 100] * 3)))
    assert header.source.startswith(f"DICOM {'C' * 16}, {'m' * 64}")
    assert header.patient_name == "=".join(["n" * 64] * 3)


class TestDamaged:
    def test_missing_and_empty(self, tmp_path):
        with pytest.raises(RadiographError, match="cannot be opened"):
            read_header(tmp_path / "missing")
        (tmp_path / "empty").touch()
        with pytest.raises(RadiographError, match="empty file"):
            read_header(tmp_path / "empty")

    def test_truncated_in_the_file_meta(self, write):
        path = write()
        path.write_bytes(path.read_bytes()[:141])
        with pytest.raises(RadiographError, match="damaged DICOM header"):
            read_header(path)

    def test_any_bytes_are_a_header_or_an_error(self, write):
        path, rng, refused = write(), np.random.default_rng(0), 0
        content = path.read_bytes()
        for _ in range(150):
            damaged = bytearray(content[: rng.integers(133, len(content) + 1)])
            for _ in range(rng.integers(6)):
                damaged[rng.integers(132, len(damaged))] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                header = read_header(path)
            except RadiographError as error:
                assert error.path == path  # noqa: PT017  # either outcome is right
                refused += 1
            else:
                assert header.source.startswith("DICOM ")
                assert all(part.isprintable() for part in header if isinstance(part, str))
        assert 0 < refused < 150


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Montgomery
        ("Patient's Sex: F\nPatient's Age: 032Y\nnormal\n", ("F", 32.0, "normal")),
        ("Patient's Sex:  M \r\nPatient's Age:  008M\r\n\r\nTB\r\nin the apex\r\n", ("M", 8 / 12, "TB in the apex")),
        ("PATIENT\u2019S SEX: f\nPATIENT\u2019S AGE: 45Y\nnormal", ("F", 45.0, "normal")),
        ("Patient's Age: 032Y\nnormal", (None, 32.0, "normal")),
        ("Patient's Sex: O\nPatient's Age: unknown\nnormal", (None, None, "normal")),
        # Shenzhen
        ("male 45yrs\nright PTB", ("M", 45.0, "right PTB")),
        ("female, 32yrs\nnormal", ("F", 32.0, "normal")),
        (
            "Male 13Months\nsecondary PTB\nin the left upper field",
            ("M", 13 / 12, "secondary PTB in the left upper field"),
        ),
        ("Female  , 20 days", ("F", 20 / 365.25, None)),
        ("Male 6 weeks", ("M", 42 / 365.25, None)),
        ("male46yrs \n\nbilateral PTB", ("M", 46.0, "bilateral PTB")),
        ("female\nnormal", ("F", None, "normal")),
        ("\ufefffemale 24yrs\nnormal", ("F", 24.0, "normal")),
        # neither
        ("normal", (None, None, "normal")),
        ("calcified nodule\nno effusion", (None, None, "calcified nodule no effusion")),
        ("", (None, None, None)),
        (" \n\t\n", (None, None, None)),
    ],
)
def test_parse_clinical_reading(text, expected):
    sex, age, findings = expected
    assert parse_clinical_reading(text) == (sex, None if age is None else pytest.approx(age), findings)


def test_words_that_begin_like_a_sex_are_no_sex():
    assert parse_clinical_reading("middle lobe\nfibrosis").sex is None


def test_read_a_clinical_reading(tmp_path):
    path = tmp_path / "CHNCXR_0001_0.txt"
    path.write_text("\ufeffmale 45yrs\nright PTB", encoding="utf-8")
    assert read_clinical_reading(path) == ("M", 45.0, "right PTB")


def test_only_characters_of_another_encoding_are_lost(tmp_path):
    path = tmp_path / "CHNCXR_0001_0.txt"
    path.write_bytes("female 30yrs\nnormal \u80ba".encode("gbk"))
    sex, age, findings = read_clinical_reading(path)
    assert (sex, age) == ("F", 30.0)
    assert findings.startswith("normal ")


def test_no_clinical_reading():
    assert read_clinical_reading(None) == ClinicalReading() == (None, None, None)
