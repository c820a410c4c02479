"""Reading every file once before training or prediction starts, and naming all that cannot be used."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, get_args

import pandas as pd
from rich.progress import track
from torchvision.transforms.v2 import Transform
from torchvision.tv_tensors import Image, Mask

from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.errors import DatasetError, RadiographError

logger = logging.getLogger(__name__)


class PictureFiles(NamedTuple):
    """The files of one X-ray."""

    image: str
    roi_masks: tuple[str, ...] = ()
    """Masks of the lungs, to be merged; none where there is no mask."""
    lesion: str = ""
    """Mask of the lesion; empty where there is none."""


class Pictures(NamedTuple):
    """The pictures of one X-ray."""

    image: Image
    """Intensities in [0, 1], `(1, H, W)`, float32."""
    roi_mask: Mask | None = None
    """Lungs, `(H, W)`, bool."""
    lesion: Mask | None = None
    """Lesion, `(H, W)`, bool."""

    def transformed(self, transform: Transform | None) -> Pictures:
        """Return them after a transform that moves all of them alike."""
        return self if transform is None else Pictures(*transform(*self))


def picture_files(samples: pd.DataFrame) -> Iterator[PictureFiles]:
    """Yield the files of each X-ray of a table from :func:`anomalib_cxr.data.sources.samples.make_samples`.

    Example:
        >>> table = pd.DataFrame({"image_path": ["a.png"], "roi_mask_paths": [("left.png",)], "mask_path": [""]})
        >>> list(picture_files(table))
        [PictureFiles(image='a.png', roi_masks=('left.png',), lesion='')]
    """
    yield from map(PictureFiles, samples.image_path, samples.roi_mask_paths, samples.mask_path)


def read_pictures(files: PictureFiles) -> Pictures:
    """Read the files of one X-ray.

    Raises:
        RadiographError: If one cannot be read.
    """
    return Pictures(
        Image(read_radiograph(files.image)),
        Mask(read_mask(*files.roi_masks)) if files.roi_masks else None,
        Mask(read_mask(files.lesion)) if files.lesion else None,
    )


OnError = Literal["raise", "skip"]
ON_ERROR: tuple[str, ...] = get_args(OnError)
T = TypeVar("T")
SizeOf = Callable[[Path | str], tuple[int, ...]]


class Problem(NamedTuple):
    """What is wrong with a file."""

    reason: str
    path: Path | str


class Inspected(NamedTuple):
    """What came of reading the files of one X-ray."""

    problems: list[Problem]
    pictures: Pictures | None
    """None where there is a problem."""


def _read_mask(kind: str, paths: Sequence[str], size: tuple[int, ...]) -> Mask | Problem:
    """Read a mask, which may be spread over several files, or say what is wrong with it."""
    try:
        mask = read_mask(*paths)
    except RadiographError as error:
        return Problem(f"{kind}: {error.reason}", error.path)
    if tuple(mask.shape) != size:
        return Problem(f"{kind} of another size than its image", paths[0])
    if not mask.any():
        return Problem(f"{kind} is empty", paths[0])
    if mask.all():
        return Problem(f"{kind} covers the whole image", paths[0])
    return Mask(mask)


def _read_masks(files: PictureFiles, size: tuple[int, ...]) -> tuple[Mask | Problem | None, Mask | Problem | None]:
    """Read the masks that an X-ray has: of the lungs, and of the lesion."""
    lungs = _read_mask("lung mask", files.roi_masks, size) if files.roi_masks else None
    return lungs, _read_mask("lesion mask", (files.lesion,), size) if files.lesion else None


def decoded_size(path: Path | str) -> tuple[int, ...]:
    """Return height and width of a radiograph that can be decoded as a whole."""
    return tuple(read_radiograph(path).shape[-2:])


def _problems(size_of: SizeOf, files: PictureFiles) -> list[Problem]:
    """Return what is wrong with one X-ray's files."""
    try:
        size = size_of(files.image)
    except RadiographError as error:
        return [Problem(error.reason, files.image)]
    return [found for found in _read_masks(files, size) if isinstance(found, Problem)]


