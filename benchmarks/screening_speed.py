"""Throughput, processor time and memory of `anomalib-cxr screen`, beside decoders alone.

    python benchmarks/screening_speed.py MODEL --output results/screening_speed

Screens phantoms of 256 pixels as PNG, and of 4020 x 4892 pixels and 16 bits as PNG and as DICOM, with the real
command. The start-up is measured by a screening of one file and subtracted. Decoders then read the same files in a
thread for each core: the limit. `share` is the rate of `screen` as a share of theirs, by processor time, which a busy
machine changes less. Writes `screening_speed.csv` and `run.json`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import cv2
import imagecodecs
import numpy as np
import pandas as pd
import pydicom
import torch
from jsonargparse import auto_cli
from PIL import Image

from anomalib_cxr.data.phantom.dicom import write_phantom_dicom
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.reading.dicomdir import dicomdir_files
from anomalib_cxr.utils.provenance import code_record, write_record

ORIGINAL = (4892, 4020)
"""Height and width of the larger X-rays of Montgomery, in pixels."""


class Usage(NamedTuple):
    """Resources that a command or a decoder used."""

    seconds: float
    processor_seconds: float
    """Of all cores, user and system."""
    memory_mib: float = 0.0
    """Peak of the resident memory."""


def _pillow(path: Path) -> Any:
    return np.asarray(Image.open(path))


def _pyvips(path: Path) -> Any:
    import pyvips  # noqa: PLC0415  # a rival, which the project does not install

    return pyvips.Image.new_from_file(str(path)).numpy()


DECODERS: dict[str, dict[str, Callable[[Path], Any]]] = {
    ".png": {
        "Pillow": _pillow,
        "imagecodecs": lambda path: imagecodecs.png_decode(path.read_bytes()),
        "OpenCV": lambda path: cv2.imread(str(path), cv2.IMREAD_UNCHANGED),
        "pyvips": _pyvips,
    },
    ".dcm": {"pydicom": lambda path: pydicom.dcmread(path).pixel_array},
}
"""Decoders alone, by the suffix of the files."""


def decode(files: list[Path], decoder: Callable[[Path], Any]) -> Usage:
    """Decode files in a thread for each core."""
    began, processor = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda path: decoder(path).shape, files):  # the pixels are let go
            pass
    return Usage(time.perf_counter() - began, time.process_time() - processor)


_MEASURED = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
"""
"""A small process between: the peak of the memory of a process is at least that of the one that started it."""


def screen(archive: Path, model: Path, output: Path) -> Usage:
    """Screen a folder."""
    words = ["screen", str(archive), "--model", str(model), "--worklist", str(output), "--any_source"]
    command = [sys.executable, "-c", "from anomalib_cxr.cli import main; main()", *words]
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _MEASURED, *command], capture_output=True, text=True, check=True)  # noqa: S603
    seconds = time.perf_counter() - began
    status, *usage = map(float, done.stdout.split())
    if status:
        sys.exit(f"{' '.join(words)}: ended with {status}")
    return Usage(seconds, *usage)


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
    """Screen one file, then all, and decode them, repeatedly; return rates, processor time and memory."""
    files = sorted(archive.iterdir())
    single = folder / "single"
    shutil.rmtree(single, ignore_errors=True)
    single.mkdir()
    shutil.copy(files[0], single)
    decoders = {name: decoder for name, decoder in DECODERS[files[0].suffix].items() if is_installed(decoder, files[0])}
    turns = []
    for repetition in range(repetitions):
        start_up = screen(single, model, folder / f"one-{archive.name}-{repetition}")
        whole = screen(archive, model, folder / f"all-{archive.name}-{repetition}")
        alone = {name: decode(files, decoder).processor_seconds / len(files) for name, decoder in decoders.items()}
        processor = (whole.processor_seconds - start_up.processor_seconds) / (len(files) - 1)
        turns.append({
            "images_a_second": (len(files) - 1) / (whole.seconds - start_up.seconds),
            "processor_ms": 1000 * processor,
            **{f"{name}_ms": 1000 * seconds for name, seconds in alone.items()},
            "share": min(alone.values()) / processor,
            "start_seconds": start_up.seconds,
            "memory_mib": whole.memory_mib,
        })  # fmt: skip
    table = pd.DataFrame(turns)
    return {"images": len(files), **table.median().to_dict(), "slowest": table.images_a_second.min(),
            "fastest": table.images_a_second.max(), "memory_mib": table.memory_mib.max()}  # fmt: skip


def is_installed(decoder: Callable[[Path], Any], file: Path) -> bool:
    """Tell whether a decoder is installed, and has read a file once."""
    try:
        decoder(file)
    except ImportError:
        return False
    return True


def main(
    model: Path,
    output: Path = Path("results/screening_speed"),
    small: int = 1000,
    large: int = 24,
    repetitions: int = 3,
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
