"""Names that are no text survive as text, and back."""

from __future__ import annotations

import os

import pytest

from anomalib_cxr.utils.path_text import path_as_text, text_as_path


@pytest.mark.parametrize(
    "name",
    [b"/a/plain.png", "/a/M\u00fcller \u4e2d.png".encode(), b"/a/M\xfcller.png", b"/a/\\xfc.png", b"/a/\\x5c\xff\\"],
)
def test_there_and_back(name):
    text = path_as_text(os.fsdecode(name))
    text.encode("utf-8")  # strict: what tables, pages and terminals do
    assert os.fsencode(text_as_path(text)) == name


def test_ordinary_names_stay_as_they_are():
    assert path_as_text("/a/M\u00fcller.png") == "/a/M\u00fcller.png"
