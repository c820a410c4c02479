"""Samples table: one row for each X-ray, with the columns of :class:`SampleRow`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import pandas as pd
from anomalib import TaskType

from anomalib_cxr.data.reading.metadata import ClinicalReading, read_clinical_reading
from anomalib_cxr.errors import DatasetError

from .kaggle_readings import read_kaggle_readings
from .layouts import RadiographFiles, find_radiographs
from .mask_folder import MaskFolder

logger = logging.getLogger(__name__)


class SampleRow(TypedDict):
    """Columns of a samples table; NIH ChestX-ray14 has `patient` and `view` (`PA`, `AP`) in addition.

    Attributes:
        image_path: Path of the X-ray.
        label: `normal` or `abnormal`.
        label_index: 0 for `normal`, 1 for `abnormal`.
        mask_path: Path of the lesion mask, empty if there is none; as everywhere in anomalib, the ANOMALY's mask.
        roi_mask_paths: Paths of the lung masks to be merged; empty if there is none.
        source: Hospital: `montgomery`, `shenzhen` or `nih`; `phantom` for phantoms.
        age: Age in years; missing if it is not known.
        sex: `M` or `F`; missing if it is not known.
        reading: Findings of the radiologist; missing if there are none.
        split: `train`, `val`, `test` or `unused`; `unused` until splits are assigned.
    """

    image_path: str
    label: str
    label_index: int
    mask_path: str
    roi_mask_paths: tuple[str, ...]
    source: str
    age: float | None
    sex: str | None
    reading: str | None
    split: str


def _make_row(files: RadiographFiles, readings: Mapping[str, ClinicalReading]) -> SampleRow:
    reading = readings.get(files.image.stem) if files.reading is None else None
    reading = reading or read_clinical_reading(files.reading)
    return {
        "image_path": str(files.image),
        "label": "abnormal" if files.abnormal else "normal",
        "label_index": int(files.abnormal),
        "mask_path": "" if files.lesion is None else str(files.lesion),
        "roi_mask_paths": tuple(map(str, files.masks)),
        "source": files.source,
        "age": reading.age,
        "sex": reading.sex,
        "reading": reading.findings,
        "split": "unused",
    }


def make_samples(root: Path | str, predicted_masks: Path | str | None = None) -> pd.DataFrame:
    """Make the samples table of a folder in any layout of :mod:`anomalib_cxr.data.sources.layouts`.

    Args:
        root: Folder with the data.
        predicted_masks: Folder of predicted masks, used for X-rays without a true one; it need not exist. None for
            true masks only.

    Returns:
        A table with the columns of :class:`SampleRow`. Its `attrs["task"]` tells anomalib whether there are lesion
        masks to compute pixel metrics by.

    Raises:
        DatasetError: If there is no X-ray, or if files are ambiguous.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from anomalib_cxr.data.phantom.files import write_phantoms
        >>> with TemporaryDirectory() as folder:
        ...     samples = make_samples(write_phantoms(Path(folder, "phantoms"), n_normal=1, n_sick=1, size=32))
        >>> samples[["label", "source", "reading"]].to_dict("records")
        [{'label': 'normal', 'source': 'phantom', 'reading': 'normal'},
         {'label': 'abnormal', 'source': 'phantom', 'reading': 'consolidation'}]
    """
    readings = read_kaggle_readings(root)
    samples: pd.DataFrame = pd.DataFrame([_make_row(files, readings) for files in find_radiographs(root)])
    abnormal = samples[samples.label_index == 1]
    has_lesions = len(abnormal) > 0 and bool((abnormal.mask_path != "").all())
    samples.attrs["task"] = TaskType.SEGMENTATION if has_lesions else TaskType.CLASSIFICATION
    return samples if predicted_masks is None else with_predicted_masks(samples, predicted_masks)


def with_predicted_masks(samples: pd.DataFrame, folder: Path | str, root: Path | None = None) -> pd.DataFrame:
    """Add the predicted lung mask to X-rays without a true one.

    Args:
        samples: A table with the columns `image_path` and `roi_mask_paths` of :class:`SampleRow`.
        folder: Folder of predicted masks; it need not exist.
        root: As in :class:`anomalib_cxr.data.sources.mask_folder.MaskFolder`.

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
    predicted = MaskFolder(folder, root)
    names = predicted.mask_names()
    masks = [
        (str(predicted.mask_path(image)),) if not paths and predicted.name_of(image) in names else paths
        for image, paths in zip(samples.image_path, samples.roi_mask_paths, strict=True)
    ]
    completed: pd.DataFrame = samples.assign(roi_mask_paths=pd.Series(masks, index=samples.index, dtype=object))
    changed = int((completed.roi_mask_paths.map(len) > samples.roi_mask_paths.map(len)).sum())
    if changed:
        logger.info("%d of %d lung masks are predicted ones, of %s", changed, len(samples), folder)
    return completed


def select_sources(samples: pd.DataFrame, sources: Sequence[str] | None, root: Path) -> pd.DataFrame:
    """Select the X-rays of some hospitals.

    Args:
        samples: A samples table.
        sources: Hospitals; None for all.
        root: Folder with the data, for the error.

    Returns:
        The rows of these hospitals.

    Raises:
        DatasetError: If there is no such row.
    """
    if sources is None:
        return samples
    selected: pd.DataFrame = samples[samples.source.isin(sources)]
    if selected.empty:
        counts = samples.source.value_counts(sort=False)
        raise DatasetError(
            f"{root} with X-rays of {', '.join(f'{name} ({count})' for name, count in counts.items())} only",
            f"X-rays of {' or '.join(sources)}",
            "choose another source, or complete the data",
        )
    return selected


def check_normal_images(samples: pd.DataFrame, root: Path, *, require_masks: bool) -> None:
    """Refuse samples without normal images to train on, before any file is read.

    Args:
        samples: A samples table.
        root: Folder with the data, for the error.
        require_masks: True if training needs lung masks; then each hospital must have some.

    Raises:
        DatasetError: If normal images or their lung masks are missing.
    """
    normal = samples[samples.label_index == 0]
    if normal.empty:
        raise DatasetError(
            f"{len(samples)} X-rays in {root}, none of them normal",
            "normal images to learn from (a name that ends in _0)",
            "choose another source, or complete the data",
        )
    with_mask = normal.roi_mask_paths.map(len).groupby(normal.source).any()
    unmasked = list(with_mask.index[~with_mask])
    if require_masks and unmasked:
        raise DatasetError(
            f"{normal.source.isin(unmasked).sum()} normal X-rays of {', '.join(unmasked)} in {root}, none of them "
            "with a lung mask",
            "lung masks for the images that train (data.init_args.masks is not optional)",
            "for Shenzhen, download yoctoman/shcxr-lung-mask from Kaggle (it needs an account) and unpack its folder "
            "mask/ into the root; or have masks predicted (data.init_args.masks: predict); or choose "
            "another source; or set data.init_args.masks to optional and model.init_args.target to image",
        )
