"""What scores need to know of healthy images, learned from the training images whenever scores are asked for."""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader, Subset

from anomalib_cxr.errors import SettingError
from anomalib_cxr.models.base.exposure import LEAST_IMAGES

from .members import folds_of
from .torch_model import Look, RoiSureGanomalyModel

logger = logging.getLogger(__name__)

FEWEST_IMAGES, MOST_IMAGES = LEAST_IMAGES, 1000
"""Healthy images without which neither a calibration nor a covariance means anything, and those that suffice."""


class HealthyScores(LightningModule):
    """Fits calibration and healthy codes at the end of each epoch, before anything is validated or saved.

    So the best epoch is chosen by the scores that will be given, and each checkpoint has what its networks need. It
    costs one pass over the training images, without gradients.
    """

    model: RoiSureGanomalyModel
    pre_processor: Any
    n_folds: int
    _fitted_at: int = -1

    def on_fit_start(self) -> None:
        """Refuse too few images before the training instead of after it."""
        super().on_fit_start()
        if self.model.learns_healthy and len(self._healthy_images()) < FEWEST_IMAGES:
            raise SettingError(
                f"{len(self._healthy_images())} training images, and a score that learns what is healthy from them",
                f"at least {FEWEST_IMAGES} healthy images",
                "train on more images, or set calibration: none and another score than mahalanobis",
            )

    def on_validation_start(self) -> None:
        """Fit before a validation inside a training."""
        super().on_validation_start()
        if self.trainer.state.fn == TrainerFn.FITTING:
            self._fit()

    def on_train_epoch_end(self) -> None:
        """Fit where no validation has come first."""
        super().on_train_epoch_end()
        self._fit()

    def check_exportable(self) -> None:
        """Refuse to export a model that cannot score."""
        super().check_exportable()  # type: ignore[misc]  # of WholeExport, which it is mixed with
        self.model.check_fitted()

    def folds(self, batch: Any) -> torch.Tensor | None:
        """Return the fold of each image of a batch, `(B,)`; None for a single member.

        Raises:
            SettingError: If the images have no names.
        """
        if self.n_folds == 1:
            return None
        if batch.image_path is None:
            raise SettingError(
                f"n_folds = {self.n_folds} and training images without image_path",
                "images with the paths of their files, whose names say into which fold they fall",
                "train on a data module of anomalib or anomalib_cxr, or set n_folds: 1",
            )
        return folds_of(batch.image_path, self.n_folds).to(self.device)

    def _healthy_images(self) -> Any:
        self.trainer.fit_loop.setup_data()
        return cast("DataLoader[Any]", self.trainer.train_dataloader).dataset

    @torch.no_grad()
    def _fit(self) -> None:
        """Fit, unless that was done after the last step; alike in all processes."""
        if not self.model.learns_healthy or self._fitted_at == self.global_step:
            return
        training = self.model.training
        self.model.eval()
        looks, folds = zip(*map(self._look, self._batches()), strict=True)
        self.model.fit_healthy(_joined(looks), torch.cat(folds))
        self.model.load_state_dict(self.trainer.strategy.broadcast(self.model.state_dict()))
        self.model.train(training)
        self._fitted_at = self.global_step

    def _batches(self) -> DataLoader[Any]:
        """Return the training images in their own order, in a loader that leaves the training's as it is."""
        images, loader = self._healthy_images(), cast("DataLoader[Any]", self.trainer.train_dataloader)
        chosen = torch.linspace(0, len(images) - 1, min(len(images), MOST_IMAGES)).round().int().tolist()
        return DataLoader(Subset(images, chosen), loader.batch_size, collate_fn=loader.collate_fn)

    def _look(self, batch: Any) -> tuple[Look, torch.Tensor]:
        batch = self.trainer.strategy.batch_to_device(batch)
        if self.pre_processor is not None:
            self.pre_processor.on_train_batch_start(self.trainer, self, batch, 0)
        folds = self.folds(batch)
        none = torch.zeros(len(batch.image), dtype=torch.long, device=self.device)
        return self.model.look(batch.image), none if folds is None else folds


def _joined(looks: tuple[Look, ...]) -> Look:
    """Put looks at several batches together."""
    codes, distances, residuals, boxes = zip(*looks, strict=True)
    joined = None if boxes[0] is None else type(boxes[0])(*map(torch.cat, zip(*boxes, strict=True)))
    return Look(torch.cat(codes), torch.cat(distances), torch.cat(residuals), joined)
