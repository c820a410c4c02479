"""Measure an epoch of reading from the cache, against anomalib's `Folder` on the same files.

    python benchmarks/reading.py --output results/reading

Draws phantoms of 4020 x 4892 pixels at 16 bits, with lung masks, and reads all of them as a training at 256 pixels
does, by as many loading processes as there are cores: by `Folder`, for the first time (which verifies all files,
decodes them and fills the cache), and from the cache. Resident memory is that of this process, without loading
processes, before and after an epoch from the cache, for more and more images. Writes `reading.csv`, `memory.csv` and
`run.json`. Takes some 20 minutes on two cores, and 10 GB of disk.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import torch
from anomalib.data import Folder
from jsonargparse import auto_cli
from measuring import copy_rate, ratio, take_turns
from PIL import Image
from rich.progress import track
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import Resize

from anomalib_cxr.data.datasets.dataset import RoiDataset
from anomalib_cxr.data.datasets.image_cache import ImageCache
from anomalib_cxr.data.datasets.verification import sample_paths
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.models.base.pre_processor import RoiPreProcessor
from anomalib_cxr.utils.provenance import code_record, write_record

ORIGINAL = (4892, 4020)
"""Height and width of the larger X-rays of Montgomery, in pixels."""
SIZE = 256
DRAWN = 20
"""Phantoms that are drawn; the others are copies of them."""


def enlarge(path: Path, noise_seed: int | None) -> Image.Image:
    """Return an image at the size of an original, with noise of a seed; a mask without noise."""
    levels = torch.from_numpy(np.asarray(Image.open(path), np.float32))[None, None]
    if noise_seed is None:  # a mask
        return Image.fromarray(torch.nn.functional.interpolate(levels, ORIGINAL)[0, 0].numpy().astype(np.uint8))
    large = torch.nn.functional.interpolate(levels, ORIGINAL, mode="bilinear")[0, 0].numpy().astype(np.uint16)
    return Image.fromarray(large + np.random.default_rng(noise_seed).integers(0, 64, ORIGINAL, dtype=np.uint16))


def draw_originals(folder: Path, n_images: int) -> Path:
    """Draw a data folder of phantoms of the size of originals."""
    small = write_phantoms(folder / "small", n_normal=DRAWN, n_sick=0, size=1024, bits=16)
    root = folder / "originals"
    for name in ("CXR_png", "masks"):
        (root / name).mkdir(parents=True)
    for number in track(range(n_images), "Drawing"):
        source, target = f"PHANTOM_{number % DRAWN:04d}_0.png", f"PHANTOM_{number:04d}_0.png"
        for name, noise_seed in (("CXR_png", number), ("masks", None)):
            if number < DRAWN:
                enlarge(small / name / source, noise_seed).save(root / name / target, compress_level=1)
            else:
                shutil.copy(root / name / source, root / name / target)
    return root


def folder_dataset(root: Path, pre_processor: RoiPreProcessor) -> Dataset:
    """Return anomalib's dataset of the same files."""
    datamodule = Folder("originals", "CXR_png", root, test_split_mode="none", val_split_mode="none")
    datamodule.trainer = SimpleNamespace(model=SimpleNamespace(pre_processor=pre_processor))
    datamodule.setup()
    return datamodule.train_data


def cache_size(cache: ImageCache) -> int:
    """Return the bytes of all array files of a cache."""
    return sum(path.stat().st_size for path in cache.directory.glob("*.npz"))


def epoch(dataset: Dataset, workers: int) -> None:
    """Read all images in batches."""
    for _ in DataLoader(dataset, batch_size=32, collate_fn=dataset.collate_fn, num_workers=workers):
        pass


def measure_time(root: Path, folder: Path, repetitions: int) -> tuple[pd.DataFrame, int]:
    """Time an epoch in each way; return the table, and the bytes of the cache."""
    pre_processor, workers = RoiPreProcessor(SIZE), os.cpu_count() or 1
    resize = next(step for step in pre_processor.transform.transforms if isinstance(step, Resize))
    samples = make_samples(root)
    table = list(sample_paths(samples))
    anomalib_folder = folder_dataset(root, pre_processor)
    dataset = RoiDataset(samples, resize)
    caches = []

    def first() -> None:
        caches.append(ImageCache(root, resize, folder / f"caches-{len(caches)}"))
        caches[-1].fill(table)
        dataset.cache = caches[-1]
        epoch(dataset, workers)

    jobs = {
        "Folder": lambda: epoch(anomalib_folder, workers),
        "first pass": first,
        "from the cache": lambda: epoch(dataset, workers),
    }
    seconds = take_turns(jobs, repetitions, warm_up=0)
    rows = [
        {"epoch": name, "images": len(table), "seconds": np.median(each), **ratio(seconds["Folder"], each)}
        for name, each in seconds.items()
    ]
    return pd.DataFrame(rows), cache_size(caches[-1])


def draw_noise(root: Path, n_images: int) -> Path:
    """Write a data folder of noise at the size of the network."""
    for name in ("CXR_png", "masks"):
        (root / name).mkdir(parents=True)
    rng, mask = np.random.default_rng(0), np.zeros((SIZE, SIZE), np.uint8)
    mask[SIZE // 4 : -SIZE // 4, SIZE // 4 : -SIZE // 4] = 255
    for number in range(n_images):
        name = f"PHANTOM_{number:04d}_0.png"
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE), np.uint8)).save(root / "CXR_png" / name, compress_level=1)
        Image.fromarray(mask).save(root / "masks" / name, compress_level=1)
    return root


def measure_memory(folder: Path, counts: tuple[int, ...]) -> pd.DataFrame:
    """Measure resident memory of this process after reading more and more images from a cache."""
    resize, rows = Resize((SIZE, SIZE)), []
    for count in counts:
        root = draw_noise(folder / f"noise-{count}", count)
        dataset = RoiDataset(make_samples(root), resize)
        dataset.cache = ImageCache(root, resize, folder / "caches")
        dataset.cache.fill(list(sample_paths(dataset.samples)))
        before = psutil.Process().memory_info().rss
        epoch(dataset, 0)
        after = psutil.Process().memory_info().rss
        size = cache_size(dataset.cache)
        rows.append(
            {"images": count, "cache_mb": size / 1e6, "resident_mb": after / 1e6, "grown_by_mb": (after - before) / 1e6}
        )
    return pd.DataFrame(rows)


def main(
    output: Path = Path("results/reading"),
    images: int = 300,
    repetitions: int = 3,
    counts: tuple[int, ...] = (300, 1000, 3000),
) -> None:
    """Measure, print and write.

    Args:
        output: Folder of the results.
        images: Phantoms of the size of originals.
        repetitions: Of each epoch.
        counts: Numbers of images at which memory is measured.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        root = draw_originals(folder, images)
        megabytes = sum(path.stat().st_size for path in root.rglob("*.png")) / 1e6
        table, cached = measure_time(root, folder, repetitions)
        memory = measure_memory(folder, counts)
    rates = {"copy_bytes_a_second": copy_rate(), "files_mb": megabytes, "cache_mb": cached / 1e6}
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "reading.csv", index=False, float_format="%.4g")
    memory.to_csv(output / "memory.csv", index=False, float_format="%.4g")
    record = {**code_record(), "cores": os.cpu_count(), **rates}
    write_record(
        {**record, "reading": table.to_dict("records"), "memory": memory.to_dict("records")}, output / "run.json"
    )
    print(table.to_string(index=False), memory.to_string(index=False), rates, sep="\n\n")  # noqa: T201


if __name__ == "__main__":
    auto_cli(main)
