"""Who trains, who validates, who tests, in a set with several X-rays of a patient: patients are dealt, X-rays drawn.

First each patient is dealt to one split. Then the X-rays asked for are drawn among those of the split's patients. So no
patient is in two splits, and as the patients are dealt blindly, each split has healthy X-rays of people who
are sick in another of their X-rays, in the same proportion. The X-rays of a patient that are not drawn stay unused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from anomalib_cxr.errors import DatasetError

from .nih_files import TEST_LIST, TRAIN_VAL_LIST, read_list
from .splits import TEST_SHARE, VALIDATION_SHARE, share_of

_LABELS = {"train": (0,), "val": (0, 1), "test": (0, 1)}
_KINDS = ("healthy", "sick")


def deal_patients(patients: pd.Series[str], shares: Mapping[str, float], seed: int) -> pd.Series[str]:
    """Deal patients at random to splits.

    The deal depends on the seed and on which patients there are: not on the X-rays that each has.

    Args:
        patients: Patient of each X-ray.
        shares: Share of the patients that each split gets; `train` gets the rest.
        seed: Seed of the deal, at least 0.

    Returns:
        Split of the patient of each X-ray.

    Example:
        >>> deal_patients(pd.Series(["a", "a", "b"]), {"test": 0.5}, seed=0).tolist()
        ['test', 'test', 'train']
    """
    order = np.random.default_rng([seed, *b"patients"]).permutation(sorted(patients.unique()))
    dealt = dict.fromkeys(order, "train")
    start = 0
    for split, share in shares.items():
        end = start + share_of(len(order), share)
        dealt |= dict.fromkeys(order[start:end], split)
        start = end
    return patients.map(dealt)


def deal_at_random(entries: pd.DataFrame, seed: int) -> pd.Series[str]:
    """Deal a tenth of the patients to validation, two tenths to test, and the rest to training.

    Args:
        entries: A table from :func:`anomalib_cxr.data.sources.nih_files.read_entries`.
        seed: Seed of the deal, at least 0.

    Returns:
        Split of the patient of each X-ray.
    """
    return deal_patients(entries.patient, {"val": VALIDATION_SHARE, "test": TEST_SHARE}, seed)


def deal_by_lists(entries: pd.DataFrame, root: Path | str, seed: int) -> pd.Series[str]:
    """Deal patients as the official lists do: those of the test list test, a tenth of the others validate.

    Args:
        entries: A table from :func:`anomalib_cxr.data.sources.nih_files.read_entries`.
        root: Folder with the lists.
        seed: Seed of the choice of those who validate, at least 0.

    Returns:
        Split of the patient of each X-ray; `unused` for an X-ray that is in neither list.

    Raises:
        DatasetError: If a list cannot be read, names unknown images, or if both have the same patient.
    """
    testing, training = (read_list(root, name, entries.name) for name in (TEST_LIST, TRAIN_VAL_LIST))
    both = np.intersect1d(entries.patient[testing], entries.patient[training])
    if len(both):
        raise DatasetError(
            f"{TEST_LIST} and {TRAIN_VAL_LIST} in {root} with {len(both)} patients in both",
            "each patient in one list, so that nobody is tested whom the model was trained on",
            "get both lists anew from the set's download page",
            {"X-rays of these patients": list(entries.name[entries.patient.isin(both)])},
        )
    groups = pd.Series("unused", entries.index, dtype=object)
    groups[testing] = "test"
    groups[training] = deal_patients(entries.patient[training], {"val": VALIDATION_SHARE}, seed)
    return groups


def draw_images(
    samples: pd.DataFrame, groups: pd.Series[str], asked: Mapping[str, int | None], seed: int
) -> pd.Series[str]:
    """Draw the X-rays of each split among those of its patients.

    Only healthy ones train; as many healthy as sick ones validate, and test.

    Args:
        samples: A table with the columns `label_index` and `patient`.
        groups: Split of the patient of each X-ray, by the index of the table.
        asked: How many X-rays of each kind a split is to have; None for all.
        seed: Seed of the draw, at least 0.

    Returns:
        Split of each X-ray, `unused` where it was not drawn.

    Raises:
        DatasetError: If a split has fewer than are asked for, or none; names all that lack.

    Example:
        >>> samples = pd.DataFrame({"label_index": [0, 0, 0, 1, 0], "patient": list("aaabb")})
        >>> groups = samples.patient.map({"a": "train", "b": "test"})
        >>> draw_images(samples, groups, {"train": 2, "test": 1}, seed=0).tolist()
        ['train', 'train', 'unused', 'test', 'test']
    """
    split = pd.Series("unused", samples.index, dtype=object)
    lacking = []
    for name, count in asked.items():
        for label in _LABELS[name]:
            there = samples[(groups == name) & (samples.label_index == label)]
            if len(there) < (count or 1):
                lacking.append(_lack(name, label, there, count))
            order = np.random.default_rng([seed, label, *name.encode()]).permutation(there.index)
            split[order[:count]] = name
    if lacking:
        raise DatasetError(
            f"too few X-rays for the draw: {'; '.join(lacking)}",
            "at least as many as are asked for, of patients who are in no other split",
            "ask for fewer by data.init_args.n_train, n_val and n_test (null takes all), or for more views or findings",
        )
    return split


def _lack(split: str, label: int, there: pd.DataFrame, count: int | None) -> str:
    asked = "any" if count is None else f"{count:,}"
    return f"{split} has {len(there):,} {_KINDS[label]} of {there.patient.nunique():,} patients, asked for are {asked}"