def inspect(files: PictureFiles) -> Inspected:
    """Read the files of one X-ray, and look whether they can be used together."""
    try:
        image = read_radiograph(files.image)
    except RadiographError as error:
        return Inspected([Problem(error.reason, files.image)], None)
    roi_mask, lesion = _read_masks(files, tuple(image.shape[-2:]))
    problems = [found for found in (roi_mask, lesion) if isinstance(found, Problem)]
    if isinstance(roi_mask, Problem) or isinstance(lesion, Problem):
        return Inspected(problems, None)
    return Inspected([], Pictures(Image(image), roi_mask, lesion))


def in_threads(job: Callable[[PictureFiles], T], table: Sequence[PictureFiles], doing: str) -> Iterator[T]:
    """Do a job for each X-ray of a table on all cores, and yield what comes of it in the table's order.

    Args:
        job: The job, such as decoding, which leaves Python's lock to others.
        table: Files of each X-ray.
        doing: What the progress bar calls it.
    """
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from track(pool.map(job, table), doing, total=len(table), transient=True)
    finally:
        pool.shutdown(cancel_futures=True)  # who interrupts does not want to wait for all


def _inspect(table: Sequence[PictureFiles], size_of: SizeOf = decoded_size) -> list[list[Problem]]:
    """Return the problems of each X-ray, in the order of the table."""
    return list(in_threads(partial(_problems, size_of), table, "Checking images"))


def _by_reason(problems: Iterable[list[Problem]]) -> dict[str, list[Path | str]]:
    offenders: dict[str, list[Path | str]] = defaultdict(list)
    for found in problems:
        for problem in found:
            offenders[problem.reason].append(problem.path)
    return offenders


def verify_radiographs(paths: Sequence[Path]) -> None:
    """Read all X-rays, so that a prediction does not stop at a broken one after hours.

    Args:
        paths: The files.

    Raises:
        DatasetError: If some cannot be read as frontal radiographs; names all of them by what is wrong.

    Example:
        >>> verify_radiographs([Path("missing.png")])
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.DatasetError: found: 1 of 1 files that are no frontal radiograph
            cannot be opened: No such file or directory (1):
              missing.png
          expected: ...
    """
    offenders = _by_reason(_inspect([PictureFiles(str(path)) for path in paths]))
    if offenders:
        raise DatasetError(
            f"{sum(map(len, offenders.values()))} of {len(paths)} files that are no frontal radiograph",
            "PNG, JPEG, TIFF, BMP or DICOM files of one frontal radiograph each",
            "repair these files, or move them elsewhere",
            offenders,
        )


def verify_samples(samples: pd.DataFrame, on_error: OnError, size_of: SizeOf = decoded_size) -> pd.DataFrame:
    """Read all images and masks of a table, so that a training does not stop at a broken one after hours.

    Args:
        samples: A table from :func:`anomalib_cxr.data.sources.samples.make_samples`.
        on_error: `raise`, or `skip` to leave the offenders out with a warning.
        size_of: Reads an image as far as it is to be checked, and returns its height and width.

    Returns:
        The table, without the X-rays that have a broken file.

    Raises:
        DatasetError: With `raise`, naming all offending files by what is wrong with them.

    Example:
        >>> samples = pd.DataFrame({"image_path": ["missing.png"], "roi_mask_paths": [()], "mask_path": [""]})
        >>> len(verify_samples(samples, "skip"))
        0
    """
    return leave_out(samples, _inspect(list(picture_files(samples)), size_of), on_error)


def leave_out(samples: pd.DataFrame, problems: Sequence[list[Problem]], on_error: OnError) -> pd.DataFrame:
    """Return a table without the X-rays that something is wrong with, or refuse it.

    Args:
        samples: The table.
        problems: What is wrong with each of its X-rays.
        on_error: As of :func:`verify_samples`, which raises the same.
    """
    if not any(problems):
        return samples
    error = DatasetError(
        f"{sum(map(bool, problems))} of {len(samples)} X-rays with files that cannot be used",
        "images that can be read, and masks of the image's size with some but not all pixels set",
        "repair or remove them, or set data.init_args.on_error to skip to go on without them",
        _by_reason(problems),
    )
    if on_error == "raise":
        raise error
    logger.warning("Left out: %s", error)
    usable: pd.DataFrame = samples[[not found for found in problems]]
    return usable
