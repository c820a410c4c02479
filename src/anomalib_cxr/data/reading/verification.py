"""Verification of X-rays before prediction or calibration starts, with one error that lists all offenders."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from anomalib_cxr.errors import DatasetError, RadiographError
from anomalib_cxr.utils.threads import in_threads

from .intensities import read_intensities

logger = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]


class FileProblem(NamedTuple):
    """Reason why a file cannot be used."""

    reason: str
    path: Path | str


def group_by_reason(problems: Iterable[list[FileProblem]]) -> dict[str, list[Path | str]]:
    """Group the problems of files by their reasons.

    Args:
        problems: Problems of each sample.

    Returns:
        The files, by reason.

    Example:
        >>> group_by_reason([[FileProblem("empty file (0 bytes)", "a.png")], []])["empty file (0 bytes)"]
        ['a.png']
    """
    offenders: dict[str, list[Path | str]] = defaultdict(list)
    for problem in chain.from_iterable(problems):
        offenders[problem.reason].append(problem.path)
    return offenders


def verify_radiographs(
    paths: Sequence[Path], sixteen_bit_white: int | None = None, on_error: OnError = "raise"
) -> dict[str, list[Path]]:
    """Read all radiographs, so that a prediction does not stop at a broken one after hours.

    Args:
        paths: Files of the radiographs.
        sixteen_bit_white: White of 16-bit images.
        on_error: `raise`, or `skip` to return the offenders, with a warning of their number.

    Returns:
        The files that cannot be read as frontal radiographs, by reason.

    Raises:
        DatasetError: If there are such files, with `raise`; if there are no others, with `skip`. It names all of them.

    Example:
        >>> verify_radiographs([Path("missing.png")])
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.DatasetError: found: 1 of 1 files that are no frontal radiograph
            cannot be opened: No such file or directory (1):
              missing.png
          expected: ...
    """
    check = partial(_check, sixteen_bit_white=sixteen_bit_white)
    grouped = group_by_reason(in_threads(check, paths, "Checking images"))
    offenders = {reason: [Path(path) for path in files] for reason, files in grouped.items()}
    count = sum(map(len, offenders.values()))
    if count and (on_error == "raise" or count == len(paths)):
        raise DatasetError(
            f"{count} of {len(paths)} files that are no frontal radiograph",
            "PNG, JPEG, TIFF, BMP or DICOM files of one frontal radiograph each",
            "repair these files, or move them elsewhere; `anomalib predict` can leave them out, with "
            "data.init_args.on_error: skip",
            offenders,
        )
    if count:
        reasons = "; ".join(f"{reason} ({len(files)})" for reason, files in offenders.items())
        logger.warning("%d of %d files are no frontal radiographs, and left out: %s", count, len(paths), reasons)
    return offenders


def _check(path: Path, sixteen_bit_white: int | None) -> list[FileProblem]:
    """Return the problem of a file, after decoding all of it; an empty list if there is none."""
    try:
        read_intensities(path, sixteen_bit_white)
    except RadiographError as error:
        return [FileProblem(error.reason, path)]
    return []
