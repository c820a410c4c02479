"""Throughput and memory of `anomalib-cxr screen`.

    python benchmarks/screening_speed.py MODEL --output results/screening_speed

Screens phantoms of 256 pixels as PNG, and of 4020 x 4892 pixels and 16 bits as PNG and as DICOM, with the real
command. The start-up time is measured by a screening of one file and subtracted. Writes `screening_speed.csv` and
`run.json`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import torch
from jsonargparse import auto_cli
from PIL import Image

from anomalib_cxr.data.phantom.dicom import write_phantom_dicom
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.reading.discovery import dicomdir_files
from anomalib_cxr.utils.provenance import code_record, write_record

ORIGINAL = (4892, 4020)
"""Height and width of the larger X-rays of Montgomery, in pixels."""


def screen(archive: Path, model: Path, output: Path) -> tuple[float, float]:
    """Screen a folder; return the seconds, and the peak resident memory in MiB."""
    words = ["screen", str(archive), "--model", str(model), "--worklist", str(output), "--any_source"]
    command = [sys.executable, "-c", "from anomalib_cxr.cli import main; main()", *words]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(words)}: ended with {status}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def make_archives(folder: Path, small: int, large: int) -> dict[str, Path]:
    """Create the archives; return their folders by content."""
    drawn = write_phantoms(folder / "small", n_normal=small // 2, n_sick=small - small // 2, size=256)
    few = write_phantoms(folder / "few", n_normal=large // 2, n_sick=large - large // 2, size=1024, bits=16)
    png, dicom = folder / "png", folder / "dicom"
    png.mkdir()
    dicom.mkdir()
    header = pydicom.dcmread(dicomdir_files(write_phantom_dicom(few) / "DICOMDIR")[0])
    for path in sorted((few / "CXR_png").iterdir()):
        levels = torch.from_numpy(np.asarray(Image.open(path), np.float32))[None, None]
        large_levels = (
            torch.nn.functional.interpolate(levels, ORIGINAL, mode="bilinear")[0, 0].numpy().astype(np.uint16)
        )
        large_levels += np.random.default_rng(0).integers(0, 64, ORIGINAL, dtype=np.uint16)  # grain, as detectors have
        Image.fromarray(large_levels).save(png / path.name)
        header.Rows, header.Columns = ORIGINAL
        header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
        header.PhotometricInterpretation, header.PixelData = "MONOCHROME2", large_levels.tobytes()
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        header.save_as(dicom / f"{path.stem}.dcm")
    return {"256 x 256, PNG": drawn / "CXR_png", "4020 x 4892, PNG, 16 bits": png, "4020 x 4892, DICOM, 16 bits": dicom}


def measure(archive: Path, model: Path, folder: Path, repetitions: int) -> dict[str, Any]:
    """Screen one file, then all, repeatedly; return images a second and memory."""
    files = sorted(archive.iterdir())
    single = folder / "single"
    shutil.rmtree(single, ignore_errors=True)
    single.mkdir()
    shutil.copy(files[0], single)
    rates, memory = [], 0.0
    for repetition in range(repetitions):
        start_up, _ = screen(single, model, folder / f"one-{archive.name}-{repetition}")
        seconds, resident = screen(archive, model, folder / f"all-{archive.name}-{repetition}")
        rates.append((len(files) - 1) / (seconds - start_up))
        memory = max(memory, resident)
    return {"images": len(files), "images_a_second": float(np.median(rates)), "slowest": min(rates),
            "fastest": max(rates), "start_seconds": start_up, "memory_mib": memory}  # fmt: skip


def main(
    model: Path, output: Path = Path("results/screening_speed"), small: int = 400, large: int = 24, repetitions: int = 3
) -> None:
    """Measure, print and write.

    Args:
        model: Folder of a calibrated model.
        output: Folder of the results.
        small: Phantoms of 256 pixels.
        large: Phantoms of the size of originals.
        repetitions: Of each measurement.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        archives = make_archives(folder, small, large)
        rows = [{"archive": what, **measure(archive, model, folder, repetitions)} for what, archive in archives.items()]
    table = pd.DataFrame(rows)
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "screening_speed.csv", index=False, float_format="%.3g")
    write_record({**code_record(), "cores": os.cpu_count(), "rows": rows}, output / "run.json")
    print(table.to_string(index=False))  # noqa: T201


if __name__ == "__main__":
    auto_cli(main)
