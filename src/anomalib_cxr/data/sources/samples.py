"""The samples table: one row per X-ray, as anomalib's datasets want it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from anomalib import TaskType

from anomalib_cxr.data.reading.metadata import read_clinical_reading
from anomalib_cxr.data.sources.mask_folder import with_predicted_masks

from .layouts import RadiographFiles, find_radiographs


def _row(files: RadiographFiles) -> dict[str, object]:
    reading = read_clinical_reading(files.reading)
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
    """List the X-rays of a folder in any known layout.

    Args:
        root: Folder with the data.
        predicted_masks: Folder of :func:`anomalib_cxr.segmentation.prediction.predict_masks`, whose masks serve X-rays that
            have no true one; it need not exist. None for true masks only.

    Returns:
        A table with the columns

        - `image_path`: the X-ray.
        - `label`, `label_index`: `normal`, 0 or `abnormal`, 1.
        - `mask_path`: mask of the lesion, empty where there is none; as everywhere in anomalib, where the ANOMALY is.
        - `roi_mask_paths`: masks of the lungs to be merged, a tuple; empty for an X-ray without.
        - `source`: hospital, `montgomery` or `shenzhen`, or `phantom`.
        - `age` in years, `sex` (`M`, `F`), `reading`: from the clinical file; missing where there is none.
        - `split`: `unused` until :func:`anomalib_cxr.data.sources.splits.assign_splits`.

        `attrs["task"]` tells anomalib whether there are lesion masks to measure pixels by.

    Raises:
        DatasetError: If there is no X-ray, or if files cannot be told apart.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from anomalib_cxr.data.phantom.files import write_phantoms
        >>> with TemporaryDirectory() as folder:
        ...     samples = make_samples(write_phantoms(Path(folder, "phantoms"), n_normal=1, n_sick=1, size=32))
        >>> samples[["label", "source", "reading"]].to_dict("records")
        [{'label': 'normal', 'source': 'phantom', 'reading': 'normal'},
         {'label': 'abnormal', 'source': 'phantom', 'reading': 'consolidation'}]
    """
    samples: pd.DataFrame = pd.DataFrame([_row(files) for files in find_radiographs(root)])
    abnormal = samples[samples.label_index == 1]
    has_lesions = len(abnormal) > 0 and bool((abnormal.mask_path != "").all())
    samples.attrs["task"] = TaskType.SEGMENTATION if has_lesions else TaskType.CLASSIFICATION
    return samples if predicted_masks is None else with_predicted_masks(samples, predicted_masks)
