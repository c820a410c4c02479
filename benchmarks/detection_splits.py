"""Write the five splits of `docs/benchmarks/detection.md` as a table for `data.init_args.split_table`.

    python benchmarks/detection_splits.py --root datasets/montgomery_shenzhen --output configs/data/detection_splits.csv

Of each hospital's normal images 70 % train, 10 % validate and 20 % test; of the sick ones 30 of Shenzhen and 5 of
Montgomery validate, and all others test. The splits are of the 674 X-rays with a lung mask that are published at 256
pixels; another choice of images gives other splits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from jsonargparse import auto_cli

from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.data.sources.split_table import IMAGE
from anomalib_cxr.data.sources.splits import file_names
from anomalib_cxr.utils.files import atomic_path

SEEDS = range(5)
VALIDATING = {"CHNCXR": 30, "MCUCXR": 5}
"""Sick images that validate, by the prefix of the file name; the splits depend on the order of the hospitals."""


def draw_splits(names: pd.Series[str], seed: int) -> npt.NDArray[np.str_]:
    """Return the split of each image.

    Args:
        names: Sorted names of the images; the splits depend on their order.
        seed: Seed, one of :data:`SEEDS`.
    """
    splits = np.full(len(names), "train")
    rng = np.random.RandomState(1000 + seed)  # the generator that the splits were drawn by

    def shuffled(prefix: str, label: int) -> npt.NDArray[np.intp]:
        rows = np.flatnonzero(names.str.startswith(prefix) & names.str.contains(f"_{label}.", regex=False))
        rng.shuffle(rows)
        return rows

    for prefix in VALIDATING:
        rows = shuffled(prefix, label=0)
        validating, testing = round(0.7 * len(rows)), round(0.8 * len(rows))
        splits[rows[validating:testing]] = "val"
        splits[rows[testing:]] = "test"
    for prefix, count in VALIDATING.items():
        rows = shuffled(prefix, label=1)
        splits[rows[:count]] = "val"
        splits[rows[count:]] = "test"
    return splits


def make_table(names: pd.Series[str]) -> pd.DataFrame:
    """Return the table of all seeds.

    Args:
        names: Names of the images, in any order.
    """
    names = names.sort_values(ignore_index=True)
    table: pd.DataFrame = pd.DataFrame({IMAGE: names} | {str(seed): draw_splits(names, seed) for seed in SEEDS})
    return table


def write_table(root: Path, output: Path) -> None:
    """Write the table of the images in a folder.

    Args:
        root: Folder with the data.
        output: The CSV file.
    """
    with atomic_path(output) as unfinished:
        make_table(file_names(make_samples(root).image_path)).to_csv(unfinished, index=False)


if __name__ == "__main__":
    auto_cli(write_table, as_positional=False)
