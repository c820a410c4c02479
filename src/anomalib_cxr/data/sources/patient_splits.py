"""Splits of one's own X-rays by patient, stratified by hospital and view."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from anomalib_cxr.errors import DatasetError

from .splits import SPLITS

_LABEL_NAMES = ("normal", "abnormal")


def split_by_patient(samples: pd.DataFrame, shares: Mapping[str, float], seed: int) -> pd.Series[str]:
    """Assign the patients of each hospital to splits at random, stratified by view.

    - Patients with a normal X-ray go to the splits of `shares`, and all others train.
    - Patients with abnormal X-rays only validate, as many X-rays as normal ones but at most half of them, and the
      others test.
    - Abnormal X-rays of a patient who trains stay `unused`.
    - A patient with an X-ray whose split is given is in that split with all X-rays.

    The splits of a hospital depend on the seed, its patients and their views only.

    Args:
        samples: A table with the columns `source`, `patient`, `view`, `label_index`, and `split`, empty where it is not
            given.
        shares: Share of the patients with a normal X-ray for each split but `train`.
        seed: Seed, at least 0.

    Returns:
        Split of each X-ray.

    Example:
        >>> samples = pd.DataFrame({"source": "here", "patient": list("aabcdefghij"), "view": "PA", "split": ""})
        >>> samples["label_index"] = [0] * 9 + [1] * 2
        >>> split_by_patient(samples, {"val": 0.1, "test": 0.2}, seed=0).value_counts(sort=False).to_dict()
        {'test': 4, 'train': 5, 'val': 2}
    """
    splits = _given(samples)
    for source, hospital in samples[splits == ""].groupby("source"):
        rng = np.random.default_rng([seed, *str(source).encode()])
        counts = hospital.groupby("patient").agg(
            view=("view", "min"), sick=("label_index", "sum"), images=("label_index", "size")
        )
        order = counts.iloc[rng.permutation(len(counts))].sort_values("view", kind="stable")
        healthy, sick = order[order.sick < order.images], order[order.sick == order.images]
        assigned = _share_out(healthy.index, shares, rest="train")
        validating = healthy[healthy.index.map(assigned) == "val"]
        lacking = (validating.images - validating.sick).sum() - validating.sick.sum()
        share = min(0.5, max(0, lacking) / max(1, sick.images.sum()))
        assigned |= _share_out(sick.index, {"val": share}, rest="test")
        splits[hospital.index] = hospital.patient.map(assigned)
    return splits.mask((splits == "train") & (samples.label_index == 1), "unused")


def check_patients(samples: pd.DataFrame) -> None:
    """Refuse patients with X-rays in two splits that are given.

    Args:
        samples: A table with the columns `image_path`, `source`, `patient` and `split`, empty where it is not given.

    Raises:
        DatasetError: If there are any; names their X-rays.
    """
    used = samples[samples.split.isin(["train", "val", "test"])]
    splits = used.groupby(["source", "patient"])["split"].transform(lambda own: " and ".join(sorted(set(own))))
    offenders = {f"a patient in {names}": list(used.image_path[splits == names]) for names in splits.unique()}
    offenders = {reason: images for reason, images in offenders.items() if " and " in reason}
    if offenders:
        raise DatasetError(
            f"{sum(map(len, offenders.values()))} X-rays of patients who are in two splits",
            "each patient in one split: a test on known patients says nothing about others",
            "correct the column split of the table, or leave it out to split at random",
            offenders,
        )


def _given(samples: pd.DataFrame) -> pd.Series[str]:
    """Return the split of patients with an X-ray whose split is given, empty for all others."""
    given: pd.Series[str] = samples.groupby(["source", "patient"])["split"].transform("max")
    return given.astype(object)


def _share_out(patients: Iterable[str], shares: Mapping[str, float], rest: str) -> dict[str, str]:
    """Assign patients in order at regular distances, so that each part of the order is shared out alike."""
    remaining, left = list(patients), 1.0
    assigned: dict[str, str] = {}
    for split, share in shares.items():
        taken = np.diff(np.floor(np.arange(len(remaining) + 1) * share / left + 0.5)) > 0
        assigned |= {patient: split for patient, take in zip(remaining, taken, strict=True) if take}
        remaining = [patient for patient, take in zip(remaining, taken, strict=True) if not take]
        left -= share
    return assigned | dict.fromkeys(remaining, rest)


def splits_table(samples: pd.DataFrame) -> str:
    """Tabulate the X-rays of each hospital and view by split and label, and the patients of each split.

    Args:
        samples: A table with the columns `source`, `view`, `split`, `label_index` and `patient`.

    Returns:
        Lines of text.

    Example:
        >>> samples = pd.DataFrame({"source": "here", "view": ["PA", "PA", ""], "label_index": [0, 1, 0]})
        >>> print(splits_table(samples.assign(patient=["a", "a", "b"], split=["val", "val", "train"])))
                          train normal  val normal  val abnormal
        hospital view
        here     PA                  0           1             1
                 unknown             1           0             0
        patients                     1           1             1
    """
    labels = samples.label_index.map(dict(enumerate(_LABEL_NAMES)))
    columns = samples.split + " " + labels
    views = samples["view"].replace("", "unknown")
    table = pd.crosstab([samples.source, views], columns)
    table.loc[("patients", ""), :] = samples.groupby(columns).patient.nunique()
    order = [f"{split} {label}" for split in SPLITS for label in _LABEL_NAMES]
    ordered = table.reindex(columns=[name for name in order if name in table]).astype(int)
    text: str = ordered.rename_axis(index=["hospital", "view"], columns=None).to_string()
    return text
