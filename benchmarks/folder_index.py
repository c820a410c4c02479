"""Measure the indexing of a folder of one's own X-rays, and the comparison of all of them.

    python benchmarks/folder_index.py --output results/folder_index

Writes small DICOM files of as many patients as there are files, and times what `ChestXrayFolder` does before it decodes
an image: finding files and reading headers, looking for identical files, splitting. Then times the search for near
copies on random hashes of as many images. Writes `index.csv` and `run.json`.
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

from anomalib_cxr import ChestXrayFolder
from anomalib_cxr.data.datasets.near_copies import near_copies
from anomalib_cxr.data.phantom.dicom import write_phantom_dicom
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.sources.identical_files import find_copies
from anomalib_cxr.data.sources.patient_splits import split_by_patient
from anomalib_cxr.utils.provenance import code_record, write_record

SHARES = {"val": 0.1, "test": 0.2}
N_BITS = 255
FILES_IN_A_FOLDER = 1000


def write_files(root: Path, count: int) -> None:
    """Write copies of a DICOM phantom, each with another Patient ID of the same length; one in ten is sick."""
    with TemporaryDirectory() as name:
        copy = write_phantom_dicom(write_phantoms(Path(name, "set"), n_normal=1, n_sick=0, size=32))
        content = next(path for path in copy.rglob("IM*")).read_bytes()
    for number in range(count):
        folder = root / ("healthy" if number % 10 else "sick") / str(number // FILES_IN_A_FOLDER)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"IM{number}").write_bytes(content.replace(b"PHANTOM_0000_0", f"PATIENT_{number:06d}".encode()))


def main(output: Path = Path("results/folder_index"), count: int = 100_000) -> None:
    """Measure a folder.

    Args:
        output: Folder for the figures.
        count: Number of files.
    """
    output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []

    def measured(step: str, action: Callable[[], object]) -> object:
        wall, processor = time.perf_counter(), time.process_time()
        result = action()
        rows.append({"step": step, "wall": time.perf_counter() - wall, "processor": time.process_time() - processor})
        return result

    with TemporaryDirectory() as name:
        write_files(Path(name), count)
        datamodule = ChestXrayFolder(name, "healthy", "sick")
        samples = measured("files and headers", datamodule.list_samples)
        measured("identical files", lambda: find_copies(samples))
    splits = measured("splits", lambda: split_by_patient(samples, SHARES, seed=0))
    hashes = np.random.default_rng(0).random((count, N_BITS)) > 0.5  # noqa: PLR2004
    measured("near copies", lambda: near_copies(hashes, list(splits)))
    pd.DataFrame(rows).to_csv(output / "index.csv", index=False, float_format="%.3g")
    write_record({**code_record(), "cores": os.cpu_count(), "files": count}, output / "run.json")


if __name__ == "__main__":
    auto_cli(main, as_positional=True)
