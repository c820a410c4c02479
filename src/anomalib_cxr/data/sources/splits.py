"""Train, validation and test splits: seeded, and stratified by hospital."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from anomalib_cxr.errors import DatasetError

Protocol = Literal["holdout", "dissertation"]
PROTOCOLS: tuple[str, ...] = get_args(Protocol)
SPLITS = ("train", "val", "test", "unused")

HOSPITAL: Literal["hospital"] = "hospital"
"""Name of the protocol that tests on one hospital and trains on the others."""

VALIDATION_SHARE = 0.1
"""Share of the normal images for validation, in all protocols; of the patients in sets that are split by patient."""
TEST_SHARE = 0.2
"""Share of the normal images for test, in `holdout`; of the patients in sets that are split by patient."""

HOSPITAL_VALIDATION_SHARE = 0.05
"""Share of the normal images for validation in `hospital`: few, since the sick ones there set the threshold."""

_Rows = npt.NDArray[np.intp]


def count_of_share(total: int, share: float) -> int:
    """Return the rounded share of a total, at least one.

    Args:
        total: Number of items.
        share: Share of them, between 0 and 1.
    """
    return max(1, round(share * total))


def _least_counts(normal: int, protocol: Protocol) -> tuple[int, int]:
    """Return the least numbers of normal and sick images that fill all splits, given the number of normal ones."""
    validating = count_of_share(normal, VALIDATION_SHARE)
    return (2, validating) if protocol == "dissertation" else (3, validating + 1)


def _check_counts(samples: pd.DataFrame, trainable: pd.Series[bool], protocol: Protocol) -> None:
    """Refuse hospitals with too few images for one of each label in each split."""
    shortages = []
    for source, rows in samples.groupby("source"):
        normal, sick = int(trainable[rows.index].sum()), int((rows.label_index == 1).sum())
        least_normal, least_sick = _least_counts(normal, protocol)
        if normal < least_normal or sick < least_sick:
            shortages.append(
                f"{source} has {normal} normal to train on and {sick} sick, needed are {least_normal} and {least_sick}"
            )
    if shortages or samples.empty:
        raise DatasetError(
            f"too few images for protocol {protocol!r}: {'; '.join(shortages) or 'none is left'}",
            "in each hospital enough normal images (with a lung mask where masks are required) to train, validate and "
            "test, and a sick one for each normal one that validates (a tenth), in holdout one more to test",
            "add images or lung masks, choose another source, or another protocol",
        )


def _split_hospital(protocol: Protocol, trainable: _Rows, sick: _Rows, other: _Rows) -> Iterator[tuple[str, _Rows]]:
    """Yield each split and its rows, given the shuffled row numbers of one hospital."""
    n_val = count_of_share(len(trainable), VALIDATION_SHARE)
    yield "val", np.concatenate([trainable[:n_val], sick[:n_val]])
    if protocol == "dissertation":
        yield "train", trainable[n_val:]
        return
    n_test = count_of_share(len(trainable), TEST_SHARE)
    yield "test", np.concatenate([trainable[n_val : n_val + n_test], sick[n_val:], other])
    yield "train", trainable[n_val + n_test :]


def file_names(paths: pd.Series[str]) -> pd.Series[str]:
    """Return file names without their folders.

    Args:
        paths: Paths of files.
    """
    return paths.map(lambda path: Path(path).name)


def assign_splits(samples: pd.DataFrame, protocol: Protocol, seed: int, *, require_masks: bool) -> pd.DataFrame:
    """Assign each X-ray to `train`, `val`, `test` or `unused`.

    - `dissertation`: of each hospital's normal images one tenth validates, the rest trains; as many sick ones validate,
      the others stay unused. There is no test set: validation is the test set, which makes results optimistic.
    - `holdout`: of each hospital's normal images one tenth validates, two tenths test, the rest trains; as many sick
      ones as normal ones validate, all others test. The three are disjoint.

    A hospital's split depends on the seed and on its files' names only: neither on the folder, nor on the order of the
    table, nor on the other hospitals in it.

    Args:
        samples: A table from :func:`anomalib_cxr.data.sources.samples.make_samples`.
        protocol: Name of the protocol.
        seed: Seed, at least 0.
        require_masks: True if training needs lung masks. Normal images without one then test (`holdout`) or stay
            unused.

    Returns:
        A copy with the column `split` filled, sorted by file name.

    Raises:
        DatasetError: If a hospital has too few images for the protocol.

    Example:
        >>> samples = pd.DataFrame({
        ...     "image_path": [f"PHANTOM_{i:04d}_{int(i >= 10)}.png" for i in range(14)],
        ...     "label_index": [0] * 10 + [1] * 4,
        ...     "roi_mask_paths": [("mask.png",)] * 14,
        ...     "source": "phantom",
        ... })
        >>> print(describe_splits(assign_splits(samples, "holdout", seed=0, require_masks=True)))
        phantom: train 7 normal; val 1 normal + 1 sick; test 2 normal + 3 sick; unused 0
    """
    samples = samples.assign(split="unused").sort_values("image_path", key=file_names, ignore_index=True)
    normal = samples.label_index == 0
    trainable = normal & (samples.roi_mask_paths.map(len) > 0) if require_masks else normal
    _check_counts(samples, trainable, protocol)
    for source in samples.source.unique():
        here = samples.source == source
        rng = np.random.default_rng([seed, *source.encode()])
        groups = [rng.permutation(np.flatnonzero(here & group)) for group in (trainable, ~normal, normal & ~trainable)]
        for split, rows in _split_hospital(protocol, *groups):
            samples.loc[rows, "split"] = split
    return samples


def leave_hospital_out(
    samples: pd.DataFrame, test_source: str, seed: int, *, require_masks: bool, n_train: int | None = None
) -> pd.DataFrame:
    """Test on one hospital, and train and validate on the others.

    All images of that hospital test. Of each other hospital's normal images one in twenty validates and the rest
    trains; all sick ones validate, so that a threshold for a sensitivity is set without the hospital that takes over
    the model. The split of a hospital depends on the seed and on its files' names only. With `n_train`, each seed draws
    the training images anew, and what is drawn for a smaller number is a part of what is drawn for a greater one.

    Args:
        samples: A table from :func:`anomalib_cxr.data.sources.samples.make_samples`.
        test_source: Hospital to test on.
        seed: Seed, at least 0.
        require_masks: True if training needs lung masks. Normal images without one then stay unused.
        n_train: Normal images of each other hospital that train, at least 1; the others stay unused. None for all that
            do not validate.

    Returns:
        A copy with the column `split` filled, sorted by file name.

    Raises:
        DatasetError: If the hospital or another one is missing, or if one of them lacks images of a label, or has fewer
            normal images than `n_train` beside those that validate.

    Example:
        >>> samples = pd.DataFrame({
        ...     "image_path": [f"{prefix}_{i:04d}_{i % 2}.png" for prefix in "ab" for i in range(40)],
        ...     "label_index": [0, 1] * 40,
        ...     "roi_mask_paths": [("mask.png",)] * 80,
        ...     "source": ["a"] * 40 + ["b"] * 40,
        ... })
        >>> print(describe_splits(leave_hospital_out(samples, "b", seed=0, require_masks=True)))
        a: train 19 normal; val 1 normal + 20 sick; test 0; unused 0
        b: train 0; val 0; test 20 normal + 20 sick; unused 0
    """
    samples = samples.assign(split="unused").sort_values("image_path", key=file_names, ignore_index=True)
    normal = samples.label_index == 0
    trainable = normal & (samples.roi_mask_paths.map(len) > 0) if require_masks else normal
    tested = samples.source == test_source
    _check_hospitals(samples, test_source, trainable)
    if n_train is not None:
        sizes = samples[~tested & trainable].groupby("source").size()
        _check_n_train(sizes - sizes.map(_count_validating), n_train)
    samples.loc[tested, "split"] = "test"
    samples.loc[~tested & ~normal, "split"] = "val"
    for source, rows in samples[~tested & trainable].groupby("source"):
        shuffled = np.random.default_rng([seed, *str(source).encode()]).permutation(rows.index)
        n_val = _count_validating(len(shuffled))
        n_used = len(shuffled) if n_train is None else n_val + n_train
        samples.loc[shuffled[:n_val], "split"] = "val"
        samples.loc[shuffled[n_val:n_used], "split"] = "train"
    return samples


def _count_validating(normal: int) -> int:
    """Return the number of validation images in `hospital`, of so many normal ones."""
    return count_of_share(normal, HOSPITAL_VALIDATION_SHARE)


def _check_n_train(left: pd.Series[int], n_train: int) -> None:
    """Refuse hospitals that have fewer normal images left to train on than are asked for."""
    short = left[left < n_train]
    if not short.empty:
        raise DatasetError(
            f"fewer than {n_train} normal images (n_train) to train on: "
            + "; ".join(f"{source} has {count}" for source, count in short.items()),
            "in each hospital that trains at least as many, beside those that validate (with a lung mask where masks "
            "are required)",
            "lower data.init_args.n_train, or leave it out to train on all",
        )


def _check_hospitals(samples: pd.DataFrame, test_source: str, trainable: pd.Series[bool]) -> None:
    """Refuse hospitals with too few images for one of each label in each split."""
    sick = samples.label_index == 1
    shortages = [] if (samples.source == test_source).any() else [f"none of {test_source}"]
    if (samples.source == test_source).all():
        shortages.append(f"none of another hospital than {test_source}")
    for source, rows in samples.groupby("source"):
        usable = ~sick if source == test_source else trainable
        n_normal, least = int(usable[rows.index].sum()), 1 if source == test_source else 2
        if n_normal < least or not sick[rows.index].any():
            shortages.append(
                f"{source} has {n_normal} normal and {sick[rows.index].sum()} sick, needed are {least} and 1"
            )
    if shortages:
        raise DatasetError(
            f"too few images for protocol {HOSPITAL!r}: {'; '.join(shortages)}",
            "two hospitals or more, one of them named by test_source, each with sick images and normal ones (with a "
            "lung mask to train on where masks are required)",
            "add images or lung masks, choose another test_source, or another protocol",
        )


def hold_out(samples: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """Hold out a share of the X-rays of each hospital and label, at least one of each.

    As in :func:`assign_splits`, the split of a hospital depends on the seed and on its files' names only.

    Args:
        samples: A table from :func:`anomalib_cxr.data.sources.samples.make_samples`.
        share: Share that is held out, between 0 and 1.
        seed: Seed, at least 0.

    Returns:
        A copy with the column `split`, `train` or `test`, sorted by file name.

    Example:
        >>> samples = pd.DataFrame({
        ...     "image_path": [f"PHANTOM_{i:04d}_{i % 2}.png" for i in range(20)],
        ...     "label_index": [0, 1] * 10,
        ...     "source": "phantom",
        ... })
        >>> print(describe_splits(hold_out(samples, share=0.2, seed=0)))
        phantom: train 8 normal + 8 sick; val 0; test 2 normal + 2 sick; unused 0
    """
    samples = samples.assign(split="train").sort_values("image_path", key=file_names, ignore_index=True)
    for source, hospital in samples.groupby("source"):
        rng = np.random.default_rng([seed, *str(source).encode()])
        for _, rows in hospital.groupby("label_index"):
            samples.loc[rng.permutation(rows.index)[: count_of_share(len(rows), share)], "split"] = "test"
    return samples


def _describe_counts(rows: pd.DataFrame) -> str:
    sick = int(rows.label_index.sum())
    counts = {"normal": len(rows) - sick, "sick": sick}
    return " + ".join(f"{count} {label}" for label, count in counts.items() if count) or "0"


def describe_splits(samples: pd.DataFrame) -> str:
    """Describe the number of images in each split, in one line per hospital.

    Args:
        samples: A table from :func:`assign_splits`.

    Returns:
        Lines such as ``phantom: train 7 normal; val 1 normal + 1 sick; test 2 normal + 3 sick; unused 0``.
    """
    return "\n".join(
        f"{source}: " + "; ".join(f"{split} {_describe_counts(rows[rows.split == split])}" for split in SPLITS)
        for source, rows in samples.groupby("source")
    )
