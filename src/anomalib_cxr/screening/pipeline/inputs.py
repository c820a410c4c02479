"""Inputs of a screening: files, folders and DICOMDIRs, and what of them is left out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from anomalib_cxr.data.reading.dicomdir import DICOMDIR, dicomdir_files
from anomalib_cxr.data.reading.discovery import FoundFiles, find_radiographs
from anomalib_cxr.errors import DatasetError
from anomalib_cxr.utils.path_text import path_as_text

_NAMED = 5  # files of a kind that the summary names


def find_inputs(inputs: Sequence[Path]) -> FoundFiles:
    """Find the files to screen.

    Args:
        inputs: Files, folders that are searched with their subfolders, and DICOMDIR files.

    Returns:
        Absolute paths as the user named them, links unresolved, each file once, in the order of the inputs, those of a
        folder sorted; and what was left out of the folders.

    Raises:
        DatasetError: If an input does not exist, or there is nothing to screen.
    """
    missing = [path for path in inputs if not os.path.exists(path)]  # noqa: PTH110  # False in a locked folder
    if missing:
        raise DatasetError("inputs that do not exist", "files or folders", "correct them", {"no such path": missing})
    files: dict[str, Path] = {}  # by the real path
    left_out: dict[str, list[Path]] = {}
    for path in map(_absolute, inputs):
        found = _found_in(path)
        for file in found.files:
            files.setdefault(os.path.realpath(file), file)
        for reason, paths in found.left_out.items():
            left_out.setdefault(reason, []).extend(paths)
    if not files:
        raise DatasetError(
            f"no radiograph in {', '.join(map(path_as_text, inputs))}",
            "PNG, JPEG, TIFF, BMP or DICOM files",
            "correct the inputs",
            left_out,
        )
    return FoundFiles(list(files.values()), left_out)


def _absolute(path: Path) -> Path:
    """Return a path from the root, without `..` where this leaves it the same file."""
    plain = Path(os.path.abspath(path))  # noqa: PTH100  # resolves no links
    try:
        return plain if plain.samefile(path) else path.absolute()
    except OSError:
        return path.absolute()


def _found_in(path: Path) -> FoundFiles:
    if path.is_dir():
        return find_radiographs(path)
    return FoundFiles(dicomdir_files(path) if path.name.upper() == DICOMDIR else [path], {})


def describe_left_out(left_out: Mapping[str, Sequence[Path]]) -> str:
    """Describe what was left out: for each reason the number, and the first names.

    Args:
        left_out: Files and folders by reason.

    Returns:
        A text of a line for each reason and name; empty if nothing was left out.

    Example:
        >>> print(describe_left_out({"link to nothing": [Path("/archive/a.dcm")]}))
        not screened, link to nothing: 1
          /archive/a.dcm
    """
    lines = []
    for reason, paths in left_out.items():
        lines.append(f"not screened, {reason}: {len(paths)}")
        lines += [f"  {path_as_text(path)}" for path in paths[:_NAMED]]
        lines += [f"  and {len(paths) - _NAMED} more"] * (len(paths) > _NAMED)
    return "\n".join(lines)
