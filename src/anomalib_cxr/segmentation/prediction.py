"""Lung masks that a segmenter predicts for X-rays that have none, as files beside the true ones."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from PIL import Image
from rich.progress import track

from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.data.sources.layouts import find_radiographs
from anomalib_cxr.data.sources.mask_folder import DEFAULT_FOLDER, NO_LUNGS, REPORT, MaskFolder
from anomalib_cxr.data.sources.nih_files import TABLE, find_images
from anomalib_cxr.errors import DatasetError, RadiographError
from anomalib_cxr.utils.files import atomic_path

from .network import LungSegmenter, fastest_device, load_segmenter
from .postprocessing import is_plausible, segment_lungs


class Prediction(NamedTuple):
    """What came of a prediction."""

    written: int
    """Masks that were written this time."""
    offenders: dict[str, list[Path]]
    """X-rays that have got no mask, now or before, by the reason."""

    def refuse_offenders(self) -> None:
        """Refuse to pass over X-rays without a mask.

        Raises:
            DatasetError: If there are any; names them all.
        """
        if self.offenders:
            raise DatasetError(
                f"{sum(map(len, self.offenders.values()))} X-rays that got no lung mask",
                "frontal X-rays with both lungs in sight",
                f"look at them; those without lungs stand in {REPORT} beside the masks, and are tried again once their "
                "line is deleted",
                self.offenders,
            )


def predict_masks(images: Sequence[Path | str], folder: Path | str, segmenter: Path | str) -> Prediction:
    """Write a lung mask for each X-ray that the folder has none for, as a PNG of 0 and 255 of the X-ray's own size.

    Each file is written whole or not at all, so that a prediction that was stopped goes on. X-rays without plausible
    lungs get no mask; the folder's `no_lungs.csv` lists them, and they are not tried again while they stand there.
    Several processes may ask for the same folder at once.

    Args:
        images: X-rays in any format of :func:`anomalib_cxr.data.reading.radiograph.read_radiograph`; their names,
            without suffix, must differ. Only those without a true mask belong here.
        folder: Folder of the masks, made where it is missing.
        segmenter: File of a trained segmenter.

    Returns:
        How many masks were written, and the X-rays that have none.

    Raises:
        SegmenterError: If the file is no segmenter, or the folder holds masks of another one.
        DatasetError: If two X-rays have the same name, or the folder cannot be written.
    """
    network, masks = load_segmenter(segmenter), MaskFolder(folder)
    _refuse_same_names(images)
    masks.check_segmenter(Path(segmenter))
    try:
        if masks.missing(images):  # a complete folder need not be writable
            masks.path.mkdir(parents=True, exist_ok=True)
            with FileLock(masks.path / ".lock"):
                masks.record_segmenter(Path(segmenter))
                return _predict_missing(images, masks, network.to(fastest_device()))
    except OSError as error:
        raise DatasetError(
            f"{folder}: cannot be written ({error})",
            "a place for the predicted masks with enough free space and the right to write",
            "choose another folder: --predicted_masks of the command, or data.init_args.predicted_masks",
        ) from error
    return _told(0, {NO_LUNGS: masks.without_lungs(images)})


def predict_for_root(root: Path | str, segmenter: Path | str, folder: Path | str | None = None) -> Prediction:
    """Write a lung mask for each X-ray of a data folder that has none; see :func:`predict_masks`.

    Args:
        root: Folder with the data, in any layout of :mod:`anomalib_cxr.data.sources.layouts`, or NIH ChestX-ray14.
        segmenter: File of a trained segmenter.
        folder: Folder of the masks; None for `predicted_masks` in the root.

    Returns:
        How many masks were written, and the X-rays that have none.

    Raises:
        SegmenterError: If the file is no segmenter, or the folder holds masks of another one.
        DatasetError: If the data cannot be used, or the folder cannot be written.
    """
    root = Path(root)
    if any(root.glob(TABLE)):
        without = [Path(path) for path in find_images(root)]
    else:
        without = [files.image for files in find_radiographs(root) if not files.masks]
    return predict_masks(without, root / DEFAULT_FOLDER if folder is None else folder, segmenter)


def _predict_missing(images: Sequence[Path | str], masks: MaskFolder, network: LungSegmenter) -> Prediction:
    """Predict what no other process has predicted before this one had the lock."""
    missing = masks.missing(images)
    reasons = list(_each(partial(_predict, masks=masks, network=network), missing))
    offenders: dict[str, list[Path]] = defaultdict(list, {NO_LUNGS: masks.without_lungs(images)})
    for image, reason in zip(missing, reasons, strict=True):
        if reason is not None:
            offenders[reason].append(image)
    masks.report_without_lungs(offenders[NO_LUNGS])
    return _told(reasons.count(None), offenders)


def _told(written: int, offenders: Mapping[str, list[Path]]) -> Prediction:
    return Prediction(written, {reason: images for reason, images in offenders.items() if images})


def _each(predict: Callable[[Path], str | None], images: Sequence[Path]) -> Iterator[str | None]:
    """Predict with all cores; whoever interrupts does not wait for the images that have not begun."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        found = pool.map(predict, images)
        yield from track(found, "Predicting lung masks", total=len(images), transient=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _predict(image: Path, masks: MaskFolder, network: LungSegmenter) -> str | None:
    """Write the mask of one X-ray, or return why there is none."""
    try:
        lungs = segment_lungs(network, read_radiograph(image))
    except RadiographError as error:
        return error.reason
    if not is_plausible(lungs):
        return NO_LUNGS
    with atomic_path(masks.mask_path(image)) as unfinished:
        Image.fromarray(lungs).convert("L").save(unfinished)
    return None


def _refuse_same_names(images: Sequence[Path | str]) -> None:
    counts = Counter(Path(image).stem for image in images)
    twice = [Path(image) for image in images if counts[Path(image).stem] > 1]
    if twice:
        raise DatasetError(
            "X-rays whose predicted masks would have the same name",
            "names that differ in more than the suffix",
            "rename or remove these files",
            {"the same name twice": twice},
        )
