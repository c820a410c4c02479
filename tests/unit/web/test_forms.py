"""Texts of form fields."""

from __future__ import annotations

import pytest
from fastapi import HTTPException

from anomalib_cxr.web.forms import text_field


@pytest.mark.parametrize("text", ["Zoë O'Hara; MD", "李 小龍", "רות כהן", "a\u200dक्‍ष", "👩‍⚕️", "R\u00e9\u00adsum\u00e9"])
def test_names_of_any_script_stay_as_they_are(text):
    assert text_field({"reader": f" {text}\n"}, "reader") == text


def test_decomposed_letters_are_composed():
    assert text_field({"reader": "Zoe\u0308"}, "reader") == "Zo\u00eb"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Ada\0Eve", "U+0000"),
        ("Ada\nEve", "U+000A"),
        ("Ada\x1b[2J", "U+001B"),
        ("Ada\x85", "U+0085"),
        ("\u202eadA", "U+202E"),
        ("Ada\u2066", "U+2066"),
        ("\ud800", "U+D800"),
    ],
)
def test_characters_that_hide_are_refused_by_name(text, name):
    with pytest.raises(HTTPException, match=name.replace("+", r"\+")) as refusal:
        text_field({"reader": f"x{text}x"}, "reader")
    assert refusal.value.status_code == 400
    assert "Nothing was saved" in refusal.value.detail


def test_a_note_has_lines():
    assert text_field({"note": "upper\r\n\tlower\r\n"}, "note", lines=True) == "upper\n\tlower"
    with pytest.raises(HTTPException, match=r"U\+0000"):
        text_field({"note": "upper\n\0"}, "note", lines=True)


def test_no_field():
    assert text_field({}, "note") == ""
