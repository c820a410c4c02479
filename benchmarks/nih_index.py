"""Measure indexing of a set of the size of NIH ChestX-ray14, and verification of its files.

    python benchmarks/nih_index.py --output results/nih_index

Writes a tree with as many (empty) files, patients and rows as the set, and times both values of `draw`. Then times 3
ways to check a file on phantoms of the set's 1024 x 1024 pixels: its header, its checksums (as `NihChestXray14` does)
and decoding it. Writes `index.csv`, `check.csv` and `run.json`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from jsonargparse import auto_cli

from anomalib_cxr import NihChestXray14
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.reading.intensities import image_size, intact_size
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.data.sources.nih_files import FINDINGS, HEALTHY
from anomalib_cxr.utils.provenance import code_record, write_record

FOLDERS = (4_999, *(10_000,) * 10, 7_121)  # images in each of the twelve
PATIENTS = 30_805
TESTED = 25_596
CHECKS: dict[str, Callable[[Path], object]] = {
    "header": image_size,
    "checksums": intact_size,
    "decoding": read_radiograph,
}


def write_tree(root: Path) -> None:
    """Write a tree with the set's numbers of images, patients and rows; half of the images are healthy."""
    rng = np.random.default_rng(0)
    patients = np.sort(np.concatenate([np.arange(PATIENTS), rng.integers(PATIENTS, size=sum(FOLDERS) - PATIENTS)]))
    table = pd.DataFrame({"Patient ID": patients + 1})
    table["Follow-up #"] = table.groupby("Patient ID").cumcount()
    table["Image Index"] = [f"{row[0]:08d}_{row[1]:03d}.png" for row in table.itertuples(index=False)]
    pairs = rng.choice(FINDINGS, (len(table), 2))
    table["Finding Labels"] = np.where(rng.random(len(table)) < 0.5, HEALTHY, ["|".join(pair) for pair in pairs])  # noqa: PLR2004
    table["Patient Age"] = rng.integers(1, 95, len(table))
    table["Patient Gender"] = rng.choice(["M", "F"], len(table))
    table["View Position"] = rng.choice(["PA", "AP"], len(table))
    table.to_csv(root / "Data_Entry_2017_v2020.csv", index=False)
    first_tested = table["Patient ID"].iloc[-TESTED]
    tested = table["Patient ID"] >= first_tested
    for name, chosen in {"test_list.txt": tested, "train_val_list.txt": ~tested}.items():
        (root / name).write_text("\n".join(table["Image Index"][chosen]), encoding="utf-8")
    folder_of = np.repeat(np.arange(len(FOLDERS)), FOLDERS)
    for number, names in table["Image Index"].groupby(folder_of):
        folder = root / f"images_{number + 1:03d}" / "images"
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch()


def seconds(action: Callable[[], object]) -> float:
    """Return the duration of an action in seconds."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main(output: Path = Path("results/nih_index"), repetitions: int = 3, images: int = 20) -> None:
    """Measure indexing and verification.

    Args:
        output: Folder for the figures.
        repetitions: Repetitions of each value of `draw`.
        images: Phantoms to check.
    """
    output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as name:
        root = Path(name)
        write_tree(root)
        index = [
            {"draw": draw, "repetition": repetition, "seconds": seconds(NihChestXray14(root, draw=draw).list_samples)}
            for repetition in range(repetitions)
            for draw in ("dissertation", "official")
        ]
    with TemporaryDirectory() as name:
        paths = sorted((write_phantoms(Path(name, "set"), n_normal=images, n_sick=0, size=1024) / "CXR_png").iterdir())
        check = [
            {"check": check, "milliseconds_an_image": 1000 * seconds(lambda: [*map(CHECKS[check], paths)]) / images}  # noqa: B023
            for check in CHECKS
        ]
    for table, rows in {"index": index, "check": check}.items():
        pd.DataFrame(rows).to_csv(output / f"{table}.csv", index=False, float_format="%.3g")
    write_record({**code_record(), "cores": os.cpu_count(), "images": sum(FOLDERS)}, output / "run.json")


if __name__ == "__main__":
    auto_cli(main, as_positional=True)
