"""Who trains, who validates, who tests: seeded, and stratified by hospital."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import pandas as pd

from anomalib_cxr.errors import DatasetError

Protocol = Literal["holdout", "dissertation"]
PROTOCOLS: tuple[str, ...] = get_args(Protocol)

VALIDATION_SHARE = 0.1
"""Share of the normal images that validate, in both protocols."""
TEST_SHARE = 0.2
"""Share of the normal images that test, in `holdout`."""


def _share(count: int, share: float) -> int:
    return max(1, round(share * count))


def _split_hospital(
    trainable: np.ndarray, other_normal: np.ndarray, abnormal: np.ndarray, protocol: Protocol
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name of a split and the rows that go there; all arguments are shuffled row numbers of one hospital."""
    n_validation = _share(len(trainable), VALIDATION_SHARE)
    n_test = 0 if protocol == "dissertation" else _share(len(trainable), TEST_SHARE)
    yield "val", np.concatenate([trainable[:n_validation], abnormal[:n_validation]])
    yield "test", trainable[n_validation : n_validation + n_test]
    yield "train", trainable[n_validation + n_test :]
    if protocol == "holdout":
        yield "test", np.concatenate([other_normal, abnormal[n_validation:]])


def _check_counts(samples: pd.DataFrame, trainable: pd.Series, protocol: Protocol) -> None:
    """Refuse hospitals with too few images for one of each kind in each split."""
    needed = {"normal": 2, "sick": 1} if protocol == "dissertation" else {"normal": 3, "sick": 2}
    counts = [
        (source, int(trainable[rows.index].sum()), int((rows.label_index == 1).sum()))
        for source, rows in samples.groupby("source")
    ]
    lacking = [
        f"{source}: {normal} normal and {sick} sick"
        for source, normal, sick in counts
        if normal < needed["normal"] or sick < needed["sick"] + (_share(normal, VALIDATION_SHARE) - 1)
    ]
    if lacking:
        raise DatasetError(
            f"too few images for protocol {protocol!r}: " + "; ".join(lacking),
            f"per hospital at least {needed['normal']} normal images to train on (with a lung mask where masks are required), and "
            + ("as many sick images as normal ones validate" if protocol == "dissertation" else "more sick images than normal ones validate")
            + f" (a tenth of the normal ones, at least 1): {needed['sick']} or more",
            "add images or lung masks, choose another source, or another protocol",
        )


def assign_splits(samples: pd.DataFrame, protocol: Protocol, seed: int, *, require_masks: bool) -> pd.DataFrame:
    """Assign each X-ray to `train`, `val`, `test` or `unused`.

    - `dissertation`: of each hospital's normal images one tenth validates, the rest trains; as many sick ones validate. There is
      no test set: validation is the test set, and the figure is optimistic for that.
    - `holdout`: of each hospital's normal images one tenth validates, two tenths test, the rest trains; as many sick ones as
      normal ones validate, all others test. The three are disjoint.

    Args:
        samples: A table from :func:`anomalib_cxr.data.samples.make_samples`.
        protocol: Name of the protocol.
        seed: Seed of the draw.
        require_masks: Whether training needs lung masks. Normal images without one then test (`holdout`) or stay unused.

    Returns:
        A copy with the column `split` filled.

    Raises:
        DatasetError: If a hospital has too few images for the protocol.
    """
    samples = samples.sort_values("image_path", ignore_index=True)
    normal = samples.label_index == 0
    trainable = normal & (samples.roi_mask_paths.map(len) > 0) if require_masks else normal
    _check_counts(samples, trainable, protocol)
    shuffled = np.random.default_rng(seed).permutation(len(samples))
    for _, hospital in samples.groupby("source"):
        rows = shuffled[np.isin(shuffled, hospital.index)]
        groups = [rows[mask.to_numpy()[rows]] for mask in (trainable, normal & ~trainable, ~normal)]
        for split, chosen in _split_hospital(groups[0], groups[1], groups[2], protocol):
            samples.loc[chosen, "split"] = split
    return samples


def describe_splits(samples: pd.DataFrame) -> str:
    """Return a table of how many images went where."""
    counts = samples.groupby(["source", "label", "split"]).size().unstack(fill_value=0)
    order = [split for split in ("train", "val", "test", "unused") if split in counts]
    return str(counts[order].to_string())
