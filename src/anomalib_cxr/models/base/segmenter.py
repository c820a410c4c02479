"""The lung segmenter inside a model: frozen, ready before the networks learn, and kept in their checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import nn

from anomalib_cxr.segmentation.network import LungSegmenter, load_segmenter
from anomalib_cxr.segmentation.training import fit_segmenter

from .module import RadiographModule, lung_masks, to_gray
from .reproducible import seed_or_state, seeded

logger = logging.getLogger(__name__)

MOST_IMAGES = 1000
"""Training images that a segmenter learns from at most; lungs look too much alike for more to be of use."""


class FrozenSegmenter(nn.Module):
    """Segments lungs inside a model; frozen, and always in evaluation mode.

    Args:
        image_size: Side of the square at which a new segmenter works, whatever the size of the X-rays; 64 segments
            lungs nearly as well as 256, for a fraction of the time.

    Example:
        >>> segmenter = FrozenSegmenter(32).train()
        >>> segmenter.network.training, segmenter(torch.zeros(1, 1, 100, 80)).shape
        (False, torch.Size([1, 1, 100, 80]))
    """

    trained: torch.Tensor

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.replace_network(LungSegmenter(image_size))
        self.register_buffer("trained", torch.tensor(False))

    def replace_network(self, network: LungSegmenter) -> None:
        """Segment by another network from now on.

        Args:
            network: The network; frozen here.
        """
        self.network = network.requires_grad_(requires_grad=False).eval()

    def train(self, mode: bool = True) -> FrozenSegmenter:
        """Stay in evaluation mode, whatever the mode of the surrounding model."""
        del mode
        return super().train(mode=False)

    def forward(self, gray: torch.Tensor) -> torch.Tensor:
        """Segment X-rays.

        Args:
            gray: X-rays in [-1, 1], `(B, 1, H, W)`.

        Returns:
            Probability of lung in [0, 1], `(B, 1, H, W)`.
        """
        probability: torch.Tensor = self.network(gray)
        return probability


def prepare_segmenter(module: RadiographModule, segmenter: FrozenSegmenter, path: str | None, steps: int) -> None:
    """Read a segmenter or train it before the first epoch; one that came with a checkpoint stays.

    Args:
        module: The module that is about to be trained.
        segmenter: The segmenter inside it; changed in place.
        path: File of a trained segmenter; None trains one on the lung masks of the training images.
        steps: Batches of that training.

    Raises:
        SettingError: If one must be trained and the training images have no lung masks.
        SegmenterError: If the file cannot be read.
    """
    if segmenter.trained:
        return
    if path is None:
        _train(module, segmenter.network, steps)
        segmenter.replace_network(segmenter.network)
    else:
        segmenter.replace_network(load_segmenter(path).to(module.device))
    segmenter.trained.fill_(True)


def _train(module: RadiographModule, network: LungSegmenter, steps: int) -> None:
    """Train a segmenter on the lung masks of the training images; alike in all processes."""
    seed = seed_or_state(module.seed)
    with seeded(seed):
        images, masks = _training_images(module)
    logger.info("No segmenter given: one is trained on the lungs of %d training images.", len(images))
    fit_segmenter(network.requires_grad_(), images, masks, steps=steps, seed=seed)
    network.load_state_dict(module.trainer.strategy.broadcast(network.state_dict()))


def _training_images(module: RadiographModule) -> tuple[torch.Tensor, torch.Tensor]:
    """Return training images in [-1, 1] and their lungs, both `(N, 1, H, W)`, small enough to be kept at once."""
    images, masks, pre_processor = [], [], cast("Any", module.pre_processor)
    module.trainer.fit_loop.setup_data()
    for batch in cast("Iterable[Any]", module.trainer.train_dataloader):
        if pre_processor is not None:
            pre_processor.on_train_batch_start(module.trainer, module, batch, 0)
        masks.append(lung_masks(batch, "segmenter = None").bool())
        images.append(to_gray(batch.image).half())
        if sum(map(len, images)) >= MOST_IMAGES:
            break
    return torch.cat(images), torch.cat(masks)
