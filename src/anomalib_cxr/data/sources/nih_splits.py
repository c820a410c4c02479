"""Splits of NIH ChestX-ray14 by patient, for a set with several X-rays of a patient.

First each patient is assigned to one split, then X-rays are sampled among those of the split's patients. So no patient
is in two splits. As patients are assigned without regard to their findings, each split has the same proportion of
healthy X-rays of people who are sick in another of their X-rays.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from anomalib_cxr.errors import DatasetError

from .nih_files import TEST_LIST, TRAIN_VAL_LIST, read_list
from .splits import TEST_SHARE, VALIDATION_SHARE, count_of_share

PATIENT_SHARES = {"val": VALIDATION_SHARE, "test": TEST_SHARE}
"""Shares of the patients without the official lists."""
_LABELS = {"train": (0,), "val": (0, 1), "test": (0, 1)}
_LABEL_NAMES = ("healthy", "sick")


def split_patients(patients: pd.Series[str], shares: Mapping[str, float], seed: int) -> pd.Series[str]:
    """Assign patients to splits at random.

    The splits depend on the seed and on the set of patients only, not on the X-rays of each.

    Args:
        patients: Patient of each X-ray.
        shares: Share of the patients for each split; the others go to `train`.
        seed: Seed, at least 0.

    Returns:
        Split of the patient of each X-ray.

    Example:
        >>> split_patients(pd.Series(["a", "a", "b"]), {"test": 0.5}, seed=0).tolist()
        ['test', 'test', 'train']
    """
    order = np.random.default_rng([seed, *b"patients"]).permutation(sorted(patients.unique()))
    split_of = dict.fromkeys(order, "train")
    start = 0
    for split, share in shares.items():
        end = start + count_of_share(len(order), share)
        split_of |= dict.fromkeys(order[start:end], split)
        start = end
    return patients.map(split_of)


def split_by_lists(entries: pd.DataFrame, root: Path | str, seed: int) -> pd.Series[str]:
    """Assign the patients of the official test list to test, and a tenth of the others to validation.

    Args:
        entries: A table from :func:`anomalib_cxr.data.sources.nih_files.read_entries`.
        root: Folder with the lists.
        seed: Seed of the validation patients, at least 0.

    Returns:
        Split of the patient of each X-ray; `unused` for an X-ray that is in neither list.

    Raises:
        DatasetError: If a list cannot be read, names unknown images, or if a patient is in both.
    """
    testing, training = (read_list(root, name, entries.name) for name in (TEST_LIST, TRAIN_VAL_LIST))
    in_both = np.intersect1d(entries.patient[testing], entries.patient[training])
    if len(in_both):
        raise DatasetError(
            f"{TEST_LIST} and {TRAIN_VAL_LIST} in {root} with {len(in_both)} patients in both",
            "each patient in one list, so that no patient of the test set was trained on",
            "get both lists anew from the set's download page",
            {"X-rays of these patients": list(entries.name[entries.patient.isin(in_both)])},
        )
    splits = pd.Series("unused", entries.index, dtype=object)
    splits[testing] = "test"
    splits[training] = split_patients(entries.patient[training], {"val": VALIDATION_SHARE}, seed)
    return splits


def sample_images(
    samples: pd.DataFrame, patient_splits: pd.Series[str], counts: Mapping[str, int | None], seed: int
) -> pd.Series[str]:
    """Sample the X-rays of each split among those of its patients.

    Training takes healthy ones only; validation and test take as many healthy as sick ones.

    Args:
        samples: A table with the columns `label_index` and `patient`.
        patient_splits: Split of the patient of each X-ray, by the index of the table.
        counts: Number of X-rays of each label in each split; None for all.
        seed: Seed, at least 0.

    Returns:
        Split of each X-ray, `unused` if it was not sampled.

    Raises:
        DatasetError: If a split has fewer X-rays than its count, or none; names all such splits.

    Example:
        >>> samples = pd.DataFrame({"label_index": [0, 0, 0, 1, 0], "patient": list("aaabb")})
        >>> patient_splits = samples.patient.map({"a": "train", "b": "test"})
        >>> sample_images(samples, patient_splits, {"train": 2, "test": 1}, seed=0).tolist()
        ['train', 'train', 'unused', 'test', 'test']
    """
    splits = pd.Series("unused", samples.index, dtype=object)
    shortages = []
    for split, count in counts.items():
        for label in _LABELS[split]:
            available = samples[(patient_splits == split) & (samples.label_index == label)]
            if len(available) < (count or 1):
                shortages.append(_describe_shortage(split, label, available, count))
            order = np.random.default_rng([seed, label, *split.encode()]).permutation(available.index)
            splits[order[:count]] = split
    if shortages:
        raise DatasetError(
            f"too few X-rays for the draw: {'; '.join(shortages)}",
            "at least as many as are asked for, of patients who are in no other split",
            "ask for fewer by data.init_args.n_train, n_val and n_test (null takes all), or for more views or findings",
        )
    return splits


def _describe_shortage(split: str, label: int, available: pd.DataFrame, count: int | None) -> str:
    patients = f"{len(available):,} {_LABEL_NAMES[label]} of {available.patient.nunique():,} patients"
    return f"{split} has {patients}, asked for are {'any' if count is None else f'{count:,}'}"
