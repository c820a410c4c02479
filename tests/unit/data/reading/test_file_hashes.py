"""Hashes of files."""

from __future__ import annotations

import subprocess
from hashlib import sha256

import pytest

from anomalib_cxr.data.reading.file_hashes import KnownImages, hash_contents


def test_hashes_are_those_of_sha256sum(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path, content in zip(paths, (b"", b"one", b"x" * (2**21 + 1)), strict=True):
        path.write_bytes(content)
    said = subprocess.run(["sha256sum", *paths], capture_output=True, text=True, check=True).stdout  # noqa: S603, S607
    assert hash_contents(paths) == [line.split()[0] for line in said.splitlines()]


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        hash_contents([tmp_path / "none"])


def test_known_images_of_a_large_set_stay_small():
    """As many as NIH ChestX-ray14 has."""
    hashes = [sha256(number.to_bytes(4, "big")).hexdigest() for number in range(112_120)]
    known = KnownImages.of(hashes)
    assert len(known.text) < 1_200_000
    assert KnownImages.parse(known.text) == known
    assert all(digest in known for digest in hashes[::100])
    assert not any(sha256(number.to_bytes(5, "big")).hexdigest() in known for number in range(1000))


def test_unions_and_nothing():
    first, second = KnownImages.of(["00" * 32]), KnownImages.of(["00" * 32, "11" * 32])
    assert len(first | second) == 2
    assert KnownImages.parse("") == KnownImages() == KnownImages.of([])
    assert not KnownImages()
