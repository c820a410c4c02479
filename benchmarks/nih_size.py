"""Time and memory of the steps before a training, on as many images as NIH ChestX-ray14 has.

    python benchmarks/nih_size.py --output results/nih_size

Draws phantoms of 224 pixels with noise of their own as the files of the set's 112 120 rows. Then runs `anomalib-cxr
segment predict` on all of them, and `anomalib train` with all images of the three splits, for one step: it draws,
verifies, and fills the cache at 64 pixels. The same with a fourth of the rows, to see what grows. Memory is the peak of
the command's process. Takes an hour of a core and 12 GB of disk. Writes `nih_size.csv` and `run.json`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from jsonargparse import auto_cli
from nih_index import write_tree
from PIL import Image
from rich.progress import track

from anomalib_cxr.data.phantom.drawing import draw_phantom
from anomalib_cxr.utils.provenance import code_record, write_record

SIZE = 224
DRAWN = 256
"""Phantoms that are drawn; the others are copies of them with other noise."""
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
TRAINING = (
    *("train", "--config", str(CONFIGS / "data" / "nih_chest_xray14.yaml")),
    *("--config", str(CONFIGS / "model" / "roi_l2.yaml"), "--data.init_args.num_workers", "0"),
    *("--data.init_args.n_train", "null", "--data.init_args.n_val", "null", "--data.init_args.n_test", "null"),
    *("--model.init_args.image_size", "64", "--model.init_args.network.n_features", "4"),
    *("--trainer.max_steps", "1", "--trainer.limit_val_batches", "1", "--trainer.limit_test_batches", "1"),
)


def fill_tree(root: Path, rows: int | None) -> int:
    """Write the images of a tree that :func:`nih_index.write_tree` made, of rows spread evenly; return their number."""
    rng = np.random.default_rng(0)
    drawn = [(255 * draw_phantom(rng, SIZE).image).astype(np.int16) for _ in range(DRAWN)]
    table = root / "Data_Entry_2017_v2020.csv"
    entries = pd.read_csv(table)
    kept = entries if rows is None else entries.iloc[:: len(entries) // rows]
    kept.to_csv(table, index=False)
    names = set(kept["Image Index"])
    files = sorted(root.glob("images_*/images/*.png"))
    for number, path in enumerate(track(files, "Drawing")):
        if path.name not in names:
            path.unlink()
            continue
        noise = rng.integers(-4, 5, (SIZE, SIZE), dtype=np.int16)
        levels = np.clip(drawn[number % DRAWN] + noise, 0, 255).astype(np.uint8)
        Image.fromarray(levels).save(path, compress_level=1)
    return len(names)


def run(words: Sequence[str], folder: Path) -> tuple[float, float]:
    """Run a command in a folder; return its seconds, and the peak of its memory in GB."""
    program = "from anomalib_cxr.cli import main" if words[0] == "segment" else "from anomalib.cli.cli import main"
    log = folder / "log.txt"
    began = time.perf_counter()
    with log.open("wb") as said:
        command = [sys.executable, "-c", f"{program}; main()", *words]
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)  # noqa: S603
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status and words[0] != "segment":  # which ends with 1 where an image has no lungs
        sys.exit(f"{' '.join(words)}: ended with {status}\n{log.read_text()[-3000:]}")
    return seconds, usage.ru_maxrss / 1024**2


def measure(folder: Path, rows: int | None) -> list[dict[str, Any]]:
    """Run both commands on a set of some rows, None for all; return what they took."""
    root = folder / "set"
    root.mkdir(parents=True)
    write_tree(root)
    images = fill_tree(root, rows)
    commands = {
        "lung masks": ("segment", "predict", "--root", str(root)),
        "draw, verify, cache": (
            *TRAINING,
            *("--data.init_args.root", str(root), "--data.init_args.cache_folder", str(folder / "cache")),
        ),
    }
    measured = []
    for step, words in commands.items():
        seconds, memory = run(words, folder)
        measured.append({"rows": images, "step": step, "seconds": seconds, "memory_gb": memory})
    return measured


def main(output: Path = Path("results/nih_size"), rows: tuple[int | None, ...] = (28_030, None)) -> None:
    """Measure, print and write.

    Args:
        output: Folder of the results.
        rows: Numbers of rows, approximate; null for all.
    """
    measured = []
    for count in rows:
        with TemporaryDirectory() as name:
            measured += measure(Path(name), count)
    table = pd.DataFrame(measured)
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "nih_size.csv", index=False, float_format="%.4g")
    write_record({**code_record(), "cores": os.cpu_count(), "rows": measured}, output / "run.json")
    print(table.to_string(index=False))  # noqa: T201


if __name__ == "__main__":
    auto_cli(main)
