"""The residual sheet: chosen test images as a reader would want to see them, with what the model made of each."""

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

from .figures import BLUE, RED, new_figure
from .scores import NORMAL, SICK

MAX_SIDE = 512
"""Longest side of a picture that is kept for a sheet, in pixels; radiographs have thousands."""


@runtime_checkable
class Paints(Protocol):
    """A torch model that paints what a healthy image would look like, as that of RoiSureGanomaly does."""

    def painting_of(self, images: torch.Tensor) -> torch.Tensor:
        """Paint images as the pre-processor leaves them, `(B, C, H, W)`, in gray in [-1, 1], `(B, 1, H, W)`."""


@dataclass(frozen=True)
class Case:
    """One image of a sheet. Pictures may differ in resolution: all cover the same field."""

    row: pd.Series
    """Its row in :func:`anomalib_cxr.evaluation.scores.choose_ranks`."""
    image: np.ndarray
    """The X-ray in [0, 1], `(H, W)`."""
    anomaly_map: np.ndarray | None = None
    """As the model gives it, before any normalization, `(h, w)`."""
    painting: np.ndarray | None = None
    """The painted region of interest in [0, 1], `(h, w)`."""
    lesion: np.ndarray | None = None
    """Where the lesion is, bool, `(H, W)`."""


def test_dataset(trainer: Trainer) -> Any:
    """Return the dataset that a trainer tests; None before a test."""
    loaders = trainer.test_dataloaders
    return getattr(loaders[0] if isinstance(loaders, list) else loaders, "dataset", None)


def score_images(trainer: Trainer, module: Any, dataset: Any, chosen: pd.DataFrame) -> list[Case]:
    """Read chosen test images once more and run the model on them, so that a test need not keep all its pictures.

    Args:
        trainer: The trainer, in its test.
        module: The `AnomalibModule` under test.
        dataset: An `AnomalibDataset`, whose `samples` have a column `image_path`.
        chosen: Rows of :func:`anomalib_cxr.evaluation.scores.choose_ranks`.

    Returns:
        A case for each row.
    """
    places = {str(path): place for place, path in enumerate(dataset.samples.image_path)}
    return [_look(trainer, module, dataset, places[row.image_path], row) for _, row in chosen.iterrows()]


def _look(trainer: Trainer, module: Any, dataset: Any, place: int, row: pd.Series) -> Case:
    item = dataset[place]
    batch = trainer.strategy.batch_to_device(dataset.collate_fn([item]))
    # A batch of one leaves the pictures' own sizes alone, which anomalib equalizes within a batch.
    if module.pre_processor is not None:
        module.pre_processor.on_test_batch_start(trainer, module, batch, 0)
    with trainer.precision_plugin.test_step_context():
        scored = module.test_step(batch, 0)
        painting = _painting(module.model, batch.image)
    lesion = getattr(item, "gt_mask", None)
    return Case(
        row=row,
        image=_reduced(item.image.mean(dim=0)),
        anomaly_map=None if scored.anomaly_map is None else _array(scored.anomaly_map.squeeze()),
        painting=painting,
        lesion=None if lesion is None else _reduced(lesion.squeeze()) > 0,
    )


def _painting(model: Any, prepared: torch.Tensor) -> np.ndarray | None:
    """Return what the model painted, in [0, 1]; None of a model that does not paint."""
    if not isinstance(model, Paints):
        return None
    return _array((model.painting_of(prepared).squeeze() + 1) / 2)


def _reduced(picture: torch.Tensor) -> np.ndarray:
    """Reduce a picture `(H, W)` to at most :data:`MAX_SIDE`, by the mean over areas."""
    scale = min(1.0, MAX_SIDE / max(picture.shape))
    size = [max(1, round(side * scale)) for side in picture.shape]
    return _array(interpolate(picture[None, None].float(), size=size, mode="area").squeeze())


def _array(picture: torch.Tensor) -> np.ndarray:
    array: np.ndarray = picture.detach().float().cpu().numpy()
    return array


COLORS = colormaps["inferno"]
LESION = "#00e5ff"
TITLE = "Test images, chosen evenly over the scores of each class, from the lowest (top) to the highest (bottom)"
WIDTH = 2.4
"""Of one picture, in inches."""
WORDS = 0.45
"""Height of the words under a picture, in inches."""


