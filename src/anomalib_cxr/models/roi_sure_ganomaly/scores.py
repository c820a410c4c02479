"""Scores of RoiSureGanomaly, and the statistics of healthy images that some of them need."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from sklearn.covariance import LedoitWolf
from torch import nn
from torch.utils.data import DataLoader, Subset

from anomalib_cxr.errors import SettingError
from anomalib_cxr.models.base.exposure import LEAST_IMAGES

logger = logging.getLogger(__name__)

FEWEST_IMAGES, MOST_IMAGES = LEAST_IMAGES, 1000
"""Least number of healthy images for an exposure adjustment or a covariance, and a sufficient number."""
_LEAST = 1e-8  # of a square whose logarithm is taken


def log_mean_square(residual: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the mean squared residual in a region.

    Args:
        residual: Differences, `(B, 1, H, W)`.
        region: 1 where they count, 0 elsewhere, `(B, 1, H, W)`; where it is empty, all of them count.

    Returns:
        `(B,)`.

    Example:
        >>> log_mean_square(torch.tensor([[[[2.0, 5.0]]]]), torch.tensor([[[[1.0, 0.0]]]])).exp().round()
        tensor([4.])
    """
    empty = region.sum(dim=(2, 3), keepdim=True) == 0
    weight = torch.where(empty, torch.ones_like(region), region)
    mean = (residual**2 * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3))
    return (mean + _LEAST).log()


class HealthyCodes(nn.Module):
    """Mahalanobis distance of codes from those of healthy images.

    The code is the first encoder's. The second encoder learns to agree with it, on sick images too, so that their
    difference says little; but a code far from all healthy ones indicates abnormal lungs. With fewer healthy images
    than a covariance of that many numbers asks for, the covariance is shrunk towards a sphere.

    Source: O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004.

    Args:
        latent_dim: Length of the codes.

    Example:
        >>> codes = HealthyCodes(2)
        >>> codes.fit(torch.randn(100, 2, generator=torch.Generator().manual_seed(0)))
        >>> near, far = codes(torch.tensor([[0.0, 0.0], [9.0, 9.0]]))
        >>> bool(far > near)
        True
    """

    center: torch.Tensor
    whitening: torch.Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(latent_dim))
        self.register_buffer("whitening", torch.eye(latent_dim))

    def fit(self, codes: torch.Tensor) -> None:
        """Estimate mean and covariance.

        Args:
            codes: Codes of healthy images, `(N, Z)`.
        """
        healthy = LedoitWolf().fit(codes.detach().cpu().double().numpy())
        self.center.copy_(torch.from_numpy(healthy.location_))
        self.whitening.copy_(torch.linalg.cholesky(torch.from_numpy(healthy.precision_)))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Score codes.

        Args:
            codes: Codes, `(B, Z)`.

        Returns:
            Logarithm of the mean squared whitened deviation, `(B,)`.
        """
        deviations = (codes - self.center) @ self.whitening
        return ((deviations**2).mean(dim=1) + _LEAST).log()


def fold_of(path: str | Path, n_folds: int) -> int:
    """Return the fold of an image by its file's name: the same in each epoch, process and resumed training.

    Args:
        path: File of the image.
        n_folds: Number of folds.

    Returns:
        The fold, from 0.

    Example:
        >>> [fold_of(f"scans/{number}.png", 3) for number in range(6)]
        [1, 1, 1, 0, 2, 1]
    """
    return int.from_bytes(hashlib.sha256(Path(path).name.encode()).digest()[:8], "big") % n_folds


def folds_of(paths: Iterable[str | Path] | None, n_folds: int) -> torch.Tensor:
    """Return the folds of images; see :func:`fold_of`.

    Args:
        paths: Files of the images; None where a batch has none.
        n_folds: Number of folds.

    Returns:
        The folds, `(B,)`.

    Raises:
        SettingError: If the images have no paths.
    """
    if paths is None:
        raise SettingError(
            f"ensemble.n_folds = {n_folds} and training images without image_path",
            "images with the paths of their files, whose names determine their folds",
            "train on a data module of anomalib or anomalib_cxr, or set ensemble.n_folds: 1",
        )
    return torch.tensor([fold_of(path, n_folds) for path in paths])


class FitHealthyScores(Callback):
    """Fits exposure adjustment and healthy codes at the end of each epoch, before anything is validated or saved.

    So the best epoch is chosen by the final scores, and each checkpoint has the statistics of its own networks. It
    costs one pass over the training images, without gradients.
    """

    def __init__(self) -> None:
        self._fitted_at = -1

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse too few images before the training instead of after it."""
        del pl_module
        count = len(self._images(trainer))
        if count < FEWEST_IMAGES:
            raise SettingError(
                f"{count} training images, and a score that learns from healthy ones",
                f"at least {FEWEST_IMAGES} healthy images",
                "train on more images, or set ensemble.exposure_adjustment: false and another score than mahalanobis",
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit before a validation inside a training."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._fit(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit where no validation has come first."""
        self._fit(trainer, pl_module)

    @torch.no_grad()
    def _fit(self, trainer: Trainer, module: Any) -> None:
        """Fit, unless that was done after the last step; alike in all processes."""
        if self._fitted_at == trainer.global_step:
            return
        model = module.model
        training = model.training
        model.eval()
        features, folds = zip(
            *(self._features(trainer, module, batch) for batch in self._batches(trainer)), strict=True
        )
        model.fit_healthy(type(features[0]).concatenate(features), torch.cat(folds))
        model.load_state_dict(trainer.strategy.broadcast(model.state_dict()))
        model.train(training)
        self._fitted_at = trainer.global_step

    @staticmethod
    def _images(trainer: Trainer) -> Any:
        trainer.fit_loop.setup_data()
        return cast("DataLoader[Any]", trainer.train_dataloader).dataset

    def _batches(self, trainer: Trainer) -> DataLoader[Any]:
        """Return the training images in their own order, in a loader that leaves the training's as it is."""
        images, loader = self._images(trainer), cast("DataLoader[Any]", trainer.train_dataloader)
        chosen = torch.linspace(0, len(images) - 1, min(len(images), MOST_IMAGES)).round().int().tolist()
        return DataLoader(Subset(images, chosen), loader.batch_size, collate_fn=loader.collate_fn)

    @staticmethod
    def _features(trainer: Trainer, module: Any, batch: Any) -> tuple[Any, torch.Tensor]:
        """Return features and folds of a batch."""
        batch = trainer.strategy.batch_to_device(batch)
        if module.pre_processor is not None:
            module.pre_processor.on_train_batch_start(trainer, module, batch, 0)
        folds = torch.zeros(len(batch.image), dtype=torch.long)
        if module.n_folds > 1:
            folds = folds_of(batch.image_path, module.n_folds)
        return module.model.features(batch.image), folds.to(module.device)
