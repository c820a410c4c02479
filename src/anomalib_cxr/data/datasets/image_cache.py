"""Decoded, resized X-rays and masks, kept in a file so that each is decoded once, not once an epoch.

An X-ray has up to 20 million pixels, and decoding it takes longer than all that a training does with it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
import platformdirs
import pydicom
import torch
import torchvision
from filelock import Timeout
from torchvision.transforms.v2 import Compose, Resize, Transform
from torchvision.tv_tensors import Image, Mask

from anomalib_cxr._version import __version__

from .cache_room import GIGABYTE, SUFFIX, lock_of, make_room, written_or_told
from .record_file import HASH, Head, RecordFile
from .verification import PictureFiles, Pictures, Problem, in_threads, inspect, read_pictures

_MASKS = ("roi_mask", "lesion")
_READ_BY = (__version__, torch.__version__, torchvision.__version__, PIL.__version__, pydicom.__version__)
"""Whatever may change the pixels that are read from a file: a cache of other versions is another one."""


class PictureCache:
    """The pictures of X-rays, resized, bit for bit as they are read from their files.

    One file holds those of a data folder at one size, in records that are found by the names of an X-ray's files. A
    record serves as long as size and time of these files are what they were, or else their content is. Several
    processes may use it, of which one fills it at a time.

    Args:
        root: The data folder.
        resize: What the pictures go through; to a fixed height and width.
        folder: Where caches lie; None for the user's own cache folder.
        gigabytes: Bound on all caches in the folder; those that were not used for longest go first.

    Example:
        >>> from tempfile import mkdtemp
        >>> from anomalib_cxr.data.phantom.files import write_phantoms
        >>> from anomalib_cxr.data.datasets.verification import picture_files
        >>> from anomalib_cxr.data.sources.samples import make_samples
        >>> root = write_phantoms(Path(mkdtemp(), "phantoms"), n_normal=1, n_sick=1, size=64)
        >>> cache = PictureCache(root, Resize((32, 32)), Path(mkdtemp()))
        >>> table = list(picture_files(make_samples(root)))
        >>> cache.fill(table)
        [[], []]
        >>> cache.read(table[0]).image.shape
        torch.Size([1, 32, 32])
    """

    def __init__(self, root: Path, resize: Resize, folder: Path | None = None, gigabytes: float = 20.0) -> None:
        self.resize = resize
        self.gigabytes = gigabytes
        folder = platformdirs.user_cache_path("anomalib_cxr") / "pictures" if folder is None else folder
        height, width = resize.size
        key = _hash(root.resolve(), *_settings(resize), *_READ_BY).hex()
        fields = [("image", "<f4", (height, width)), *((mask, "?", (height, width)) for mask in _MASKS)]
        flags = [(f"has_{mask}", "?") for mask in _MASKS]
        self.path = folder / f"{root.resolve().name}-{height}x{width}-{key}{SUFFIX}"
        self._records = RecordFile(self.path, np.dtype([*fields, *flags]))
        self._known: dict[bytes, tuple[int, Head]] = {}
        self._free: list[int] = []

    def read(self, files: PictureFiles) -> Pictures | None:
        """Return the pictures of an X-ray, or None where they are not there, or damaged."""
        name = _name(files)
        if name not in self._known:
            return None
        record = self._records.read(self._known[name][0], name)
        return None if record is None else _pictures(record)

    def renew(self, files: PictureFiles) -> Pictures:
        """Read the files of an X-ray, and put what they hold in its place, unless it has none or somebody is writing.

        Raises:
            RadiographError: If one cannot be read.
        """
        head = _head(files)
        pictures = read_pictures(files).transformed(self.resize)
        if _name(files) in self._known:
            with suppress(Timeout, OSError), lock_of(self.path, timeout=0):
                self._put(head, self._record(pictures))
        return pictures

    def fill(self, table: Sequence[PictureFiles]) -> list[list[Problem]]:
        """Read what is not there yet from the files of X-rays, several at a time.

        Args:
            table: Files of each X-ray.

        Returns:
            What is wrong with the files of each. Such an X-ray gets no place, and is looked at again the next time;
            those that have one were found to be right.

        Raises:
            SettingError: If the caches would exceed their bound.
            DatasetError: If they cannot be written, or the disk has no room.
        """
        problems: list[list[Problem]] = [[] for _ in table]
        with written_or_told(self.path.parent):
            self._load()
            if any(map(self._is_stale, table)):
                with lock_of(self.path):
                    self._load()  # somebody else may have filled it
                    stale = [number for number, files in enumerate(table) if self._is_stale(files)]
                    stale = [number for number in stale if not self._same(table[number])]
                    make_room(self.path, self._bytes_with([table[number] for number in stale]), self.gigabytes)
                    for number, found in zip(stale, self._read_all([table[number] for number in stale]), strict=True):
                        problems[number] = found
        with suppress(OSError):  # not there, or not ours
            os.utime(self.path)  # used last
        return problems

    def __str__(self) -> str:
        """Tell what is there, of what size, and where."""
        height, width = self.resize.size
        size = self._bytes_with([]) / GIGABYTE
        return f"{len(self._known)} X-rays of {height} x {width} in {size:.3g} GB: {self.path}"

    def _load(self) -> None:
        """Look which records are there."""
        heads = list(self._records.heads())
        self._known = {head.name: (number, head) for number, head in enumerate(heads) if head is not None}
        self._free = [number for number, head in enumerate(heads) if head is None]

    def _is_stale(self, files: PictureFiles) -> bool:
        """Tell whether an X-ray has no record, or files that have been touched since."""
        known = self._known.get(_name(files))
        return known is None or known[1].stamp != _stamp(files)

    def _same(self, files: PictureFiles) -> bool:
        """Tell whether files that were touched hold what they held, and take note of it."""
        known = self._known.get(_name(files))
        if known is None:
            return False
        number, former = known
        head = _head(files)
        if head is None or head.content != former.content:
            return False
        self._records.write_head(number, head)
        self._known[head.name] = number, head
        return True

    def _bytes_with(self, new: Sequence[PictureFiles]) -> int:
        """Return the size that the cache has with the records of further X-rays."""
        added = sum(_name(files) not in self._known for files in new)
        return (len(self._records) + max(0, added - len(self._free))) * self._records.record_bytes

    def _read_all(self, table: Sequence[PictureFiles]) -> Iterator[list[Problem]]:
        """Read the files of X-rays by all cores and keep what they hold; yield what is wrong with each."""
        for problems, head, record in in_threads(self._read, table, "Decoding images"):
            if record is not None:
                self._put(head, record)
            yield problems

    def _read(self, files: PictureFiles) -> tuple[list[Problem], Head | None, npt.NDArray[np.void] | None]:
        head = _head(files)  # before the pictures: what changes in between is out of date at once
        inspected = inspect(files)
        if inspected.pictures is None:
            return inspected.problems, head, None
        return [], head, self._record(inspected.pictures.transformed(self.resize))

    def _record(self, pictures: Pictures) -> npt.NDArray[np.void]:
        record = np.zeros((), self._records.layout)
        record["image"] = pictures.image[0].numpy()
        for name in _MASKS:
            mask = getattr(pictures, name)
            record[f"has_{name}"] = mask is not None
            if mask is not None:
                record[name] = mask.numpy()
        return record

    def _put(self, head: Head | None, record: npt.NDArray[np.void]) -> None:
        """Write a record in the place of its X-ray, or in one that is free; the caller holds the lock."""
        if head is None:
            return
        number, _ = self._known.get(head.name, (None, None))
        if number is None:
            number = self._free.pop() if self._free else len(self._records)
        self._records.write(number, head, record)
        self._known[head.name] = number, head


def after(resize: Resize, augmentations: Transform | None) -> tuple[bool, Transform | None]:
    """Tell whether augmentations begin with a resizing, and return what they do after it.

    Example:
        >>> resize = Resize((64, 64))
        >>> after(resize, resize)
        (True, None)
        >>> after(resize, Compose([torchvision.transforms.v2.RandomRotation(5), resize]))[0]
        False
    """
    steps = augmentations.transforms if isinstance(augmentations, Compose) else [augmentations]
    if not (isinstance(steps[0], Resize) and _settings(steps[0]) == _settings(resize)):
        return False, augmentations
    return True, Compose(steps[1:]) if len(steps) > 1 else None


def _settings(resize: Resize) -> tuple[object, ...]:
    return tuple(resize.size), resize.interpolation, resize.max_size, resize.antialias


def _hash(*parts: object) -> bytes:
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=HASH).digest()


def _paths(files: PictureFiles) -> list[str]:
    return [os.path.abspath(path) for path in (files.image, *files.roi_masks, files.lesion) if path]  # noqa: PTH100  # ten times as fast as Path


def _name(files: PictureFiles) -> bytes:
    return _hash(*_paths(files), bool(files.lesion))


def _stamp(files: PictureFiles) -> bytes | None:
    """Return what size and time of the files are; None where one is missing."""
    try:
        return _hash(*((state.st_size, state.st_mtime_ns) for state in map(os.stat, _paths(files))))
    except OSError:
        return None


def _head(files: PictureFiles) -> Head | None:
    """Return the head of the record of files as they are now; None where one is missing."""
    stamp = _stamp(files)
    try:
        content = _hash(*(hashlib.blake2b(Path(path).read_bytes()).hexdigest() for path in _paths(files)))
    except OSError:
        return None
    return None if stamp is None else Head(_name(files), stamp, content)


def _pictures(record: npt.NDArray[np.void]) -> Pictures:
    masks = (Mask(torch.from_numpy(record[name])) if record[f"has_{name}"] else None for name in _MASKS)
    return Pictures(Image(torch.from_numpy(record["image"])[None]), *masks)
