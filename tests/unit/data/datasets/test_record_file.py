"""Records in a file: what was written is read, and what is not whole is not there."""

from __future__ import annotations

import pickle
import stat

import numpy as np
import pytest

from anomalib_cxr.data.datasets.record_file import Head, RecordFile

LAYOUT = np.dtype([("image", "<f4", (40, 40)), ("flag", "?")])
NAME = b"n" * 16


def head(name=NAME, stamp=b"s", content=b"c"):
    return Head(name, stamp * 16, content * 16)


def record(seed):
    drawn = np.zeros((), LAYOUT)
    drawn["image"] = np.random.default_rng(seed).normal(size=(40, 40))
    drawn["flag"] = True
    return drawn


@pytest.fixture
def records(tmp_path):
    return RecordFile(tmp_path / "pictures", LAYOUT)


def damage(records, number, offset):
    with records.path.open("r+b") as file:
        file.seek(number * records.record_bytes + offset)
        (byte,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


class TestRoundTrip:
    def test_what_was_written_is_read(self, records):
        for number in range(3):
            records.write(number, head(bytes([number]) * 16), record(number))
        assert len(records) == 3
        for number in range(3):
            np.testing.assert_array_equal(records.read(number, bytes([number]) * 16), record(number))

    def test_a_copy_is_read(self, records):
        records.write(0, head(), record(0))
        records.read(0, NAME)["image"][:] = 0
        np.testing.assert_array_equal(records.read(0, NAME), record(0))

    def test_written_again(self, records):
        records.write(0, head(), record(0))
        records.write(0, head(), record(1))
        np.testing.assert_array_equal(records.read(0, NAME), record(1))
        assert len(records) == 1

    def test_grown_since_it_was_mapped(self, records):
        records.write(0, head(), record(0))
        records.read(0, NAME)
        records.write(4, head(), record(4))
        np.testing.assert_array_equal(records.read(4, NAME), record(4))
        assert list(records.heads()) == [head(), None, None, None, head()]

    def test_another_head(self, records):
        records.write(0, head(), record(0))
        records.write_head(0, head(stamp=b"t"))
        assert list(records.heads()) == [head(stamp=b"t")]
        np.testing.assert_array_equal(records.read(0, NAME), record(0))

    def test_in_another_process(self, records):
        records.write(0, head(), record(0))
        records.read(0, NAME)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(records)).read(0, NAME), record(0))  # noqa: S301

    def test_nobody_else_may_read_it(self, records):
        records.write(0, head(), record(0))
        assert stat.S_IMODE(records.path.stat().st_mode) & 0o077 == 0


class TestNotThere:
    def test_no_file(self, records):
        assert (len(records), list(records.heads()), records.read(0, NAME)) == (0, [], None)

    def test_another_name(self, records):
        records.write(0, head(), record(0))
        assert records.read(0, b"m" * 16) is None

    @pytest.mark.parametrize("offset", [0, 20, 55, 56, 3000, 56 + LAYOUT.itemsize - 1])
    def test_any_damaged_byte(self, records, offset):
        records.write(0, head(), record(0))
        records.write(1, head(), record(1))
        damage(records, 0, offset)
        assert records.read(0, NAME) is None
        np.testing.assert_array_equal(records.read(1, NAME), record(1))

    def test_a_record_whose_writing_was_interrupted(self, records, monkeypatch):
        records.write(0, head(), record(0))
        monkeypatch.setattr("anomalib_cxr.data.datasets.record_file._head_bytes", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            records.write(0, head(), record(1))
        assert list(records.heads()) == [None]

    def test_an_end_that_is_missing(self, records):
        for number in range(2):
            records.write(number, head(), record(number))
        with records.path.open("r+b") as file:
            file.truncate(records.record_bytes + 100)
        assert len(records) == 1
        assert records.read(1, NAME) is None
