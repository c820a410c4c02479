"""Copies of files: found among files of one size, refused with two labels, of one patient."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from anomalib_cxr.data.sources import identical_files
from anomalib_cxr.data.sources.identical_files import find_copies, join_patients
from anomalib_cxr.errors import DatasetError

LARGE = 2**18  # longer than both ends that are compared first


@pytest.fixture
def write(tmp_path):
    def write_files(contents, labels=None):
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
        paths = [str(tmp_path / name) for name in contents]
        return pd.DataFrame({"image_path": paths, "label_index": labels or [0] * len(paths)})

    return write_files


def names(copies):
    return [[Path(path).name for path in same] for same in copies]


def test_same_bytes_only(write):
    middle = bytearray(LARGE)
    middle[LARGE // 2] = 1
    contents = {"a": bytes(LARGE), "b": bytes(middle), "c": bytes(LARGE), "d": b"short", "e": b"other", "f": b"short"}
    assert names(find_copies(write(contents))) == [["a", "c"], ["d", "f"]]


def test_whole_files_are_read_only_where_their_ends_agree(write, monkeypatch):
    read = []
    monkeypatch.setattr(identical_files, "_content", lambda path: read.append(path) or path)
    end = bytearray(LARGE)
    end[-1] = 1
    assert find_copies(write({"a": bytes(LARGE), "b": bytes(end), "c": b"short"})) == []
    assert read == []


def test_two_labels(write):
    samples = write({"a": b"one", "b": b"one", "c": b"two", "d": b"two"}, labels=[0, 1, 1, 1])
    with pytest.raises(DatasetError, match="2 X-rays that are copies of each other with two labels") as caught:
        find_copies(samples)
    assert [path.name for path in caught.value.offenders["copies with two labels"]] == ["a", "b"]


def test_patients_are_joined_in_chains():
    samples = pd.DataFrame({"image_path": list("abcdef"), "patient": ["1", "2", "2", "3", "3", "4"]})
    assert join_patients(samples, [["a", "b"], ["c", "d"], ["e", "gone"]]).tolist() == ["1", "1", "1", "1", "1", "4"]
