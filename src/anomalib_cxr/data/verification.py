"""Reading every file once before training starts, and naming all that cannot be used."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, get_args

import pandas as pd
from rich.progress import track

from anomalib_cxr.errors import DatasetError, RadiographError

from .radiograph import read_mask, read_radiograph

logger = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]
ON_ERROR: tuple[str, ...] = get_args(OnError)


def _problems(image_path: str, roi_mask_paths: tuple[str, ...], mask_path: str) -> list[tuple[str, str]]:
    """Return what is wrong with one X-ray's files, as pairs of reason and path."""
    try:
        size = tuple(read_radiograph(image_path).shape[-2:])
    except RadiographError as error:
        return [(error.reason, image_path)]
    problems = []
    for kind, paths in (("lung mask", roi_mask_paths), ("lesion mask", (mask_path,) if mask_path else ())):
        if not paths:
            continue
        try:
            mask = read_mask(*paths)
        except RadiographError as error:
            problems.append((f"{kind}: {error.reason}", str(error.path)))
            continue
        if tuple(mask.shape) != size:
            problems.append((f"{kind} of another size than its image", paths[0]))
        elif not mask.any():
            problems.append((f"{kind} is empty", paths[0]))
        elif mask.all():
            problems.append((f"{kind} covers the whole image", paths[0]))
    return problems


def verify_samples(samples: pd.DataFrame, on_error: OnError) -> pd.DataFrame:
    """Read all images and masks of a table, so that a training does not stop at a broken one after hours.

    Args:
        samples: A table from :func:`anomalib_cxr.data.samples.make_samples`.
        on_error: `raise`, or `skip` to leave the offenders out with a warning.

    Returns:
        The table, without the X-rays that have a broken file.

    Raises:
        DatasetError: With `raise`, naming all offending files by what is wrong with them.
    """
    columns = (samples.image_path, samples.roi_mask_paths, samples.mask_path)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(_problems, *columns)
        problems = list(track(results, "Checking images", total=len(samples), transient=True))
    offenders: dict[str, list[str]] = defaultdict(list)
    for reason, path in (problem for found in problems for problem in found):
        offenders[reason].append(path)
    if not offenders:
        return samples
    error = DatasetError(
        f"{sum(map(bool, problems))} of {len(samples)} X-rays with files that cannot be used",
        "images that can be read, and masks of the image's size with some but not all pixels set",
        "repair or remove them, or set data.init_args.on_error to skip to go on without them",
        offenders,
    )
    if on_error == "raise":
        raise error
    logger.warning("Left out: %s", error)
    return samples[[not found for found in problems]]
