"""Lung masks that a segmenter predicts for X-rays that have none, as files beside the true ones.

A folder of them belongs to one segmenter, which its record names by the SHA-256 of its file.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from filelock import FileLock
from PIL import Image
from rich.progress import track

from anomalib_cxr import __version__
from anomalib_cxr.errors import DatasetError, RadiographError, SegmenterError
from anomalib_cxr.files import whole_file
from anomalib_cxr.segmentation.lungs import are_plausible, find_lungs
from anomalib_cxr.segmentation.network import LungSegmenter, fastest_device, load_segmenter

from .layouts import find_radiographs
from .radiograph import read_radiograph

logger = logging.getLogger(__name__)

FOLDER = "predicted_masks"
"""Folder of the predicted masks in a root, unless another one is chosen."""
RECORD = "segmenter.json"
REPORT = "no_lungs.csv"
NO_LUNGS = "no plausible lungs found"


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


def predicted_mask(folder: Path | str, image: Path | str) -> Path:
    """Return the place of an X-ray's predicted mask.

    Example:
        >>> predicted_mask("predicted_masks", "CXR_png/CHNCXR_0001_0.dcm").as_posix()
        'predicted_masks/CHNCXR_0001_0.png'
    """
    return Path(folder, f"{Path(image).stem}.png")


def with_predicted_masks(samples: pd.DataFrame, folder: Path | str) -> pd.DataFrame:
    """Give X-rays without a lung mask the predicted one, where there is one; a true mask stays.

    Args:
        samples: A table with the columns `image_path` and `roi_mask_paths` of
            :func:`anomalib_cxr.data.samples.make_samples`.
        folder: Folder of the predicted masks; it need not exist.

    Returns:
        A copy with `roi_mask_paths` completed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> samples = pd.DataFrame({"image_path": ["a.png", "b.png", "c.png"]})
        >>> samples["roi_mask_paths"] = [("true.png",), (), ()]
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("a.png", "b.png"):
        ...         Path(folder, name).touch()
        ...     masks = with_predicted_masks(samples, folder).roi_mask_paths
        >>> [[Path(path).name for path in paths] for paths in masks]
        [['true.png'], ['b.png'], []]
    """
    there = _names(Path(folder))
    masks = [
        (str(predicted_mask(folder, image)),) if not paths and Path(image).stem in there else paths
        for image, paths in zip(samples.image_path, samples.roi_mask_paths, strict=True)
    ]
    completed: pd.DataFrame = samples.assign(roi_mask_paths=pd.Series(masks, index=samples.index, dtype=object))
    changed = int((completed.roi_mask_paths.map(len) > samples.roi_mask_paths.map(len)).sum())
    if changed:
        logger.info("%d of %d lung masks are predicted ones, of %s", changed, len(samples), folder)
    return completed


def predict_masks(images: Sequence[Path | str], folder: Path | str, segmenter: Path | str) -> Prediction:
    """Write a lung mask for each X-ray that the folder has none for, as a PNG of 0 and 255 of the X-ray's own size.

    Each file is written whole or not at all, so that a prediction that was stopped goes on. X-rays without plausible
    lungs get no mask; the folder's `no_lungs.csv` lists them, and they are not tried again while they stand there.
    Several processes may ask for the same folder at once.

    Args:
        images: X-rays in any format of :func:`anomalib_cxr.data.radiograph.read_radiograph`; their names, without
            suffix, must differ. Only those without a true mask belong here.
        folder: Folder of the masks, made where it is missing.
        segmenter: File of a trained segmenter.

    Returns:
        How many masks were written, and the X-rays that have none.

    Raises:
        SegmenterError: If the file is no segmenter, or the folder holds masks of another one.
        DatasetError: If two X-rays have the same name, or the folder cannot be written.
    """
    folder, network, origin = Path(folder), load_segmenter(segmenter), _origin(Path(segmenter))
    _refuse_same_names(images)
    _refuse_other_segmenter(folder, origin)
    if not _missing(images, folder):  # so that a complete folder need not be writable
        return Prediction(0, _reported(images, folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            _refuse_other_segmenter(folder, origin)  # another process may have begun meanwhile
            return _predict_missing(images, folder, network.to(fastest_device()), origin)
    except OSError as error:
        raise DatasetError(
            f"{folder}: cannot be written ({error})",
            "a place for the predicted masks with enough free space and the right to write",
            "choose another folder: --predicted_masks of the command, or data.init_args.predicted_masks",
        ) from error


def predict_for_root(root: Path | str, segmenter: Path | str, folder: Path | str | None = None) -> Prediction:
    """Write a lung mask for each X-ray of a data folder that has none; see :func:`predict_masks`.

    Args:
        root: Folder with the data, in any layout of :mod:`anomalib_cxr.data.layouts`.
        segmenter: File of a trained segmenter.
        folder: Folder of the masks; None for `predicted_masks` in the root.

    Returns:
        How many masks were written, and the X-rays that have none.
    """
    without = [files.image for files in find_radiographs(root) if not files.masks]
    return predict_masks(without, Path(root, FOLDER) if folder is None else folder, segmenter)


def _predict_missing(images: Sequence[Path | str], folder: Path, network: LungSegmenter, origin: str) -> Prediction:
    """Predict what no other process has predicted before this one had the lock."""
    if not (folder / RECORD).exists():
        with whole_file(folder / RECORD) as unfinished:
            unfinished.write_text(json.dumps({"sha256": origin, "anomalib_cxr": __version__}, indent=2) + "\n")
    missing = _missing(images, folder)
    reasons = list(_each(partial(_predict, folder=folder, network=network), missing))
    offenders: dict[str, list[Path]] = defaultdict(list, _reported(images, folder))
    for image, reason in zip(missing, reasons, strict=True):
        if reason is not None:
            offenders[reason].append(image)
    _write_report(folder, offenders.get(NO_LUNGS, []))
    return Prediction(reasons.count(None), dict(offenders))


def _each(predict: Callable[[Path], str | None], images: Sequence[Path]) -> Iterator[str | None]:
    """Predict with all cores; whoever interrupts does not wait for the images that have not begun."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        found = pool.map(predict, images)
        yield from track(found, "Predicting lung masks", total=len(images), transient=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _predict(image: Path, folder: Path, network: LungSegmenter) -> str | None:
    """Write the mask of one X-ray, or return why there is none."""
    try:
        lungs = find_lungs(network, read_radiograph(image))
    except RadiographError as error:
        return error.reason
    if not are_plausible(lungs):
        return NO_LUNGS
    with whole_file(predicted_mask(folder, image)) as unfinished:
        Image.fromarray(lungs).convert("L").save(unfinished)
    return None


def _names(folder: Path) -> set[str]:
    """Return the names of the masks in a folder; files that are not finished are hidden."""
    return {path.stem for path in folder.glob("*.png") if not path.name.startswith(".")}


def _missing(images: Sequence[Path | str], folder: Path) -> list[Path]:
    """Return the X-rays that have neither a mask nor an entry in the report."""
    there = _names(folder) | _read_report(folder).keys()
    return [Path(image) for image in images if Path(image).stem not in there]


def _reported(images: Sequence[Path | str], folder: Path) -> dict[str, list[Path]]:
    """Return those of the X-rays of which the report says that they have no lungs."""
    without = _read_report(folder)
    paths = [Path(image) for image in images if Path(image).stem in without]
    return {NO_LUNGS: paths} if paths else {}


def _read_report(folder: Path) -> dict[str, str]:
    """Return the X-rays without lungs that a folder's report lists: their files by the name without suffix."""
    path = folder / REPORT
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {Path(row["image"]).stem: row["image"] for row in csv.DictReader(file)}


def _write_report(folder: Path, images: Sequence[Path]) -> None:
    """List the X-rays that have no lungs, beside those of other X-rays than were asked for."""
    names = _read_report(folder) | {image.stem: image.name for image in images}
    if names:
        with whole_file(folder / REPORT) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
            rows = [(name, NO_LUNGS) for name in sorted(names.values())]
            csv.writer(file, lineterminator="\n").writerows([("image", "reason"), *rows])


def _origin(segmenter: Path) -> str:
    return hashlib.sha256(segmenter.read_bytes()).hexdigest()


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


def _refuse_other_segmenter(folder: Path, origin: str) -> None:
    """Refuse a folder whose masks are another segmenter's, or nobody's."""
    if not folder.is_dir() or not (_names(folder) or (folder / RECORD).exists()):
        return
    try:
        found = str(json.loads((folder / RECORD).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SegmenterError(
            f"{folder}: masks without {RECORD}, which says whose they are",
            "an empty folder, or one that this segmenter has begun",
            "move these files elsewhere, or choose another folder",
        ) from error
    if found != origin:
        raise SegmenterError(
            f"{folder}: masks of the segmenter of SHA-256 {found[:12]}..., not of {origin[:12]}...",
            "one segmenter for all masks of a folder",
            "use that segmenter, or delete the folder to predict all anew, or choose another folder",
        )
