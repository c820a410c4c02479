"""Residual sheet: X-ray, reconstruction and anomaly map of example test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Trainer
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch.nn.functional import interpolate

from .canvas import BLUE, RED, new_figure
from .scores import NORMAL, SICK

MAX_SIDE = 512
"""Longest side of an image that is kept for a sheet, in pixels; radiographs have thousands."""

COLORS = colormaps["inferno"]
LESION = "#00e5ff"
TITLE = "Test images, chosen evenly over the scores of each class, from the lowest (top) to the highest (bottom)"
WIDTH = 2.4
"""Width of one image, in inches."""
TEXT_HEIGHT = 0.45
"""Height of the text under an image, in inches."""


@runtime_checkable
class ReconstructionModel(Protocol):
    """Torch model with a healthy reconstruction of its input, such as that of RoiSureGanomaly."""

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """Reconstruct preprocessed images `(B, C, H, W)`.

        Args:
            images: Output of the pre-processor, `(B, C, H, W)`.

        Returns:
            Gray values in [-1, 1], `(B, 1, H, W)`.
        """


@dataclass(frozen=True)
class SheetExample:
    """One test image of a sheet. Its images may differ in resolution and all cover the same field."""

    row: pd.Series
    """Row of :func:`anomalib_cxr.evaluation.scores.choose_examples`."""
    image: np.ndarray
    """X-ray in [0, 1], `(H, W)`."""
    anomaly_map: np.ndarray | None = None
    """Output of the model before normalization, `(h, w)`."""
    reconstruction: np.ndarray | None = None
    """Reconstructed region of interest in [0, 1], `(h, w)`."""
    lesion: np.ndarray | None = None
    """Lesion mask, bool, `(H, W)`."""


def test_dataset(trainer: Trainer) -> Any:
    """Return the dataset that a trainer tests.

    Args:
        trainer: The trainer.

    Returns:
        The dataset; None before a test.
    """
    loaders = trainer.test_dataloaders
    return getattr(loaders[0] if isinstance(loaders, list) else loaders, "dataset", None)


def score_images(trainer: Trainer, module: Any, dataset: Any, chosen: pd.DataFrame) -> list[SheetExample]:
    """Read chosen test images again and run the model on them, so that a test does not keep all its anomaly maps.

    Args:
        trainer: The trainer, during its test.
        module: The `AnomalibModule` under test.
        dataset: An `AnomalibDataset`, whose `samples` have a column `image_path`.
        chosen: Rows of :func:`anomalib_cxr.evaluation.scores.choose_examples`.

    Returns:
        One example per row.
    """
    indices = {str(path): index for index, path in enumerate(dataset.samples.image_path)}
    return [_score_image(trainer, module, dataset, indices[row.image_path], row) for _, row in chosen.iterrows()]


def _score_image(trainer: Trainer, module: Any, dataset: Any, index: int, row: pd.Series) -> SheetExample:
    item = dataset[index]
    batch = trainer.strategy.batch_to_device(dataset.collate_fn([item]))
    # A batch of one keeps the size of the image, which anomalib would equalize within a batch.
    if module.pre_processor is not None:
        module.pre_processor.on_test_batch_start(trainer, module, batch, 0)
    with trainer.precision_plugin.test_step_context():
        predicted = module.test_step(batch, 0)
        reconstruction = _reconstruct(module.model, batch.image)
    lesion = getattr(item, "gt_mask", None)
    return SheetExample(
        row=row,
        image=_reduced(item.image.mean(dim=0)),
        anomaly_map=None if predicted.anomaly_map is None else _array(predicted.anomaly_map.squeeze()),
        reconstruction=reconstruction,
        lesion=None if lesion is None else _reduced(lesion.squeeze()) > 0,
    )


def _reconstruct(model: Any, prepared: torch.Tensor) -> np.ndarray | None:
    """Return the reconstruction in [0, 1]; None for a model without one."""
    if not isinstance(model, ReconstructionModel):
        return None
    return _array((model.reconstruct(prepared).squeeze() + 1) / 2)


def _reduced(image: torch.Tensor) -> np.ndarray:
    """Reduce an image `(H, W)` to at most :data:`MAX_SIDE` by area averaging."""
    scale = min(1.0, MAX_SIDE / max(image.shape))
    size = [max(1, round(side * scale)) for side in image.shape]
    return _array(interpolate(image[None, None].float(), size=size, mode="area").squeeze())


def _array(image: torch.Tensor) -> np.ndarray:
    array: np.ndarray = image.detach().float().cpu().numpy()
    return array


def residual_sheet(examples: Sequence[SheetExample], tested: str = "") -> Figure:
    """Draw X-ray, reconstruction (if any), and anomaly map over the X-ray: normal images left, sick ones right.

    All anomaly maps share one color scale, so that normal and sick images can be compared. A known lesion is outlined
    on the anomaly map only, which leaves the X-ray unmarked.

    Args:
        examples: From :func:`score_images`, one at least.
        tested: Description of the tested weights, for the title.

    Returns:
        The figure.
    """
    titles = _titles(examples)
    by_class = [[example for example in examples if example.row.label == label] for label in (NORMAL, SICK)]
    classes = [chosen for chosen in by_class if chosen]
    grid_shape = max(map(len, classes)), len(titles) * len(classes)
    height = WIDTH * float(np.median([example.image.shape[0] / example.image.shape[1] for example in examples]))
    figure = new_figure(WIDTH * grid_shape[1] + 0.3, (height + TEXT_HEIGHT) * grid_shape[0] + 1.6)
    figure.set_layout_engine("constrained", hspace=TEXT_HEIGHT / height, h_pad=0.1)
    grid = figure.subplots(*grid_shape, squeeze=False)
    for panel in grid.flat:
        panel.set_axis_off()
    scale = _color_scale(examples)
    for chosen, block in zip(classes, np.split(grid, len(classes), axis=1), strict=True):
        for example, panels in zip(chosen, block, strict=False):
            _draw_example(dict(zip(titles, panels, strict=True)), example, scale)
        for panel, title in zip(block[0], titles.values(), strict=True):
            panel.set_title(title, fontsize=9)
    if "map" in titles:
        label = "anomaly map, output of the model"
        figure.colorbar(ScalarMappable(scale, COLORS), ax=grid, location="bottom", shrink=0.3, aspect=40, label=label)
    figure.suptitle(f"{TITLE}\n{tested}".strip(), fontsize=11)
    return figure


def _titles(examples: Sequence[SheetExample]) -> dict[str, str]:
    """Return the columns that have content, with their titles."""
    titles = {"image": "X-ray"}
    if any(example.reconstruction is not None for example in examples):
        titles["reconstruction"] = "reconstruction"
    if any(example.anomaly_map is not None for example in examples):
        outlined = any(example.lesion is not None and example.lesion.any() for example in examples)
        titles["map"] = "anomaly map" + (", true lesion outlined" if outlined else "")
    return titles


def _color_scale(examples: Sequence[SheetExample]) -> Normalize:
    """Return the common scale of all anomaly maps: 0 to 1, or for greater ones up to their few highest pixels."""
    maps = [example.anomaly_map.ravel() for example in examples if example.anomaly_map is not None]
    values = np.concatenate(maps) if maps else np.zeros(1)
    if values.min() >= 0 and values.max() <= 1:  # anomalib's scale, the same for all sheets
        return Normalize(0, 1)
    low, high = float(values.min()), float(np.quantile(values, 0.998))
    return Normalize(low, high if high > low else low + 1, clip=True)


def _draw_example(panels: dict[str, Axes], example: SheetExample, scale: Normalize) -> None:
    height, width = example.image.shape
    field = (0, width, height, 0)
    panels["image"].imshow(example.image, cmap="gray", vmin=0, vmax=1, extent=field)
    color = RED if example.row.label == SICK else BLUE
    text = panels["image"].annotate(
        _label(example.row), (0, 0), (0, -3), "axes fraction", "offset points", va="top", fontsize=8, color=color
    )
    text.set_in_layout(False)  # wider than its image: it continues under the next one
    if example.reconstruction is not None:
        panels["reconstruction"].imshow(example.reconstruction, cmap="gray", vmin=0, vmax=1, extent=field)
    if example.anomaly_map is not None:
        panels["map"].imshow(example.image, cmap="gray", vmin=0, vmax=1, extent=field)
        # A weak anomaly leaves the X-ray visible.
        alpha = 0.85 * np.sqrt(scale(example.anomaly_map))
        panels["map"].imshow(example.anomaly_map, cmap=COLORS, norm=scale, alpha=alpha, extent=field)
        if example.lesion is not None and example.lesion.any():
            outline = example.lesion.astype(float)
            panels["map"].contour(outline, levels=[0.5], colors=LESION, linewidths=0.9, extent=field, origin="upper")


def _label(row: pd.Series) -> str:
    """Return name, label and score of an image, in two lines."""
    place = "" if pd.isna(row.source) else f" ({row.source})"
    text = f"{row.image.rpartition('/')[2]}{place}\n{row.label}, score {row.score:.4g}, {row['rank']}"
    if pd.notna(row.probability):
        text += f"; p {row.probability:.2f}"
    return text if pd.isna(row.predicted) else f"{text}, called {row.predicted}"
