"""Drawn text: letters that the font has, and a word in place of those that it has not."""

from __future__ import annotations

import numpy as np
import pytest

from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.worklist.page_text import LEFT_OUT, draw_refusal, drawable, drawn_lines


@pytest.mark.parametrize("text", ["Señor Müller, Łódź", "Иванов", "Αθήνα", "a < b & c: 1 %"])
def test_letters_of_the_font(text):
    assert drawable(text) == text


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("DICOM DX, 東芝 X-1", f"DICOM DX, {LEFT_OUT} X-1"),
        ("مستشفى", LEFT_OUT),
        ("בית X", f"{LEFT_OUT} X"),
        ("अस्पताल", LEFT_OUT),
        ("a\0b\nc", "a b c"),
    ],
)
def test_other_letters(text, drawn):
    assert drawable(text) == drawn


def test_the_last_line_tells_that_letters_are_left_out():
    assert drawn_lines(["one", "", "two words"], 5) == ["one", "two", "words"]
    assert drawn_lines(["東芝"], 200)[1:] == [
        f"{LEFT_OUT}: letters that cannot be drawn here; the structured report has them."
    ]


def test_another_reason_is_another_picture():
    first, second = (draw_refusal(Case("/a", 1, 1, Decision.REFUSED, why=why)) for why in ("blurred", "too small"))
    assert first.shape == second.shape
    assert not np.array_equal(first, second)
