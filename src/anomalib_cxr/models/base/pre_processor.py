"""Pre-processing of image and masks together, the same in training and in an exported graph."""

from __future__ import annotations

from typing import Any

import torch
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_cxr.errors import SettingError
from anomalib_cxr.functional import antialiased_resize


class RoiPreProcessor(PreProcessor):
    """Resizes image, lesion mask and lung mask to a square, and scales the image from [0, 1] to [-1, 1].

    In the training loop the resizing is torchvision's, antialiased. An exported graph does the same with two matrix
    products (:func:`anomalib_cxr.functional.antialiased_resize`), so that it takes images of any size and computes
    the same pixels.

    Args:
        image_size: Side of the square input of the networks, in pixels.

    Example:
        >>> pre_processor = RoiPreProcessor(64)
        >>> pre_processor(torch.ones(1, 3, 100, 80)).shape
        torch.Size([1, 3, 64, 64])
    """

    def __init__(self, image_size: int) -> None:
        transform = Compose(
            [Resize((image_size, image_size), antialias=True), Normalize(mean=[0.5] * 3, std=[0.5] * 3)]
        )
        super().__init__(transform)
        self.transform: Compose = transform
        self.image_size = image_size

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Prepare images as the exported graph does.

        Args:
            batch: X-rays of any size in [0, 1], their channels alike, `(B, 3, H, W)`.

        Returns:
            The images in [-1, 1], `(B, 3, image_size, image_size)`.
        """
        gray = 2 * batch.mean(dim=1, keepdim=True) - 1  # resized once, for all channels
        small = antialiased_resize(gray, (self.image_size, self.image_size))
        return small.expand(-1, batch.shape[1], -1, -1)

    def _prepare(self, batch: Any) -> None:
        """Transform image and masks of a batch together, in place."""
        masks = [name for name in ("gt_mask", "roi_mask") if getattr(batch, name, None) is not None]
        transformed = self.transform(batch.image, *(getattr(batch, name) for name in masks))
        for name, value in zip(("image", *masks), transformed if masks else (transformed,), strict=True):
            setattr(batch, name, value)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Prepare a training batch."""
        del trainer, pl_module, batch_idx
        self._prepare(batch)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Prepare a validation batch."""
        del trainer, pl_module, batch_idx, dataloader_idx
        self._prepare(batch)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Prepare a test batch."""
        del trainer, pl_module, batch_idx, dataloader_idx
        self._prepare(batch)

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Prepare a batch for prediction."""
        del trainer, pl_module, batch_idx, dataloader_idx
        self._prepare(batch)

    def checkpoint_config(self) -> dict[str, Any]:
        """Return the part of a checkpoint."""
        return {"image_size": self.image_size}

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Do nothing: the size is an argument of the model, which checks it against the checkpoint's."""


def resolve_pre_processor(given: nn.Module | bool, image_size: int) -> nn.Module | bool:
    """Return the pre-processor of a model, or refuse one of another size, or one that leaves the lung masks behind.

    Args:
        given: Argument of the model: True for :class:`RoiPreProcessor`, False for none.
        image_size: Side of the square that the network sees.

    Returns:
        The pre-processor; False for none.

    Raises:
        SettingError: If it does not prepare images as the model needs them.
    """
    if given is True:
        return RoiPreProcessor(image_size)
    if given is False or (isinstance(given, RoiPreProcessor) and given.image_size == image_size):
        return given
    size = f" of image_size {given.image_size}" if isinstance(given, RoiPreProcessor) else ""
    raise SettingError(
        f"pre_processor {type(given).__name__}{size}",
        f"RoiPreProcessor of image_size {image_size}, which takes the lung masks along",
        "leave pre_processor out, and choose the size by image_size",
    )
