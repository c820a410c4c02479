"""A file of numbered records of one size, each with its checksums, that several processes may read and one writes."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

HASH = 16
"""Bytes of the hashes in a record's head."""

_HEAD = np.dtype(
    [(name, f"V{HASH}") for name in ("name", "stamp", "content")] + [("checksum", "<u4"), ("own_checksum", "<u4")]
)
_UNCHECKED = _HEAD.itemsize - 4  # all of the head but its own checksum


class Head(NamedTuple):
    """What a record is of."""

    name: bytes
    """Says which record it is; 16 bytes, as each of them."""
    stamp: bytes
    """Tells cheaply whether what it was made of has been touched since."""
    content: bytes
    """Tells whether what it was made of has changed."""


class RecordFile:
    """Records of one layout in a memory-mapped file; it is made when the first one is written.

    A record counts only when its head has been written, which comes last, and what is read is checked against the sum
    in the head: one that was interrupted, damaged or written while it was read is not there. Pages that were read are
    given back, so that resident memory stays that of one record however large the file is.

    Args:
        path: The file.
        layout: Of a record.

    Example:
        >>> from tempfile import mkdtemp
        >>> records = RecordFile(Path(mkdtemp(), "numbers"), np.dtype([("squares", "<i8", 3)]))
        >>> record = np.zeros((), records.layout)
        >>> record["squares"] = [1, 4, 9]
        >>> records.write(0, Head(b"a" * 16, b"b" * 16, b"c" * 16), record)
        >>> records.read(0, b"a" * 16)["squares"]
        array([1, 4, 9])
        >>> records.read(1, b"a" * 16) is None
        True
    """

    def __init__(self, path: Path, layout: np.dtype[Any]) -> None:
        self.path = path
        self.layout = layout
        pages = -(-(_HEAD.itemsize + layout.itemsize) // mmap.PAGESIZE)
        self.record_bytes = pages * mmap.PAGESIZE
        self._mapped: mmap.mmap | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapping behind: a process that gets a copy maps the file for itself."""
        return {**self.__dict__, "_mapped": None}

    def __len__(self) -> int:
        """Return for how many records there is room, filled or not."""
        try:
            return self.path.stat().st_size // self.record_bytes
        except FileNotFoundError:
            return 0

    def heads(self) -> Iterator[Head | None]:
        """Yield the head of each record, or None where there is none that is whole."""
        for number in range(len(self)):
            raw = self._bytes(number, _HEAD.itemsize)
            yield None if raw is None else _read_head(raw)

    def read(self, number: int, name: bytes) -> npt.NDArray[np.void] | None:
        """Return a copy of a record, an array `()` of the layout; None where it is not whole, or of another name."""
        raw = self._bytes(number, _HEAD.itemsize + self.layout.itemsize)
        head = None if raw is None else _read_head(raw)
        if raw is None or head is None or head.name != name:
            return None
        body = raw[_HEAD.itemsize :]
        return body.view(self.layout).reshape(()) if zlib.crc32(body.data) == _fields(raw)["checksum"] else None

    def write(self, number: int, head: Head, record: npt.NDArray[np.void]) -> None:
        """Write a record; the caller sees to it that nobody else writes.

        Raises:
            OSError: If there is no room, or no permission.
        """
        body = record.tobytes()
        self.path.touch(0o600)  # X-rays of patients: for their user only
        with self.path.open("r+b", buffering=0) as file:
            file.truncate(max(file.seek(0, os.SEEK_END), (number + 1) * self.record_bytes))
            _put(file, number * self.record_bytes, bytes(_HEAD.itemsize) + body)
            _put(file, number * self.record_bytes, _head_bytes(head, zlib.crc32(body)))

    def write_head(self, number: int, head: Head) -> None:
        """Give a record that is whole another head."""
        raw = self._bytes(number, _HEAD.itemsize)
        if raw is not None:
            with self.path.open("r+b", buffering=0) as file:
                _put(file, number * self.record_bytes, _head_bytes(head, int(_fields(raw)["checksum"])))

    def _bytes(self, number: int, count: int) -> npt.NDArray[np.uint8] | None:
        """Return a copy of the first bytes of a record, or None where the file ends before."""
        start = number * self.record_bytes
        if self._mapped is None or start + count > len(self._mapped):
            self._mapped = self._map()
        if self._mapped is None or start + count > len(self._mapped):
            return None
        copy: npt.NDArray[np.uint8] = np.frombuffer(self._mapped, np.uint8, count, start).copy()
        if hasattr(mmap, "MADV_DONTNEED"):  # not on every system
            self._mapped.madvise(mmap.MADV_DONTNEED, start, count)
        return copy

    def _map(self) -> mmap.mmap | None:
        """Map the file as long as it is now; it may have grown, or be gone."""
        try:
            with self.path.open("rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (FileNotFoundError, ValueError):  # the latter of an empty file
            return None


def _fields(raw: npt.NDArray[np.uint8]) -> np.void:
    fields: np.void = raw[: _HEAD.itemsize].view(_HEAD)[0]
    return fields


def _read_head(raw: npt.NDArray[np.uint8]) -> Head | None:
    """Return the head, if its own checksum holds."""
    fields = _fields(raw)
    whole = zlib.crc32(raw[:_UNCHECKED].data) == fields["own_checksum"]
    return Head(*(fields[name].tobytes() for name in Head._fields)) if whole else None


def _head_bytes(head: Head, checksum: int) -> bytes:
    fields = np.zeros((), _HEAD)
    for name, value in zip(Head._fields, head, strict=True):
        fields[name] = value
    fields["checksum"] = checksum
    fields["own_checksum"] = zlib.crc32(fields.tobytes()[:_UNCHECKED])
    return fields.tobytes()


def _put(file: FileIO, start: int, data: bytes) -> None:
    file.seek(start)
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
