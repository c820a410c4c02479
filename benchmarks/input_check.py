"""Acceptance and refusal rates of the input quality check, on real X-rays and on other images.

    python benchmarks/input_check.py MODEL datasets/montgomery_shenzhen --output results/input_check

MODEL is the folder of a calibrated model, whose lung segmenter is used. For each of the five splits of
`configs/data/detection_splits.csv` a check is fitted to the healthy training images. It should accept all other images,
sick ones too, and refuse the same ones turned, inverted or cropped to a quarter, parts of photographs (those that come
with scikit-learn and scikit-image), noise, and blank images. In addition, each hospital's images are checked by one
that was fitted to the other hospital alone. Writes `input_check.csv` and `input_check.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import skimage.data
import torch
from jsonargparse import auto_cli
from PIL import Image
from rich.progress import track
from sklearn.datasets import load_sample_images

from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.evaluation.metrics.intervals import wilson_interval
from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.screening.pipeline.input_check import InputCheck, fit_input_check
from anomalib_cxr.segmentation.deployed import SEGMENTER_GRAPH, ExportedSegmenter
from anomalib_cxr.utils.provenance import code_record, write_record

SPLITS = range(5)
PARTS = 20
"""Number of parts of each photograph."""
_BUNDLED = [
    "astronaut",
    "brick",
    "camera",
    "cat",
    "cell",
    "clock",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "horse",
    "moon",
    "page",
    "retina",
    "rocket",
    "text",
]


def photographs(side: int) -> torch.Tensor:
    """Return square parts of photographs in [0, 1], `(N, 1, side, side)`."""
    pictures = [*load_sample_images().images, *(getattr(skimage.data, name)() for name in _BUNDLED)]
    rng = np.random.default_rng(0)
    parts = []
    for picture in pictures:
        levels = np.asarray(Image.fromarray(picture[..., :3] if picture.ndim > 2 else picture).convert("L"), np.float32)  # noqa: PLR2004
        for _ in range(PARTS):
            size = int(rng.integers(min(levels.shape) // 3, min(levels.shape) + 1))
            top, left = (int(rng.integers(0, length - size + 1)) for length in levels.shape)
            part = torch.from_numpy(levels[top : top + size, left : left + size] / 255)[None, None]
            parts.append(antialiased_resize(part, (side, side)))
    return torch.cat(parts)


def quarters(images: torch.Tensor) -> torch.Tensor:
    """Return the four quarters of each image, at the full size."""
    side = images.shape[-1]
    half = side // 2
    parts = [images[..., top : top + half, left : left + half] for top in (0, half) for left in (0, half)]
    return antialiased_resize(torch.cat(parts), (side, side))


def variants(real: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the kinds of images by name, `(N, 1, S, S)`; the first one should pass."""
    side = real.shape[-1]
    yield "real", real
    yield "turned by 90 degrees", torch.cat([real.rot90(1, (-2, -1)), real.rot90(3, (-2, -1))])
    yield "turned by 180 degrees", real.rot90(2, (-2, -1))
    yield "inverted", 1 - real
    yield "cropped to a quarter", quarters(real)
    yield "photographs", photographs(side)
    draw = torch.Generator().manual_seed(0)
    yield "noise", torch.rand(400, 1, side, side, generator=draw)
    yield "blank", torch.linspace(0, 1, 20).reshape(-1, 1, 1, 1).expand(-1, 1, side, side)


def measure(input_check: InputCheck, segmenter: ExportedSegmenter, real: torch.Tensor) -> list[dict[str, Any]]:
    """Return the number of refused images of each kind, with its share and 95 % interval."""
    rows = []
    for kind, images in variants(real):
        lungs = np.concatenate([segmenter(part) for part in torch.split(images, 16)])
        refused = sum(bool(input_check.refusals(*pair)) for pair in zip(images, lungs, strict=True))
        low, high = wilson_interval(refused, len(images))
        rows.append({"kind": kind, "n": len(images), "refused": refused, "share": refused / len(images), "low": low,
                     "high": high})  # fmt: skip
    return rows


def run(model: Path, root: Path, output: Path = Path("results/input_check")) -> None:
    """Measure, print and write.

    Args:
        model: Folder of a calibrated model.
        root: Folder with the X-rays.
        output: Folder of the results.
    """
    segmenter = ExportedSegmenter(model / SEGMENTER_GRAPH)
    samples = make_samples(root)
    names = samples.image_path.map(lambda path: Path(path).name)
    table = pd.read_csv(Path(__file__).parents[1] / "configs/data/detection_splits.csv").set_index("image")
    samples, names = samples[names.isin(table.index)].reset_index(drop=True), names[names.isin(table.index)]
    images = torch.stack([segmenter.downsample(read_radiograph(path)) for path in track(samples.image_path, "Reading")])
    lungs = np.concatenate([segmenter(part) for part in torch.split(images, 16)])
    healthy = (samples.label_index == 0).to_numpy()
    ways: Mapping[str, np.ndarray] = {
        **{f"split {split}": (table.loc[names, str(split)] == "train").to_numpy() for split in SPLITS},
        **{f"{source} unknown": healthy & (samples.source != source).to_numpy() for source in samples.source.unique()},
    }
    rows = []
    for way, references in track(ways.items(), "Input checks"):
        input_check = fit_input_check(images[references], lungs[references], seed=0)
        others = ~references if way.startswith("split") else (samples.source == way.split()[0]).to_numpy()
        rows += [{"references": way, **row} for row in measure(input_check, segmenter, images[others])]
    found = pd.DataFrame(rows)
    output.mkdir(parents=True, exist_ok=True)
    found.to_csv(output / "input_check.csv", index=False, float_format="%.4f")
    write_record({**code_record(), "rows": rows}, output / "input_check.json")
    print(found.pivot_table(index="kind", columns="references", values="share", sort=False).round(4).to_string())  # noqa: T201


if __name__ == "__main__":
    auto_cli(run, as_positional=True)
