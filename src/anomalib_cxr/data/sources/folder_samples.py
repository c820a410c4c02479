"""Samples table of one's own X-rays, completed from the headers of DICOM files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from anomalib import TaskType

from anomalib_cxr.data.reading.metadata import Header, read_header
from anomalib_cxr.errors import DatasetError, RadiographError
from anomalib_cxr.utils.threads import in_threads

logger = logging.getLogger(__name__)

STATED = ("patient", "view", "sex", "age")
"""Columns that are read from the headers of DICOM files, unless a table has them."""
LEAST_SHARED = 20
"""X-rays with one Patient ID, from which on more than half of all X-rays are not believed to be one patient's."""


def complete_samples(found: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Make a samples table of X-rays, with patient, view, sex and age from the headers of DICOM files.

    Args:
        found: A table with `image_path`, `label_index`, and as far as they are known `split`, `source`, `mask_path`,
            `roi_mask_paths` and the columns of :data:`STATED`, which are then not read from headers.
        root: Folder of the X-rays; its name is the hospital where none is known.

    Returns:
        A table with the columns of :class:`anomalib_cxr.data.sources.samples.SampleRow`, and

        - `patient`: identifier of the patient, unique over the hospitals; where it is not known, that of the study, or
          else the path, so that each X-ray counts as a patient.
        - `view`: `PA`, `AP`, or empty.

    Raises:
        DatasetError: If most headers have the same Patient ID, as after an anonymization.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> found = pd.DataFrame({"image_path": [get_testdata_file("CT_small.dcm")], "label_index": 0})
        >>> complete_samples(found, Path("north")).loc[0, ["source", "label", "patient", "split"]].to_dict()
        {'source': 'north', 'label': 'normal', 'patient': '1CT1', 'split': ''}
    """
    samples: pd.DataFrame = found.assign(label=found.label_index.map({0: "normal", 1: "abnormal"}), reading=None)
    unknown = {"source": root.resolve().name, "split": "", "mask_path": "", "roi_mask_paths": [()] * len(found)}
    for column, value in unknown.items():
        if column not in samples:
            samples[column] = value
    if unread := [column for column in STATED if column not in samples]:
        samples[unread] = _read_headers(list(samples.image_path))[unread].to_numpy()
        if "patient" in unread:
            _refuse_shared_patient(samples.patient)
    samples["patient"] = _unique_patients(samples, root)
    abnormal = samples[samples.label_index == 1]
    has_lesions = len(abnormal) > 0 and bool((abnormal.mask_path != "").all())
    samples.attrs["task"] = TaskType.SEGMENTATION if has_lesions else TaskType.CLASSIFICATION
    return samples


def _read_headers(paths: Sequence[str]) -> pd.DataFrame:
    """Read the columns of :data:`STATED`; reading waits for the storage more than it computes, hence the threads."""
    rows = [
        (header.patient_id or header.study_uid, header.view_position, header.sex or None, header.age)
        for header in in_threads(_header, paths, "Reading headers")
    ]
    stated: pd.DataFrame = pd.DataFrame(rows, columns=list(STATED))
    return stated


def _header(path: str) -> Header:
    try:
        return read_header(path)
    except RadiographError:  # of a file that cannot be read: reading its pixels tells why, with all others
        return Header("")


def _refuse_shared_patient(patients: pd.Series[str]) -> None:
    """Refuse a Patient ID of more than half of the X-rays: split by it, nearly all would be in one split."""
    counts = patients[patients != ""].value_counts()
    if len(counts) and LEAST_SHARED <= counts.iloc[0] > len(patients) / 2:
        raise DatasetError(
            f"{counts.iloc[0]} of {len(patients)} X-rays with the same Patient ID, as after an anonymization",
            "a Patient ID for each person, since X-rays are split by patient",
            "give a table with a column `patient` (data.init_args.table): pseudonyms, or empty where each X-ray is of "
            "another person",
        )


def _unique_patients(samples: pd.DataFrame, root: Path) -> pd.Series[str]:
    """Return identifiers that are unique over hospitals and never empty."""
    known: pd.Series[str] = samples.patient
    if len(samples.source.unique()) > 1:
        known = (samples.source + "/" + known).where(known != "", "")
    if count := int((known == "").sum()):
        logger.warning(
            "No patient is known for %d of %d X-rays: each counts as a patient of its own. If some are of the same "
            "person, give a table with a column `patient` (data.init_args.table), or they may be in several splits.",
            count,
            len(samples),
        )
    names = samples.image_path.map(lambda path: relative_name(path, root))
    unique: pd.Series[str] = known.where(known != "", names)
    return unique


def relative_name(path: Path | str, root: Path) -> str:
    """Return a path relative to the root, so that it stays the same where the folder is moved.

    Args:
        path: A file.
        root: The folder.

    Example:
        >>> relative_name("data/healthy/a.dcm", Path("data"))
        'healthy/a.dcm'
    """
    path = Path(path)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def warn_of_views(samples: pd.DataFrame) -> None:
    """Warn of a single view, and of views that are tested but were not trained on.

    Args:
        samples: A samples table with the columns `view` and `split`.
    """
    known = samples[(samples["view"] != "") & (samples.split != "unused")]
    training = known.split == "train"
    trained = sorted(known["view"][training].unique())
    others = known[~training & ~known["view"].isin(trained)]
    if trained and len(others):
        logger.warning(
            "%d X-rays of the view %s validate or test, and only %s trained: their scores are not to be compared.",
            len(others),
            " and ".join(sorted(others["view"].unique())),
            " and ".join(trained),
        )
    elif len(trained) == 1:
        logger.warning("All X-rays of a known view are %s: the model is for this view only.", trained[0])


def check_enough(samples: pd.DataFrame, least_train: int) -> None:
    """Refuse too few healthy X-rays to train on, and splits that cannot be validated or tested.

    Args:
        samples: A samples table, with or without splits.
        least_train: Least number of healthy X-rays that train.

    Raises:
        DatasetError: If there are too few.
    """
    normal, sick = (samples[samples.label_index == label] for label in (0, 1))
    training = int(normal.split.isin(["", "train"]).sum())
    if training < least_train:
        raise DatasetError(
            f"{training} healthy X-rays to train on, of {len(normal)} healthy and {len(sick)} abnormal ones",
            f"at least {least_train}: with fewer, the variety of healthy lungs is not known",
            "add healthy X-rays, or hold back fewer (data.init_args.normal_split_ratio, val_split_ratio); "
            "data.init_args.least_train lowers the limit for a trial, whose scores mean little",
        )
    if samples.split.eq("").any():
        return
    empty = [
        f"no {name} X-ray in {split}"
        for split, labels in {"val": (normal, sick), "test": (normal, sick)}.items()
        for name, rows in zip(("healthy", "abnormal"), labels, strict=True)
        if len(sick) and not (rows.split == split).any()
    ]
    if empty:
        raise DatasetError(
            f"{len(normal)} healthy and {len(sick)} abnormal X-rays, of which there are {'; '.join(empty)}",
            "healthy and abnormal X-rays, of several patients each, to validate and to test",
            "add patients, change the splits, or leave out the abnormal X-rays to train without a test",
        )
