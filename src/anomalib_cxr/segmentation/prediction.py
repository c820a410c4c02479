"""Prediction of the lung masks of X-rays that have none."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from PIL import Image

from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.data.sources.layouts import find_radiographs
from anomalib_cxr.data.sources.mask_folder import DEFAULT_FOLDER, NO_LUNGS, REPORT, MaskFolder
from anomalib_cxr.data.sources.nih_files import TABLE, find_images
from anomalib_cxr.errors import DatasetError, RadiographError
from anomalib_cxr.utils.files import atomic_path
from anomalib_cxr.utils.threads import in_threads

from .conversion import CompiledSegmenter
from .network import LungSegmenter, fastest_device, segment_lungs
from .packaged import choose_segmenter
from .postprocessing import is_plausible


class Prediction(NamedTuple):
    """Result of a prediction."""

    written: int
    """Number of masks written by this call."""
    offenders: dict[str, list[Path]]
    """X-rays without a mask, from this or earlier calls, by the reason."""

    def refuse_offenders(self) -> None:
        """Raise an error if X-rays have got no mask.

        Raises:
            DatasetError: If there are any; it lists them all.
        """
        if self.offenders:
            raise DatasetError(
                f"{sum(map(len, self.offenders.values()))} X-rays without a lung mask",
                "frontal X-rays that show both lungs",
                f"inspect them; those without lungs are listed in {REPORT} beside the masks, and are tried again once "
                "their line is deleted",
                self.offenders,
            )


def predict_masks(
    images: Sequence[Path | str],
    folder: Path | str,
    segmenter: Path | str | None = None,
    sixteen_bit_white: int | None = None,
    root: Path | None = None,
) -> Prediction:
    """Predict the lung masks that a folder lacks, and write them as PNG of 0 and 255 in the size of the X-ray.

    Files are written atomically, so that an interrupted prediction can be continued. X-rays without plausible lungs get
    no mask; `no_lungs.csv` in the folder lists them, and they are skipped while they are listed. Several processes may
    share a folder.

    Args:
        images: X-rays in any format of :func:`anomalib_cxr.data.reading.radiograph.read_radiograph`; without
            `root`, their names without suffix must differ. Pass only those without a true mask.
        folder: Folder of the masks; it is created if missing.
        segmenter: File of a trained segmenter; None for that of the package.
        sixteen_bit_white: White of 16-bit images.
        root: As in :class:`anomalib_cxr.data.sources.mask_folder.MaskFolder`.

    Returns:
        Number of masks written, and the X-rays that have none.

    Raises:
        SegmenterError: If the file is not a segmenter, or the folder holds masks of another one.
        DatasetError: If two X-rays have the same name, or the folder cannot be written.
    """
    chosen, masks = choose_segmenter(segmenter), MaskFolder(folder, root)
    _refuse_same_names(images, masks)
    masks.check_segmenter(chosen.file)
    try:
        if masks.missing(images):  # a complete folder need not be writable
            masks.path.mkdir(parents=True, exist_ok=True)
            with FileLock(masks.path / ".lock"):
                masks.record_segmenter(chosen.file)
                return _predict_missing(images, masks, _fastest(chosen.network), sixteen_bit_white)
    except OSError as error:
        raise DatasetError(
            f"{folder}: cannot be written ({error})",
            "a writable folder for the predicted masks, with enough free space",
            "choose another folder: --predicted_masks of the command, or data.init_args.predicted_masks",
        ) from error
    return _result(0, {NO_LUNGS: masks.without_lungs(images)})


def predict_for_root(
    root: Path | str,
    segmenter: Path | str | None = None,
    folder: Path | str | None = None,
    sixteen_bit_white: int | None = None,
) -> Prediction:
    """Predict the lung masks of all X-rays of a data folder that have none; see :func:`predict_masks`.

    Args:
        root: Folder with the data, in any layout of :mod:`anomalib_cxr.data.sources.layouts`, or NIH ChestX-ray14.
        segmenter: File of a trained segmenter; None for that of the package.
        folder: Folder of the masks; None for `predicted_masks` in the root.
        sixteen_bit_white: White of 16-bit images.

    Returns:
        Number of masks written, and the X-rays that have none.

    Raises:
        SegmenterError: If the file is not a segmenter, or the folder holds masks of another one.
        DatasetError: If the data cannot be used, or the folder cannot be written.
    """
    root = Path(root)
    if any(root.glob(TABLE)):
        without = [Path(path) for path in find_images(root)]
    else:
        without = [files.image for files in find_radiographs(root) if not files.masks]
    return predict_masks(without, root / DEFAULT_FOLDER if folder is None else folder, segmenter, sixteen_bit_white)


def _fastest(network: LungSegmenter) -> LungSegmenter:
    device = fastest_device()
    return CompiledSegmenter(network) if device.type == "cpu" else network.to(device)


def _predict_missing(
    images: Sequence[Path | str], masks: MaskFolder, network: LungSegmenter, white: int | None
) -> Prediction:
    """Predict the masks that no other process has predicted before this one got the lock."""
    missing = masks.missing(images)
    reasons = list(
        in_threads(partial(_predict, masks=masks, network=network, white=white), missing, "Predicting lung masks")
    )
    offenders: dict[str, list[Path]] = defaultdict(list, {NO_LUNGS: masks.without_lungs(images)})
    for image, reason in zip(missing, reasons, strict=True):
        if reason is not None:
            offenders[reason].append(image)
    masks.report_without_lungs(offenders[NO_LUNGS])
    return _result(reasons.count(None), offenders)


def _result(written: int, offenders: Mapping[str, list[Path]]) -> Prediction:
    return Prediction(written, {reason: images for reason, images in offenders.items() if images})


def _predict(image: Path, masks: MaskFolder, network: LungSegmenter, white: int | None) -> str | None:
    """Write the mask of one X-ray, or return the reason why there is none."""
    try:
        lungs = segment_lungs(network, read_radiograph(image, white))
    except RadiographError as error:
        return error.reason
    if not is_plausible(lungs):
        return NO_LUNGS
    path = masks.mask_path(image)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        Image.fromarray(lungs).convert("L").save(unfinished)
    return None


def _refuse_same_names(images: Sequence[Path | str], masks: MaskFolder) -> None:
    counts = Counter(map(masks.name_of, images))
    twice = [Path(image) for image in images if counts[masks.name_of(image)] > 1]
    if twice:
        raise DatasetError(
            "X-rays whose predicted masks would have the same name",
            "names that differ in more than the suffix",
            "rename or remove these files",
            {"the same name twice": twice},
        )