def residual_sheet(cases: Sequence[Case], tested: str = "") -> Figure:
    """Draw X-ray, painting where there is one, and anomaly map over the X-ray: normal images left, sick ones right.

    One scale of colors serves all, so that a normal image can be compared with a sick one. The lesion, where it is
    known, is outlined on the anomaly map only: the X-ray is left for the reader's own eyes.

    Args:
        cases: The images; one at least.
        tested: Which weights were tested, for the title.
    """
    kinds = _kinds(cases)
    classes = [chosen for label in (NORMAL, SICK) if (chosen := [case for case in cases if case.row.label == label])]
    grid_shape = max(map(len, classes)), len(kinds) * len(classes)
    height = WIDTH * float(np.median([case.image.shape[0] / case.image.shape[1] for case in cases]))
    figure = new_figure(WIDTH * grid_shape[1] + 0.3, (height + WORDS) * grid_shape[0] + 1.6)
    figure.set_layout_engine("constrained", hspace=WORDS / height, h_pad=0.1)
    grid = figure.subplots(*grid_shape, squeeze=False)
    for panel in grid.flat:
        panel.set_axis_off()
    scale = _scale(cases)
    for chosen, block in zip(classes, np.split(grid, len(classes), axis=1), strict=True):
        for case, panels in zip(chosen, block, strict=False):
            _draw_case(dict(zip(kinds, panels, strict=True)), case, scale)
        for panel, title in zip(block[0], kinds.values(), strict=True):
            panel.set_title(title, fontsize=9)
    if "map" in kinds:
        label = "anomaly map, as the model gives it"
        figure.colorbar(ScalarMappable(scale, COLORS), ax=grid, location="bottom", shrink=0.3, aspect=40, label=label)
    figure.suptitle(f"{TITLE}\n{tested}".strip(), fontsize=11)
    return figure


def _kinds(cases: Sequence[Case]) -> dict[str, str]:
    """Return kind and title of the pictures that there is anything for."""
    kinds = {"image": "X-ray"}
    if any(case.painting is not None for case in cases):
        kinds["painting"] = "painted by the model"
    if any(case.anomaly_map is not None for case in cases):
        outlined = any(case.lesion is not None and case.lesion.any() for case in cases)
        kinds["map"] = "anomaly map" + (", true lesion outlined" if outlined else "")
    return kinds


def _scale(cases: Sequence[Case]) -> Normalize:
    """Return the common scale of all anomaly maps, without their few highest pixels."""
    maps = [case.anomaly_map.ravel() for case in cases if case.anomaly_map is not None]
    values = np.concatenate(maps) if maps else np.zeros(1)
    low, high = float(values.min()), float(np.quantile(values, 0.998))
    return Normalize(low, high if high > low else low + 1, clip=True)


def _draw_case(panels: dict[str, Axes], case: Case, scale: Normalize) -> None:
    height, width = case.image.shape
    field = (0, width, height, 0)
    panels["image"].imshow(case.image, cmap="gray", vmin=0, vmax=1, extent=field)
    color = RED if case.row.label == SICK else BLUE
    words = panels["image"].annotate(
        _words(case.row), (0, 0), (0, -3), "axes fraction", "offset points", va="top", fontsize=8, color=color
    )
    words.set_in_layout(False)  # wider than its picture: it runs on under the next one
    if case.painting is not None:
        panels["painting"].imshow(case.painting, cmap="gray", vmin=0, vmax=1, extent=field)
    if case.anomaly_map is not None:
        panels["map"].imshow(case.image, cmap="gray", vmin=0, vmax=1, extent=field)
        # The weaker the anomaly, the more of the X-ray shows through.
        alpha = 0.85 * np.sqrt(scale(case.anomaly_map))
        panels["map"].imshow(case.anomaly_map, cmap=COLORS, norm=scale, alpha=alpha, extent=field)
        if case.lesion is not None and case.lesion.any():
            outline = case.lesion.astype(float)
            panels["map"].contour(outline, levels=[0.5], colors=LESION, linewidths=0.9, extent=field, origin="upper")


def _words(row: pd.Series) -> str:
    """Return what is known of an image, in two lines."""
    place = "" if pd.isna(row.source) else f" ({row.source})"
    words = f"{row.image.rpartition('/')[2]}{place}\n{row.label}, score {row.score:.4g}, {row['rank']}"
    if pd.notna(row.probability):
        words += f"; p {row.probability:.2f}"
    return words if pd.isna(row.predicted) else f"{words}, called {row.predicted}"
