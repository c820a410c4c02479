"""Cache of decoded, resized radiographs and masks: one array file for each sample.

A radiograph has up to 20 million pixels, and decoding it takes longer than a training step. The cache follows MONAI's
`PersistentDataset`: the file name is a hash of everything that determines the pixels, so nothing has to be invalidated.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import PIL
import platformdirs
import pydicom
import torch
import torchvision
from filelock import FileLock
from torchvision.transforms.v2 import Compose, Resize, Transform
from torchvision.tv_tensors import Image, Mask

from anomalib_cxr._version import __version__
from anomalib_cxr.data.reading.verification import FileProblem
from anomalib_cxr.errors import DatasetError, SettingError
from anomalib_cxr.utils.files import atomic_path
from anomalib_cxr.utils.threads import in_threads

from .sample_tensors import SampleTensors, check_sample, read_sample
from .verification import SamplePaths

_GIGABYTE = 10**9
_SUFFIX = ".decoded.npz"  # of this package alone: other files in the folder are never deleted
_HEADERS = 1_000  # bytes of an array file besides its pixels, at most
_VERSIONS = (__version__, torch.__version__, torchvision.__version__, PIL.__version__, pydicom.__version__)
"""Versions of all that may change the pixels read from a file."""


class ImageCache:
    """Images and masks of samples after resizing, bit for bit as they are read from their files.

    The name of an array file is a hash of the sample's paths, the sizes and modification times of its files, the white
    of 16-bit images, the resizing, and the versions of the libraries that read them. Array files are written atomically
    and their checksums are verified when they are read. Several processes may use a cache; one of them fills it at a
    time.

    Args:
        root: Data folder; its name becomes part of the cache's folder name.
        resize: Resizing to a fixed height and width.
        folder: Folder of all caches; None for the user's cache folder.
        gigabytes: Bound on all array files in `folder`; the least recently used ones are deleted first.

    Example:
        >>> from tempfile import mkdtemp
        >>> from anomalib_cxr.data.phantom.files import write_phantoms
        >>> from anomalib_cxr.data.datasets.verification import sample_paths
        >>> from anomalib_cxr.data.sources.samples import make_samples
        >>> root = write_phantoms(Path(mkdtemp(), "phantoms"), n_normal=1, n_sick=1, size=64)
        >>> cache = ImageCache(root, Resize((32, 32)), Path(mkdtemp()))
        >>> table = list(sample_paths(make_samples(root)))
        >>> cache.fill(table)
        [[], []]
        >>> cache.read(table[0]).image.shape
        torch.Size([1, 32, 32])
    """

    def __init__(self, root: Path, resize: Resize, folder: Path | None = None, gigabytes: float = 20.0) -> None:
        self.resize = resize
        self.gigabytes = gigabytes
        self.folder = platformdirs.user_cache_path("anomalib_cxr") / "images" if folder is None else folder
        height, width = resize.size
        self.directory = self.folder / f"{root.resolve().name}-{height}x{width}"
        self._fixed_key = (*_resize_settings(resize), *_VERSIONS)

    def read(self, paths: SamplePaths) -> SampleTensors:
        """Return image and masks after resizing, from the cache or else from the sample's files.

        A damaged array file is written anew. A missing one is not: only :meth:`fill` observes the bound.

        Args:
            paths: Files of the sample.

        Returns:
            Image `(1, H, W)` and masks `(H, W)`.

        Raises:
            RadiographError: If the sample is not in the cache and one of its files cannot be read.
        """
        array_file = self._array_file(paths)
        try:
            return _load(array_file)
        except FileNotFoundError:
            return read_sample(paths).transformed(self.resize)
        except Exception:  # noqa: BLE001  # NumPy does not document its errors for damaged files
            tensors = read_sample(paths).transformed(self.resize)
            with suppress(OSError):
                _save(array_file, tensors)
            return tensors

    def fill(self, table: Sequence[SamplePaths]) -> list[list[FileProblem]]:
        """Check and decode the samples that the cache lacks, on all cores.

        Args:
            table: Files of each sample.

        Returns:
            Problems of each sample. One with problems is not cached, so that each call reports them.

        Raises:
            SettingError: If the table needs more than `gigabytes`.
            DatasetError: If the cache cannot be written.
        """
        try:
            return self._fill(table)
        except OSError as error:
            raise DatasetError(
                f"a cache that cannot be written: {error.strerror or error}: {error.filename or self.directory}",
                "a folder with room and permission to write",
                "choose another data.init_args.cache_folder, or set data.init_args.cache to false",
            ) from error

    def _fill(self, table: Sequence[SamplePaths]) -> list[list[FileProblem]]:
        problems: list[list[FileProblem]] = [[] for _ in table]
        if self._missing(table):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # images of patients: for their user only
            with FileLock(self.directory / ".lock"):
                missing = self._missing(table)  # another process may have filled it meanwhile
                self._make_room(table, [table[row] for row in missing])
                results = in_threads(self._add, [table[row] for row in missing], "Decoding images")
                for row, result in zip(missing, results, strict=True):
                    problems[row] = result
        for paths in table:
            with suppress(OSError):
                os.utime(self._array_file(paths))  # marks it as used
        return problems

    def _array_file(self, paths: SamplePaths) -> Path:
        files = [os.path.abspath(path) if path else "" for path in (paths.image, *paths.roi_masks, paths.lesion)]  # noqa: PTH100  # ten times as fast as Path
        key = repr((files, [_file_state(path) for path in files], paths.sixteen_bit_white, self._fixed_key))
        return self.directory / f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}{_SUFFIX}"

    def _missing(self, table: Sequence[SamplePaths]) -> list[int]:
        return [row for row, paths in enumerate(table) if not self._array_file(paths).exists()]

    def _add(self, paths: SamplePaths) -> list[FileProblem]:
        """Check a sample and write its array file."""
        array_file = self._array_file(paths)  # before reading: a file that changes meanwhile is stale at once
        tensors, problems = check_sample(paths)
        if tensors is not None:
            _save(array_file, tensors.transformed(self.resize))
        return problems

    def _make_room(self, table: Sequence[SamplePaths], missing: Sequence[SamplePaths]) -> None:
        """Delete the array files of other tables that were not used for longest, until the missing ones fit."""
        height, width = self.resize.size
        bytes_per_pixel = (4 + bool(paths.roi_masks) + bool(paths.lesion) for paths in missing)
        wanted = sum(height * width * count + _HEADERS for count in bytes_per_pixel)
        others = {}
        for path in self.folder.rglob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):  # deleted by another process
                others[path] = path.stat()
        wanted += sum(others.pop(path).st_size for path in map(self._array_file, table) if path in others)
        if wanted > self.gigabytes * _GIGABYTE:
            raise SettingError(
                f"a cache of {wanted / _GIGABYTE:.3g} GB",
                f"at most cache_gigabytes = {self.gigabytes:g}",
                "raise data.init_args.cache_gigabytes, or set data.init_args.cache to false to read the files in each "
                "epoch",
            )
        total = wanted + sum(state.st_size for state in others.values())
        for path, state in sorted(others.items(), key=lambda item: item[1].st_mtime):
            if total > self.gigabytes * _GIGABYTE:
                path.unlink(missing_ok=True)
                total -= state.st_size


def split_off_resize(resize: Resize, augmentations: Transform | None) -> tuple[bool, Transform | None]:
    """Split the cached resizing off the beginning of augmentations.

    Args:
        resize: Resizing of the cache.
        augmentations: Transform of a stage; None for none.

    Returns:
        True and the remaining steps if `augmentations` begins with `resize`, else False and `augmentations`.

    Example:
        >>> resize = Resize((64, 64))
        >>> split_off_resize(resize, resize)
        (True, None)
        >>> split_off_resize(resize, Compose([torchvision.transforms.v2.RandomRotation(5), resize]))[0]
        False
    """
    steps = augmentations.transforms if isinstance(augmentations, Compose) else [augmentations]
    if not (isinstance(steps[0], Resize) and _resize_settings(steps[0]) == _resize_settings(resize)):
        return False, augmentations
    return True, Compose(steps[1:]) if len(steps) > 1 else None


def _resize_settings(resize: Resize) -> tuple[object, ...]:
    return tuple(resize.size), str(resize.interpolation), resize.max_size, resize.antialias


def _file_state(path: str) -> tuple[int, int] | None:
    """Return size and modification time of a file, None if there is none."""
    try:
        state = os.stat(path)  # noqa: PTH116  # called for each image of each epoch
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _load(path: Path) -> SampleTensors:
    with np.load(path) as arrays:  # verifies the checksum of each array
        masks = (Mask(torch.from_numpy(arrays[name])) if name in arrays else None for name in ("roi_mask", "lesion"))
        return SampleTensors(Image(torch.from_numpy(arrays["image"])), *masks)


def _save(path: Path, tensors: SampleTensors) -> None:
    arrays = {name: tensor.numpy() for name, tensor in tensors._asdict().items() if tensor is not None}
    with atomic_path(path) as unfinished:
        np.savez(unfinished, **arrays)
