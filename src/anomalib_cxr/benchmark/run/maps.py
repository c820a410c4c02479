"""Measure the anomaly maps of a run where images have lesion masks, by anomalib's and torchmetrics' metrics."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd
import torch
from anomalib.metrics import AUPRO, AUROC, F1AdaptiveThreshold
from lightning.pytorch import Callback, LightningModule, Trainer
from torchmetrics.classification import BinaryF1Score

from anomalib_cxr.benchmark.plan.grid import PIXEL_AUPRO, PIXEL_AUROC, PIXEL_DICE

_FIELDS = ["anomaly_map", "gt_mask"]


class MapRecorder(Callback):
    """Callback that measures the anomaly maps of each test, before post-processing, over the pixels of all images.

    Dice needs a threshold: that of the highest Dice of the validation images' pixels, after the epoch that is tested.
    Images without lesion masks, and models without maps, are not measured.
    """

    def __init__(self) -> None:
        self.thresholds: dict[int, float] = {}
        """Threshold of the validation images by epoch."""
        self._threshold = F1AdaptiveThreshold(fields=_FIELDS)
        self._reset(None)

    def table(self) -> pd.DataFrame:
        """Return the figures of the latest test.

        Returns:
            A row per metric: `epoch` of the weights, `metric` (`pixel_auroc`, `pixel_aupro`, `pixel_dice`) and
            `value`; none where nothing was measured.
        """
        figures = {name: float(metric.compute()) for name, metric in self._metrics.items() if metric.update_called}
        rows = [(self._epoch, name, value) for name, value in figures.items()]
        table: pd.DataFrame = pd.DataFrame(rows, columns=["epoch", "metric", "value"])
        return table

    def expect(self, epoch: int | None) -> None:
        """Prepare for a test.

        Args:
            epoch: Epoch of the weights that will be tested, which chooses the threshold.
        """
        self._reset(epoch)

    def _reset(self, epoch: int | None) -> None:
        self._epoch = epoch
        self._dice_at = None if epoch is None else self.thresholds.get(epoch)
        self._metrics: dict[str, Any] = {
            PIXEL_AUROC: AUROC(fields=_FIELDS),
            PIXEL_AUPRO: AUPRO(fields=_FIELDS),
            PIXEL_DICE: BinaryF1Score(),
        }

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the maps of the previous epoch."""
        del trainer, pl_module
        self._threshold.reset()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the maps of a batch."""
        del trainer, pl_module, args, kwargs
        pixels: Any = _pixels_of(outputs)
        if pixels is not None:
            self._threshold.update(pixels)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the threshold of this epoch."""
        del pl_module
        if self._threshold.update_called:
            self.thresholds[trainer.current_epoch] = float(self._threshold.compute())
            self._threshold.reset()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Add the maps of a batch."""
        del trainer, pl_module, args, kwargs
        pixels = _pixels_of(outputs)
        if pixels is None:
            return
        self._metrics[PIXEL_AUROC].update(pixels.squeezed())
        self._metrics[PIXEL_AUPRO].update(pixels)
        if self._dice_at is not None:
            self._metrics[PIXEL_DICE].update(pixels.anomaly_map >= self._dice_at, pixels.gt_mask.int())


class _Pixels(NamedTuple):
    """Fields of a batch that anomalib's metrics take."""

    anomaly_map: torch.Tensor
    """`(B, H, W)`."""
    gt_mask: torch.Tensor
    """`(B, H, W)`, bool."""

    def squeezed(self) -> _Pixels:
        """Return the maps in (0, 1), in the same order.

        anomalib's AUROC applies a sigmoid to batches with values outside [0, 1] and not to others, and the sigmoid of
        large values is 1 for all of them.
        """
        values = self.anomaly_map.double()
        return self._replace(anomaly_map=(values / (1 + values.abs()) + 1) / 2)


def _pixels_of(batch: Any) -> _Pixels | None:
    """Return the maps of a batch with its lesion masks, if it has both, of one size."""
    maps, masks = batch.anomaly_map, batch.gt_mask
    if maps is None or masks is None or maps.shape[-2:] != masks.shape[-2:]:
        return None
    return _Pixels(maps.detach().reshape(masks.shape), masks.bool())
