"""Verification of X-rays and their masks before training starts, with one error that lists all offenders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd
import torch

from anomalib_cxr.data.reading.intensities import read_intensities
from anomalib_cxr.data.reading.radiograph import read_mask
from anomalib_cxr.data.reading.verification import FileProblem, OnError, group_by_reason
from anomalib_cxr.errors import DatasetError, RadiographError
from anomalib_cxr.utils.threads import in_threads

logger = logging.getLogger(__name__)


class SamplePaths(NamedTuple):
    """Files of one sample."""

    image: str
    roi_masks: tuple[str, ...] = ()
    """Masks of the lungs, to be merged; empty if there is none."""
    lesion: str = ""
    """Mask of the lesion; an empty string if there is none."""
    sixteen_bit_white: int | None = None
    """White of a 16-bit image, as :func:`anomalib_cxr.data.reading.radiograph.read_radiograph` takes it."""


ReadSize = Callable[[SamplePaths], tuple[int, ...]]


def sample_paths(samples: pd.DataFrame, sixteen_bit_white: int | None = None) -> Iterator[SamplePaths]:
    """Yield the files of each sample.

    Args:
        samples: A table from :func:`anomalib_cxr.data.sources.samples.make_samples`.
        sixteen_bit_white: White of 16-bit images.

    Example:
        >>> table = pd.DataFrame({"image_path": ["a.png"], "roi_mask_paths": [("left.png",)], "mask_path": [""]})
        >>> list(sample_paths(table))
        [SamplePaths(image='a.png', roi_masks=('left.png',), lesion='', sixteen_bit_white=None)]
    """
    for files in zip(samples.image_path, samples.roi_mask_paths, samples.mask_path, strict=True):
        yield SamplePaths(*files, sixteen_bit_white)


def decoded_size(paths: SamplePaths) -> tuple[int, ...]:
    """Return height and width of a sample's image, after decoding all of it."""
    return read_intensities(paths.image, paths.sixteen_bit_white).shape


def _check_files(read_size: ReadSize, paths: SamplePaths) -> list[FileProblem]:
    """Return the problems of a sample whose image is checked by reading its size."""
    try:
        size = read_size(paths)
    except RadiographError as error:
        return [FileProblem(error.reason, paths.image)]
    return check_masks(paths, size)[1]


def check_masks(paths: SamplePaths, size: tuple[int, ...]) -> tuple[list[torch.Tensor | None], list[FileProblem]]:
    """Read the masks of a sample, and check that they can be used with its image.

    Args:
        paths: Files of the sample.
        size: Height and width of the image.

    Returns:
        Lung mask and lesion mask, `(H, W)`, bool; None where a sample has none or it cannot be used. And all problems.
    """
    masks: list[torch.Tensor | None] = [None, None]
    problems = []
    kinds = (("lung mask", paths.roi_masks), ("lesion mask", (paths.lesion,) if paths.lesion else ()))
    for index, (kind, files) in enumerate(kinds):
        try:
            mask = read_mask(*files) if files else None
        except RadiographError as error:
            problems.append(FileProblem(f"{kind}: {error.reason}", error.path))
            continue
        if mask is not None:
            masks[index] = mask
            problems += [FileProblem(f"{kind} {flaw}", files[0]) for flaw in _mask_flaws(mask, size)]
    return masks, problems


def _mask_flaws(mask: torch.Tensor, size: tuple[int, ...]) -> list[str]:
    if tuple(mask.shape) != size:
        return ["of another size than its image"]
    if not mask.any():
        return ["is empty"]
    return ["covers the whole image"] if mask.all() else []


def verify_samples(
    samples: pd.DataFrame,
    on_error: OnError,
    read_size: ReadSize = decoded_size,
    sixteen_bit_white: int | None = None,
) -> pd.DataFrame:
    """Read all images and masks of a table, so that a training does not stop at a broken one after hours.

    Args:
        samples: A table from :func:`anomalib_cxr.data.sources.samples.make_samples`.
        on_error: `raise`, or `skip` to leave the offenders out with a warning.
        read_size: Function that checks an image and returns its height and width.
        sixteen_bit_white: White of 16-bit images.

    Returns:
        The table without the samples that have an unusable file.

    Raises:
        DatasetError: With `raise`; names all offending files by reason.

    Example:
        >>> samples = pd.DataFrame({"image_path": ["missing.png"], "roi_mask_paths": [()], "mask_path": [""]})
        >>> len(verify_samples(samples, "skip"))
        0
    """
    problems = in_threads(
        partial(_check_files, read_size), list(sample_paths(samples, sixteen_bit_white)), "Checking images"
    )
    return drop_unusable(samples, list(problems), on_error)


def drop_unusable(samples: pd.DataFrame, problems: Sequence[list[FileProblem]], on_error: OnError) -> pd.DataFrame:
    """Drop the samples that have problems, or refuse the table.

    Args:
        samples: A samples table.
        problems: Problems of each sample.
        on_error: `raise`, or `skip` to leave the offenders out with a warning.

    Returns:
        The table without the samples that have problems.

    Raises:
        DatasetError: With `raise`; names all offending files by reason.
    """
    if not any(problems):
        return samples
    error = DatasetError(
        f"{sum(map(bool, problems))} of {len(samples)} X-rays with files that cannot be used",
        "images that can be read, and masks of the image's size with some but not all pixels set",
        "repair or remove them, or set data.init_args.on_error to skip to go on without them",
        group_by_reason(problems),
    )
    if on_error == "raise":
        raise error
    logger.warning("Left out: %s", error)
    usable: pd.DataFrame = samples[[not sample_problems for sample_problems in problems]]
    return usable
