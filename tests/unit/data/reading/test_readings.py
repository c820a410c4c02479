"""What the clinical files of both sets say; the texts follow their publisher's description."""

from __future__ import annotations

import pytest

from anomalib_cxr.data.reading.header import NO_READING, parse_reading, read_reading


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
def test_parse(text, expected):
    sex, age, findings = expected
    assert parse_reading(text) == (sex, None if age is None else pytest.approx(age), findings)


def test_words_that_begin_like_a_sex_are_none():
    assert parse_reading("middle lobe\nfibrosis").sex is None


def test_read_a_file(tmp_path):
    path = tmp_path / "CHNCXR_0001_0.txt"
    path.write_text("\ufeffmale 45yrs\nright PTB", encoding="utf-8")
    assert read_reading(path) == ("M", 45.0, "right PTB")


def test_characters_of_another_encoding_cost_only_themselves(tmp_path):
    path = tmp_path / "CHNCXR_0001_0.txt"
    path.write_bytes("female 30yrs\nnormal \u80ba".encode("gbk"))
    sex, age, findings = read_reading(path)
    assert (sex, age) == ("F", 30.0)
    assert findings.startswith("normal ")


def test_no_file():
    assert read_reading(None) == NO_READING == (None, None, None)
