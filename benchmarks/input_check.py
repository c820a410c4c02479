"""Share of frontal chest X-rays that pass the input and quality checks, and of other images that are refused.

    python benchmarks/input_check.py images.csv --output results/input_check

The table has a row for each image: `image`, its path relative to the table; `kind`, the hospital of a frontal X-ray, or
what else it is; `frontal`, 0 or 1. The packaged check needs no calibration, so there is one result for all hospitals.
The X-rays of each hospital are also turned, inverted and cropped to a quarter; and there are parts of photographs
(those that come with scikit-learn and scikit-image), noise and blank images. Images that are not frontal are in two
halves, by their order in the table: the even rows served to choose the limit, the odd rows to measure. Writes
`input_check.csv`, and the wrongly refused and accepted images by name to `input_check_wrong.csv`.
"""

from __future__ import annotations

from collections.abc import Iterator
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

from anomalib_cxr.data.reading.downsampling import downsample
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.errors import RadiographError
from anomalib_cxr.evaluation.metrics.intervals import wilson_interval
from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.screening.pipeline.image_quality import quality_refusals, reduce_for_quality
from anomalib_cxr.screening.pipeline.input_check import WEIGHTS, InputCheck
from anomalib_cxr.segmentation.packaged import choose_segmenter
from anomalib_cxr.segmentation.postprocessing import find_lungs
from anomalib_cxr.utils.provenance import code_record, write_record

PARTS = 5
"""Number of parts of each photograph."""
SIDE = 256
_BUNDLED = (
    *("astronaut", "brick", "camera", "cat", "cell", "clock", "coffee", "coins", "grass", "gravel", "horse", "moon"),
    *("page", "retina", "rocket", "text"),
)


def photographs() -> Iterator[torch.Tensor]:
    """Yield square parts of photographs in [0, 1], `(1, SIDE, SIDE)`."""
    pictures = [*load_sample_images().images, *(getattr(skimage.data, name)() for name in _BUNDLED)]
    rng = np.random.default_rng(0)
    for picture in pictures:
        levels = np.asarray(Image.fromarray(picture[..., :3] if picture.ndim > 2 else picture).convert("L"), np.float32)  # noqa: PLR2004
        for _ in range(PARTS):
            size = int(rng.integers(min(levels.shape) // 3, min(levels.shape) + 1))
            top, left = (int(rng.integers(0, length - size + 1)) for length in levels.shape)
            part = torch.from_numpy(levels[top : top + size, left : left + size] / 255)[None, None]
            yield antialiased_resize(part, (SIDE, SIDE))[0]


def changed(image: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield a frontal X-ray, `(1, H, W)`, changed in each way, with the name of the way."""
    yield "turned by 90 degrees to the left", image.rot90(1, (-2, -1))
    yield "turned by 90 degrees to the right", image.rot90(-1, (-2, -1))
    yield "turned by 180 degrees", image.rot90(2, (-2, -1))
    yield "inverted", 1 - image
    half = [length // 2 for length in image.shape[-2:]]
    for top, left in ((0, 0), (0, half[1]), (half[0], 0), (half[0], half[1])):
        yield "cropped to a quarter", image[:, top : top + half[0], left : left + half[1]]


class Checks:
    """The packaged input check and the quality check, with a segmenter."""

    def __init__(self, segmenter: Path | None) -> None:
        torch.set_num_threads(1)  # networks of this size only lose by more
        self.segmenter = choose_segmenter(segmenter).network
        self.input_check = InputCheck.load(WEIGHTS)

    def refusals(self, image: torch.Tensor) -> list[str]:
        """Return the reasons to refuse an image, `(1, H, W)`, as the screening does."""
        levels, side = image[0].numpy(), self.segmenter.image_size
        fine = reduce_for_quality(levels)
        with torch.inference_mode():
            reduced = torch.from_numpy(downsample(levels, (side, side)))[None, None]
            probability = self.segmenter(2 * reduced - 1)[0, 0].numpy()
        lungs = find_lungs(probability)
        return self.input_check.refusals(fine, lungs) or quality_refusals(levels.shape, fine, lungs)


def measure(checks: Checks, table: pd.DataFrame, every: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each image of the table, and for each changed and drawn one."""
    for number, row in track(list(table.iterrows()), "Images"):
        facts = {"image": row.image.name, "kind": row.kind, "frontal": row.frontal}
        try:
            image = read_radiograph(row.image)
        except RadiographError as error:
            yield {**facts, "why": f"not readable: {error.reason}"}
            continue
        half = "" if row.frontal else (" (limit)", " (measured)")[number % 2]
        yield {**facts, "kind": row.kind + half, "why": "; ".join(checks.refusals(image))}
        if row.frontal and number % every == 0:
            for way, other in changed(image):
                yield {"image": row.image.name, "kind": f"frontal, {way}", "frontal": False,
                       "why": "; ".join(checks.refusals(other))}  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    drawn = {
        "photographs": photographs(),
        "noise": (torch.rand(1, SIDE, SIDE, generator=draw) for _ in range(100)),
        "blank": (torch.full((1, SIDE, SIDE), gray) for gray in np.linspace(0, 1, 20)),
    }
    for kind, images in drawn.items():
        for number, image in enumerate(images):
            yield {"image": f"{number}", "kind": kind, "frontal": False, "why": "; ".join(checks.refusals(image))}


def summarize(answers: pd.DataFrame) -> pd.DataFrame:
    """Count the refused images of each kind, with the share and its 95 % interval."""
    found = answers.assign(refused=answers.why != "").groupby(["frontal", "kind"], sort=False)
    counts = found.agg(n=("image", "size"), refused=("refused", "sum")).reset_index()
    bounds = [wilson_interval(refused, n) for refused, n in zip(counts.refused, counts.n, strict=True)]
    low, high = np.transpose(bounds)
    return counts.assign(share=counts.refused / counts.n, low=low, high=high)


def run(
    images: Path, output: Path = Path("results/input_check"), segmenter: Path | None = None, every: int = 40
) -> None:
    """Measure, print and write.

    Args:
        images: Table of the images.
        output: Folder of the results.
        segmenter: File of a lung segmenter; None for that of the package.
        every: One of so many frontal X-rays is also turned, inverted and cropped.
    """
    table = pd.read_csv(images).astype({"frontal": bool})
    table["image"] = [images.parent / name for name in table.image]
    answers = pd.DataFrame(measure(Checks(segmenter), table, every))
    found = summarize(answers)
    output.mkdir(parents=True, exist_ok=True)
    found.to_csv(output / "input_check.csv", index=False, float_format="%.4f")
    answers[answers.frontal == (answers.why != "")].to_csv(output / "input_check_wrong.csv", index=False)
    write_record(code_record(), output / "input_check.json")
    print(found.round(4).to_string(index=False))  # noqa: T201


if __name__ == "__main__":
    auto_cli(run, as_positional=True)
