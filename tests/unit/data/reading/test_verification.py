"""Broken X-rays: all are named in one error, before anything starts."""

from __future__ import annotations

import re

import pytest

from anomalib_cxr.data.reading.verification import verify_radiographs
from anomalib_cxr.errors import DatasetError

IMAGES = {
    "PHANTOM_0000_0.png": (lambda content: content[: len(content) // 2], "truncated or damaged"),
    "PHANTOM_0001_0.png": (lambda _: b"", "empty file (0 bytes)"),
    "PHANTOM_0012_1.png": (lambda _: b"<html>not found</html>", "not an image, or its header is damaged"),
}


@pytest.fixture
def images(editable, phantom_root):
    return sorted((editable(phantom_root) / "CXR_png").iterdir())


@pytest.fixture
def damaged(images):
    for path in images:
        if path.name in IMAGES:
            path.write_bytes(IMAGES[path.name][0](path.read_bytes()))
    return images


def by_name(offenders):
    """Return what is wrong with each file, by its name; the decoder's own words are cut off."""
    return {
        path.name: re.sub(r"damaged: .*", "damaged", reason) for reason, paths in offenders.items() for path in paths
    }


def test_sound_files(images):
    assert verify_radiographs(images) == {}


def test_all_offenders_in_one_error(damaged):
    with pytest.raises(DatasetError, match="3 of 15 files that are no frontal radiograph") as caught:
        verify_radiographs(damaged)
    assert by_name(caught.value.offenders) == {name: reason for name, (_, reason) in IMAGES.items()}


def test_skip_returns_them_and_warns(damaged, caplog):
    offenders = verify_radiographs(damaged, on_error="skip")
    assert by_name(offenders) == {name: reason for name, (_, reason) in IMAGES.items()}
    assert "3 of 15 files are no frontal radiographs, and left out" in caplog.text


def test_skip_of_all_is_an_error(damaged):
    with pytest.raises(DatasetError, match="3 of 3 files"):
        verify_radiographs([path for path in damaged if path.name in IMAGES], on_error="skip")
