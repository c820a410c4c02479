"""Measure the detection of single parts of LungAtlas, and the effect of their size and frame.

    python benchmarks/atlas_parts.py --root datasets/montgomery_shenzhen --output results/atlas_parts

For each split of `configs/data/detection_splits.csv`, a segmenter is trained on the training images, the lungs are
aligned to the frame, and each variant of a part is fitted, cross-fitted, adjusted for exposure as in the model, and
scored on the test images. Takes some minutes a split. Writes `parts.csv` (a row per variant, split and metric) and
`run.json`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jsonargparse import auto_cli
from scipy import ndimage

from anomalib_cxr import MontgomeryShenzhen
from anomalib_cxr.evaluation.metrics.exposure_adjusted import evaluate_adjusted, measure_exposure
from anomalib_cxr.evaluation.metrics.screening_metrics import AUROC, HOSPITAL_AUROC, evaluate_scores
from anomalib_cxr.evaluation.scores import NORMAL, SICK, image_name
from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.functional.alignment import EDGE_SIGMA, MIN_ROW_WIDTH, Rows, find_rows, standard_rows
from anomalib_cxr.functional.frames import rows_grid, to_frame
from anomalib_cxr.models.base.exposure import ExposureAdjustment, crop_lungs
from anomalib_cxr.models.lung_atlas.fitting import cross_fit, draw_folds
from anomalib_cxr.models.lung_atlas.neighbors import PatchNeighbors
from anomalib_cxr.models.lung_atlas.parts import (
    FRAME,
    AtlasPart,
    SubspaceResidual,
    by_lungs,
    locally,
    score_in_batches,
)
from anomalib_cxr.models.lung_atlas.texture import TextureResidual
from anomalib_cxr.models.lung_atlas.torch_model import LungAtlasModel
from anomalib_cxr.segmentation.postprocessing import clean_mask
from anomalib_cxr.segmentation.training import fit_segmenter
from anomalib_cxr.utils.provenance import code_record, write_record

logger = logging.getLogger(__name__)

TABLE = "configs/data/detection_splits.csv"
SIZE, STEPS, N_FOLDS = 128, 400, 4
ALL = 10_000  # patches per position: more than there are
VARIANTS: dict[str, Callable[[], AtlasPart]] = {
    "residual_local, 400 components": lambda: SubspaceResidual(locally, 400),
    "residual_local, 200 components": lambda: SubspaceResidual(locally, 200),
    "residual_local, 60 components": lambda: SubspaceResidual(locally, 60),
    "residual_lungs, 400 components": lambda: SubspaceResidual(by_lungs, 400),
    "neighbors, all dimensions, all patches": lambda: PatchNeighbors(locally, 100, ALL),
    "neighbors, 24 dimensions, 2048 patches": lambda: PatchNeighbors(locally, 24, 2048),
    "neighbors, 24 dimensions, 1024 patches": lambda: PatchNeighbors(locally, 24, 1024),
    "neighbors, 24 dimensions, 512 patches": lambda: PatchNeighbors(locally, 24, 512),
    "neighbors, 16 dimensions, 512 patches": lambda: PatchNeighbors(locally, 16, 512),
    "texture, 200 components": lambda: TextureResidual(200),
}
IN_ALL_FRAMES = "residual_local, 400 components"
"""Variant that is also measured in frames from connected components."""


def component_rows(probability: torch.Tensor) -> Rows:
    """Find ends and edges of the lungs from their largest connected components, without quantiles.

    Args:
        probability: Probability of lung, `(B, 1, R, C)`.

    Returns:
        Rows of both lungs.
    """
    by_image = [_component_rows(lungs) for lungs in (probability[:, 0] > 0.5).numpy()]  # noqa: PLR2004
    return Rows(*(torch.tensor(np.stack(side), dtype=torch.float32) for side in zip(*by_image, strict=True)))


def _component_rows(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float64], ...]:
    labels, count = ndimage.label(clean_mask(mask))
    if count != 2:  # noqa: PLR2004  # two lungs
        return tuple(side[0].numpy() for side in standard_rows(mask.shape[0]))
    by_column = sorted(range(1, 3), key=lambda lung: ndimage.center_of_mass(labels == lung)[1])
    return tuple(map(np.stack, zip(*(_edges(labels == lung) for lung in by_column), strict=True)))


def _edges(lung: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float64], ...]:
    height, width = lung.shape
    rows, columns = np.flatnonzero(lung.any(axis=1)), np.flatnonzero(lung.any(axis=0))
    first, last = lung[rows].argmax(axis=1), width - lung[rows, ::-1].argmax(axis=1)
    edges = [np.interp(np.arange(height), rows, edge / width) for edge in (first, last)]
    left, right = (ndimage.gaussian_filter1d(edge, EDGE_SIGMA * height, mode="nearest") for edge in edges)
    half = np.maximum(right - left, MIN_ROW_WIDTH * (columns[-1] + 1 - columns[0]) / width) / 2
    middle = (left + right) / 2
    ends = np.array(rows[0] / height), np.array((rows[-1] + 1) / height)
    return *ends, middle - half, middle + half


class Split:
    """One split: its images, their predicted lungs, and their exposure."""

    def __init__(self, root: Path, seed: int) -> None:
        data = MontgomeryShenzhen(root=root, download=False, protocol="table", split_table=TABLE, seed=seed)
        data.setup()
        self.seed = seed
        self.samples = {"train": data.train_data.samples, "val": data.val_data.samples, "test": data.test_data.samples}
        self.images = {name: _images(getattr(data, f"{name}_data")) for name in self.samples}
        lungs = torch.cat([_reduced(mask) for mask in _masks(data.train_data)])
        torch.manual_seed(seed)
        model = LungAtlasModel(SIZE, n_bank=1)
        segmenter = model.segmenter.network.requires_grad_()
        fit_segmenter(segmenter, self.images["train"], lungs > 0.5, steps=STEPS, seed=seed)  # noqa: PLR2004
        with torch.no_grad():
            self.lungs = {name: model.segmenter(gray) for name, gray in self.images.items()}
        self.crops = {name: crop_lungs(gray, self.lungs[name]) for name, gray in self.images.items()}
        self.true_exposures = measure_exposure(
            self.samples["train"], pd.concat([self.samples["val"], self.samples["test"]])
        )

    def measure_all(self) -> Iterator[pd.DataFrame]:
        """Measure every variant, and one of them in frames from connected components.

        Yields:
            One table per variant.
        """
        quantiles = {name: find_rows(lungs, standard_rows(SIZE)) for name, lungs in self.lungs.items()}
        for variant, make in VARIANTS.items():
            yield self.measure(variant, make(), quantiles)
        components = {name: component_rows(lungs) for name, lungs in self.lungs.items()}
        yield self.measure(f"{IN_ALL_FRAMES}, frame by connected components", VARIANTS[IN_ALL_FRAMES](), components)

    def measure(self, variant: str, part: AtlasPart, rows: Mapping[str, Rows]) -> pd.DataFrame:
        """Fit a part, adjust its scores for exposure, and evaluate them on the test images.

        Args:
            variant: Name of the variant.
            part: The part.
            rows: Rows of both lungs by subset.

        Returns:
            One row per metric and group.
        """
        frames = {name: to_frame((gray + 1) / 2, rows_grid(rows[name], FRAME)) for name, gray in self.images.items()}
        healthy = cross_fit(part, frames["train"], draw_folds(len(frames["train"]), N_FOLDS, self.seed))
        adjustment = ExposureAdjustment(n_scores=1)
        adjustment.fit(healthy.score[:, None], self.crops["train"])
        tables = {}
        for name in ("val", "test"):
            scores = adjustment(score_in_batches(part, frames[name]).score[:, None], self.crops[name])
            tables[name] = _table(self.samples[name], scores[:, 0].numpy())
        normal = tables["val"][tables["val"].label == NORMAL]
        figures = pd.concat([
            evaluate_scores(tables["test"], [AUROC, HOSPITAL_AUROC]),
            evaluate_adjusted(pd.concat([tables["test"], normal]), self.true_exposures),
        ])  # fmt: skip
        logger.info("split %d: %s: %.3f", self.seed, variant, figures.value.iloc[0])
        megabytes = sum(value.numel() for value in part.state_dict().values()) * 4e-6
        measured: pd.DataFrame = figures.assign(variant=variant, split=self.seed, megabytes=megabytes)
        return measured


def _images(dataset: Any) -> torch.Tensor:
    """Return reduced images in [-1, 1], `(N, 1, SIZE, SIZE)`."""
    return torch.cat([_reduced(dataset[number].image[None, :1] * 2 - 1) for number in range(len(dataset))])


def _masks(dataset: Any) -> Iterator[torch.Tensor]:
    for number in range(len(dataset)):
        yield dataset[number].roi_mask[None, None].float()


def _reduced(image: torch.Tensor) -> torch.Tensor:
    return antialiased_resize(image, (SIZE, SIZE))


def _table(samples: pd.DataFrame, scores: npt.NDArray[np.float32]) -> pd.DataFrame:
    labels = samples.label_index.map({0: NORMAL, 1: SICK})
    names = [image_name(path) for path in samples.image_path]
    table: pd.DataFrame = pd.DataFrame({"image": names, "source": samples.source, "label": labels, "score": scores})
    return table


def main(root: Path, output: Path, splits: tuple[int, ...] = (0, 1, 2, 3, 4)) -> None:
    """Measure the parts and write the results.

    Args:
        root: Folder with the data, in any supported layout.
        output: Folder for the results.
        splits: Columns of the table of splits.
    """
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("anomalib_cxr.data").setLevel(logging.WARNING)
    table = pd.concat([table for seed in splits for table in Split(root, seed).measure_all()])
    output.mkdir(parents=True, exist_ok=True)
    chosen = ["variant", "split", "group", "metric", "value", "low", "high", "n_normal", "n_sick", "megabytes"]
    table[chosen].round(4).to_csv(output / "parts.csv", index=False)
    write_record(code_record() | {"splits": splits, "size": SIZE, "segmenter_steps": STEPS}, output / "run.json")
    pooled = table[(table.group == "pooled")].pivot_table(index="variant", columns="metric", values="value", sort=False)
    print(pooled.round(3).to_string())  # noqa: T201


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
