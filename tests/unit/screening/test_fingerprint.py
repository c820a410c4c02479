"""A file is recognized as unchanged only if nothing that tells of a change does."""

from __future__ import annotations

import os

import pytest

from anomalib_cxr.data.reading.content import FileContent, read_content
from anomalib_cxr.screening.fingerprint import BLOCK, BLOCKS, fingerprint_of


@pytest.mark.parametrize("size", [1, BLOCK, BLOCKS * BLOCK, 100 * BLOCK + 7])
def test_of_the_bytes_is_that_of_the_file(tmp_path, size):
    path = tmp_path / "x"
    path.write_bytes(os.urandom(size))
    assert fingerprint_of(read_content(path)) == fingerprint_of(path)


@pytest.mark.parametrize("place", [0, 100_000, BLOCKS * BLOCK - 1])
def test_every_byte_of_a_small_file_is_sampled(tmp_path, place):
    path, content = tmp_path / "x", bytearray(BLOCKS * BLOCK)
    path.write_bytes(content)
    before = fingerprint_of(path)
    content[place] = 1
    assert fingerprint_of(FileContent(path, bytes(content))).sample != before.sample


@pytest.mark.skipif(os.name != "posix", reason="time of the status")
def test_a_change_between_the_samples_of_a_large_file_moves_the_time_of_its_status(tmp_path):
    path, content = tmp_path / "x", bytearray(100 * BLOCK)
    path.write_bytes(content)
    before = fingerprint_of(path)
    content[2 * BLOCK] = 1
    path.write_bytes(content)
    os.utime(path, ns=(before.modified, before.modified))
    after = fingerprint_of(path)
    assert (after.size, after.modified, after.sample) == (before.size, before.modified, before.sample)
    assert after != before
