"""A second look at a few test images: what a reader sees of each beside what the model made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Trainer
from torch.nn.functional import interpolate

MAX_SIDE = 512
"""Longest side of a picture that is kept for a sheet, in pixels; radiographs have thousands."""


@runtime_checkable
class Paints(Protocol):
    """A torch model that paints what a healthy image would look like, as that of RoiSureGanomaly does."""

    def painting_of(self, images: torch.Tensor) -> torch.Tensor:
        """Paint images as the pre-processor leaves them, `(B, C, H, W)`, in grey in [-1, 1], `(B, 1, H, W)`."""


@dataclass(frozen=True)
class Case:
    """One image of a sheet. Pictures may differ in resolution: all cover the same field."""

    row: pd.Series
    """Its row in :func:`anomalib_cxr.evaluation.scores.choose_ranks`."""
    image: np.ndarray
    """The X-ray in [0, 1], `(H, W)`."""
    anomaly_map: np.ndarray | None = None
    """As the model gives it, before any normalisation, `(h, w)`."""
    painting: np.ndarray | None = None
    """The painted region of interest in [0, 1], `(h, w)`."""
    lesion: np.ndarray | None = None
    """Where the lesion is, bool, `(H, W)`."""


def test_dataset(trainer: Trainer) -> Any:
    """Return the dataset that a trainer tests; None before a test."""
    loaders = trainer.test_dataloaders
    return getattr(loaders[0] if isinstance(loaders, list) else loaders, "dataset", None)


def look_again(trainer: Trainer, module: Any, dataset: Any, chosen: pd.DataFrame) -> list[Case]:
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
    # A batch of one leaves the pictures' own sizes alone, which anomalib equalises within a batch.
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
