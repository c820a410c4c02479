"""The lung segmenter inside a model: frozen, ready before the networks learn, and kept in their checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn

from anomalib_cxr.segmentation.network import LungSegmenter, segment_lungs
from anomalib_cxr.segmentation.packaged import choose_segmenter
from anomalib_cxr.segmentation.training import fit_segmenter

from .module import RadiographModule, to_gray
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


def prepare_segmenter(
    module: RadiographModule, segmenter: FrozenSegmenter, path: str | None, steps: int | None = None
) -> None:
    """Read a segmenter or train it before the first epoch; one that came with a checkpoint stays.

    Args:
        module: The module that is about to be trained.
        segmenter: The segmenter inside it; changed in place.
        path: File of a trained segmenter; None for one trained on the lung masks of the training images, or that of the
            package if they have none or `steps` is None.
        steps: Batches of that training; None trains none.

    Raises:
        SegmenterError: If the file cannot be read.
    """
    if segmenter.trained:
        return
    network = None if path is not None or steps is None else _train(module, segmenter.network, steps)
    segmenter.replace_network(choose_segmenter(path).network.to(module.device) if network is None else network)
    segmenter.trained.fill_(True)


def _train(module: RadiographModule, network: LungSegmenter, steps: int) -> LungSegmenter | None:
    """Train a segmenter on the lung masks of the training images, alike in all processes; None without masks."""
    seed = seed_or_state(module.seed)
    with seeded(seed):
        pairs = _training_images(module)
    if pairs is None:
        return None
    logger.info("No segmenter given: one is trained on the lungs of %d training images.", len(pairs.images))
    fit_segmenter(network.requires_grad_(), *pairs, steps=steps, seed=seed)
    network.load_state_dict(module.trainer.strategy.broadcast(network.state_dict()))
    return network


class _Pairs(NamedTuple):
    """Training images in [-1, 1] and their lungs, both `(N, 1, H, W)`."""

    images: torch.Tensor
    masks: torch.Tensor


def _training_images(module: RadiographModule) -> _Pairs | None:
    """Return training images and their lungs, few enough to be kept at once; None if they have no lung masks."""
    images, masks, pre_processor = [], [], cast("Any", module.pre_processor)
    module.trainer.fit_loop.setup_data()
    for batch in cast("Iterable[Any]", module.trainer.train_dataloader):
        if getattr(batch, "roi_mask", None) is None:
            return None
        if pre_processor is not None:
            pre_processor.on_train_batch_start(module.trainer, module, batch, 0)
        masks.append(batch.roi_mask.unsqueeze(1).bool())
        images.append(to_gray(batch.image).half())
        if sum(map(len, images)) >= MOST_IMAGES:
            break
    return _Pairs(torch.cat(images), torch.cat(masks))


class LungMasks:
    """Lung masks of training batches: their own, or those that the segmenter of the package finds where there are none.

    No module: the segmenter has no part in scoring, and neither checkpoints nor exports contain it.

    Example:
        >>> from types import SimpleNamespace
        >>> masks = LungMasks()
        >>> masks.of(SimpleNamespace(roi_mask=torch.ones(1, 8, 8)), torch.zeros(1, 1, 8, 8)).shape
        torch.Size([1, 1, 8, 8])
    """

    def __init__(self) -> None:
        self._network: LungSegmenter | None = None

    def of(self, batch: Any, gray: torch.Tensor) -> torch.Tensor:
        """Return the lung masks of a batch.

        Args:
            batch: A batch with or without `roi_mask`.
            gray: Its X-rays in [-1, 1], `(B, 1, H, W)`.

        Returns:
            The masks, `(B, 1, H, W)`, 1 in the lungs.
        """
        masks: torch.Tensor | None = getattr(batch, "roi_mask", None)
        if masks is not None:
            return masks.unsqueeze(1).to(torch.float32)
        if self._network is None:
            self._network = choose_segmenter(None).network.to(gray.device)
        found = [segment_lungs(self._network, (image.float() + 1) / 2) for image in gray]
        return torch.from_numpy(np.stack(found)).unsqueeze(1).to(gray.device, torch.float32)
