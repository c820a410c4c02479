"""Decisions on spoilt phantoms: blurred, smoothed in the lungs, reduced, squeezed or noisy ones.

    python benchmarks/spoilt_images.py MODEL --output results/spoilt_images

MODEL is the folder of a model that is calibrated on phantoms of 256 pixels, as that of the tutorial. New phantoms are
drawn, half of them sick, spoilt in each way, written as PNG of 8 bits, and screened as any file. No sick and spoilt one
should be ruled out. By default 50 sick ones are spoilt in 12 ways, which makes 600. Writes `spoilt_images.csv`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from jsonargparse import auto_cli
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from scipy.ndimage import gaussian_filter

from anomalib_cxr.data.phantom.drawing import Phantom, draw_phantom
from anomalib_cxr.data.phantom.findings import FINDINGS
from anomalib_cxr.data.reading.downsampling import downsample
from anomalib_cxr.screening.case import Decision
from anomalib_cxr.screening.pipeline.screener import Screener, ScreenerSettings
from anomalib_cxr.utils.provenance import code_record, write_record

Gray = NDArray[np.floating]
Spoiling = Callable[[Phantom, np.random.Generator], Gray]


def _blurred(sigma: float) -> Spoiling:
    return lambda phantom, _: gaussian_filter(phantom.image, sigma)


def _smooth_lungs(sigma: float) -> Spoiling:
    def spoil(phantom: Phantom, _: np.random.Generator) -> Gray:
        weight = gaussian_filter(phantom.lungs.astype(float), 2)
        return np.asarray((1 - weight) * phantom.image + weight * gaussian_filter(phantom.image, sigma))

    return spoil


def _resized(*sizes: tuple[float, float]) -> Spoiling:
    """Resize to each size in turn, which is a share of the height and the width."""

    def spoil(phantom: Phantom, _: np.random.Generator) -> Gray:
        image = phantom.image
        for height, width in sizes:
            image = downsample(image, (round(height * phantom.image.shape[0]), round(width * phantom.image.shape[1])))
        return image

    return spoil


def _framed(share: float) -> Spoiling:
    """Reduce to a share of the size, in the middle of a black image."""

    def spoil(phantom: Phantom, rng: np.random.Generator) -> Gray:
        small, image = _resized((share, share))(phantom, rng), np.zeros_like(phantom.image)
        top, left = ((whole - part) // 2 for whole, part in zip(image.shape, small.shape, strict=True))
        image[top : top + small.shape[0], left : left + small.shape[1]] = small
        return image

    return spoil


def _noisy(sigma: float, blur: float = 0.0) -> Spoiling:
    """Add noise, to a blurred image if blur is above 0."""
    return lambda phantom, rng: gaussian_filter(phantom.image, blur) + rng.normal(0, sigma, phantom.image.shape)


SPOILINGS: Mapping[str, Spoiling] = {
    "blurred, sigma 3 px": _blurred(3),
    "blurred, sigma 6 px": _blurred(6),
    "lungs smoothed, sigma 3 px": _smooth_lungs(3),
    "lungs smoothed, sigma 6 px": _smooth_lungs(6),
    "squeezed 1:3 in width": _resized((1, 1 / 3)),
    "squeezed 1:3 in height": _resized((1 / 3, 1)),
    "8 times smaller": _resized((1 / 8, 1 / 8)),
    "8 times smaller, enlarged again": _resized((1 / 8, 1 / 8), (1, 1)),
    "8 times smaller in a black frame": _framed(1 / 8),
    "noise of 0.2": _noisy(0.2),
    "noise of 0.4": _noisy(0.4),
    "blurred, sigma 6 px, and noise of 0.02": _noisy(0.02, blur=6),
}
"""What is done to phantoms, pixels being those of an image of 256."""


def write_spoilt(folder: Path, count: int, size: int, seed: int) -> pd.DataFrame:
    """Draw phantoms, half of them sick, and write each as it is and spoilt in each way.

    Args:
        folder: Empty folder to write into.
        count: Number of healthy ones and of sick ones.
        size: Height and width in pixels.
        seed: Seed of all draws.

    Returns:
        A row for each file: `path`, `spoilt` and `sick`.
    """
    rng = np.random.default_rng(seed)
    names = list(FINDINGS)
    rows = []
    for index in track(range(2 * count), "Phantoms"):
        sick = index >= count
        phantom = draw_phantom(rng, size, names[index % len(names)] if sick else None)
        images = {"as it is": phantom.image} | {name: spoil(phantom, rng) for name, spoil in SPOILINGS.items()}
        for place, (name, image) in enumerate(images.items()):
            path = folder / f"{index:04d}_{place:02d}.png"
            Image.fromarray((image.clip(0, 1) * 255).round().astype(np.uint8)).save(path)
            rows.append({"path": path, "spoilt": name, "sick": sick})
    return pd.DataFrame(rows)


def decide(model: Path, table: pd.DataFrame, output: Path) -> pd.DataFrame:
    """Screen the files of a table.

    Args:
        model: Folder of the calibrated model.
        table: Table of :func:`write_spoilt`.
        output: Folder of the heatmaps.

    Returns:
        The table with the columns `decision` and `why`.
    """
    batches = Screener(ScreenerSettings(model, output)).cases(table.path)
    cases = [case for batch in track(batches, "Screening") for case in batch]
    return table.assign(decision=[case.decision.value for case in cases], why=[case.why for case in cases])


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """Count files, refused ones and those ruled out, for healthy and sick ones and each way of spoiling."""
    decided = table.assign(
        refused=table.decision == Decision.REFUSED.value, ruled_out=table.decision == Decision.BELOW_THRESHOLD.value
    )
    groups = decided.groupby(["spoilt", "sick"], sort=False)
    return groups.agg(n=("path", "size"), refused=("refused", "sum"), ruled_out=("ruled_out", "sum")).reset_index()


def run(
    model: Path, output: Path = Path("results/spoilt_images"), count: int = 50, size: int = 256, seed: int = 1000
) -> None:
    """Draw, spoil, screen, print and write.

    Args:
        model: Folder of the calibrated model.
        output: Folder of the results.
        count: Number of healthy phantoms and of sick ones.
        size: Height and width of the phantoms in pixels, before some are reduced.
        seed: Seed of the phantoms, which should be none that the model knows.
    """
    output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        table = write_spoilt(Path(folder), count, size, seed)
        found = summarize(decide(model, table, Path(folder)))
    found.to_csv(output / "spoilt_images.csv", index=False)
    write_record({**code_record(), "count": count, "size": size, "seed": seed}, output / "spoilt_images.json")
    print(found.to_string(index=False))  # noqa: T201
    spoilt_sick = found[found.sick & (found.spoilt != "as it is")]
    print(f"sick and spoilt ones ruled out: {spoilt_sick.ruled_out.sum()} of {spoilt_sick.n.sum()}")  # noqa: T201


if __name__ == "__main__":
    auto_cli(run, as_positional=True)
