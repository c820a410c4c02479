"""X-rays whose files are copies of each other, byte for byte."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path

import pandas as pd

from anomalib_cxr.data.reading.file_hashes import hash_content
from anomalib_cxr.errors import DatasetError

_ENDS = 2**16  # bytes of each end of a file that are compared first: headers of DICOM files differ there


def find_copies(samples: pd.DataFrame) -> list[list[str]]:
    """Find X-rays with the same bytes.

    Sizes are compared first, then both ends of the files, and only of those that agree so far the whole content is
    read.

    Args:
        samples: A table with the columns `image_path`, `label_index` and `label`.

    Returns:
        Paths of each set of copies.

    Raises:
        DatasetError: If copies have two labels; names all of them.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     paths = [Path(folder, name) for name in ("a.png", "b.png", "c.png")]
        ...     for path, content in zip(paths, (b"one", b"two", b"one")):
        ...         _ = path.write_bytes(content)
        ...     copies = find_copies(pd.DataFrame({"image_path": map(str, paths), "label_index": 0}))
        >>> [[Path(path).name for path in same] for same in copies]
        [['a.png', 'c.png']]
    """
    groups: Iterable[list[str]] = [list(samples.image_path)]
    for key in (_size, _ends, _content):
        groups = [same for group in groups for same in _alike(group, key)]
    copies = list(groups)
    label = dict(zip(samples.image_path, samples.label_index, strict=True))
    contradicting = [path for same in copies if len({label[path] for path in same}) > 1 for path in same]
    if contradicting:
        raise DatasetError(
            f"{len(contradicting)} X-rays that are copies of each other with two labels",
            "one label for an image",
            "remove the copies with the wrong label",
            {"copies with two labels": contradicting},
        )
    return copies


def join_patients(samples: pd.DataFrame, copies: Iterable[Iterable[str]]) -> pd.Series[str]:
    """Let copies be of the same patient, so that they are in the same split.

    Args:
        samples: A table with the columns `image_path` and `patient`.
        copies: Paths of each set of copies.

    Returns:
        Patient of each X-ray.

    Example:
        >>> samples = pd.DataFrame({"image_path": list("abcd"), "patient": ["1", "1", "2", "3"]})
        >>> join_patients(samples, [["b", "c"]]).tolist()
        ['1', '1', '1', '3']
    """
    patients: pd.Series[str] = samples.patient.copy()
    place = {path: row for row, path in zip(samples.index, samples.image_path, strict=True)}
    for same in copies:
        first, *others = dict.fromkeys(patients[[place[path] for path in same if path in place]])
        if others:
            patients = patients.replace(others, first)
    return patients


def _alike(paths: Iterable[str], key: Callable[[str], Hashable]) -> list[list[str]]:
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return [group for group in groups.values() if len(group) > 1]


def _size(path: str) -> int:
    return Path(path).stat().st_size


def _ends(path: str) -> bytes:
    with Path(path).open("rb") as file:
        start = file.read(_ENDS)
        file.seek(max(0, _size(path) - _ENDS))
        return hashlib.sha256(start + file.read(_ENDS)).digest()


def _content(path: str) -> str:
    return hash_content(Path(path))
