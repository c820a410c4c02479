"""A segmenter that is ready before the networks start to learn, and that their checkpoints keep."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import nn

from anomalib_cxr.deploy.openvino_layers import replace_unsafe_layers
from anomalib_cxr.errors import SettingError
from anomalib_cxr.segmentation.network import LungSegmenter, load_segmenter
from anomalib_cxr.segmentation.training import fit_segmenter

from .module import to_gray
from .reproducible import drawn_from, seed_or_state

logger = logging.getLogger(__name__)


def lung_masks(batch: Any, setting: str) -> torch.Tensor:
    """Return the lung masks of a batch as numbers, `(B, 1, H, W)`.

    Args:
        batch: A batch with or without `roi_mask`.
        setting: What needs the masks, such as `target = 'lungs'`.

    Raises:
        SettingError: If it has none.
    """
    masks: torch.Tensor | None = getattr(batch, "roi_mask", None)
    if masks is None:
        raise SettingError(
            f"{setting} and training images without lung masks",
            "batches with roi_mask, as anomalib_cxr.MontgomeryShenzhen and anomalib_cxr.ChestPhantom yield them",
            "train on one of these data modules, or without masks: a segmenter by its path where one is needed, and "
            "target: image where there is a target",
        )
    return masks.unsqueeze(1).to(torch.float32)


class FrozenSegmenter(nn.Module):
    """Finds the lungs inside a model. It is no part of what is trained: frozen, and always set to inference.

    Args:
        image_size: Side of the square at which a new segmenter works, whatever the size of the X-rays that it is shown;
            64 finds lungs nearly as well as 256, for a fraction of the time.

    Example:
        >>> lungs = FrozenSegmenter(32).train()
        >>> lungs.segmenter.training, lungs(torch.zeros(1, 1, 100, 80)).shape
        (False, torch.Size([1, 1, 100, 80]))
    """

    trained: torch.Tensor

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.take(LungSegmenter(image_size))
        self.register_buffer("trained", torch.tensor(False))

    def take(self, segmenter: LungSegmenter) -> None:
        """Find lungs by this segmenter from now on."""
        replace_unsafe_layers(segmenter)
        self.segmenter = segmenter.requires_grad_(requires_grad=False).eval()

    def train(self, mode: bool = True) -> FrozenSegmenter:
        """Stay set to inference, whatever the surrounding model is set to."""
        del mode
        return super().train(mode=False)

    def forward(self, gray: torch.Tensor) -> torch.Tensor:
        """Return the probability of lung in [0, 1], for X-rays in [-1, 1], both `(B, 1, H, W)`."""
        probability: torch.Tensor = self.segmenter(gray)
        return probability


MOST_IMAGES = 1000
"""Training images that it learns from at most; lungs look too much alike for more to be of use."""


class LungsFirst(LightningModule):
    """Has the segmenter ready before the first epoch, and keeps it in the checkpoints.

    For models whose torch model has it as `lungs`: a :class:`anomalib_cxr.models.base.segmenter.FrozenSegmenter`, or None
    where the settings need none. Their settings `segmenter` (path of a segmenter, None trains one), `segmenter_steps`
    and `seed` are attributes of the same names. It comes before other bases that have these hooks.
    """

    model: Any
    pre_processor: Any
    segmenter: str | None
    segmenter_steps: int
    seed: int | None

    def on_fit_start(self) -> None:
        """Read the segmenter or train it; one that came with a checkpoint stays."""
        super().on_fit_start()
        lungs: FrozenSegmenter | None = self.model.lungs
        if lungs is None or lungs.trained:
            return
        given = None if self.segmenter is None else load_segmenter(self.segmenter).to(self.device)
        lungs.take(given or self._train(lungs.segmenter))
        lungs.trained.fill_(True)

    def _train(self, segmenter: LungSegmenter) -> LungSegmenter:
        """Train a segmenter on the lung masks of the training images; alike in all processes."""
        seed = seed_or_state(self.seed)
        with drawn_from(seed):
            images, masks = self._training_images()
        logger.info("No segmenter given: one is trained on the lungs of %d training images.", len(images))
        fit_segmenter(segmenter.requires_grad_(), images, masks, steps=self.segmenter_steps, seed=seed)
        segmenter.load_state_dict(self.trainer.strategy.broadcast(segmenter.state_dict()))
        return segmenter

    def _training_images(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return training images in [-1, 1] and their lungs, both `(N, 1, H, W)`, small enough to be kept at once."""
        images, masks = [], []
        self.trainer.fit_loop.setup_data()
        for batch in cast("Iterable[Any]", self.trainer.train_dataloader):
            if self.pre_processor is not None:
                self.pre_processor.on_train_batch_start(self.trainer, self, batch, 0)
            masks.append(lung_masks(batch, "segmenter = None").bool())
            images.append(to_gray(batch.image).half())
            if sum(map(len, images)) >= MOST_IMAGES:
                break
        return torch.cat(images), torch.cat(masks)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the shape of the segmenter, whose weights are among those of the model."""
        super().on_save_checkpoint(checkpoint)
        if self.model.lungs is not None:
            checkpoint["segmenter"] = self.model.lungs.segmenter.settings

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make room for the checkpoint's segmenter."""
        super().on_load_checkpoint(checkpoint)
        if self.model.lungs is not None:
            self.model.lungs.take(LungSegmenter(**checkpoint["segmenter"]).to(self.device))
