"""Training of the lung segmenter, on tensors."""

from __future__ import annotations

import logging
import math

import torch
from monai.losses.dice import DiceCELoss
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from anomalib_cxr.errors import DivergenceError

from .augmentation import augment
from .network import LungSegmenter

logger = logging.getLogger(__name__)

LEARNING_RATE = 3e-3
"""The greatest of the one cycle."""


def fit_segmenter(
    segmenter: LungSegmenter,
    images: torch.Tensor,
    masks: torch.Tensor,
    *,
    steps: int,
    batch_size: int = 16,
    seed: int,
) -> None:
    """Train a segmenter in place, on the device that it is on.

    Loss: cross-entropy plus 1 - Dice. AdamW with one cycle of the learning rate. All images come in turn, in a new
    order each time, and augmented; see :func:`anomalib_cxr.segmentation.augmentation.augment`.

    Args:
        segmenter: The segmenter; afterwards it is set to inference.
        images: X-rays in [-1, 1], `(N, 1, H, W)`, of any floating type and size, on any device.
        masks: Their lungs, 0 or 1, `(N, 1, H, W)`, of any type.
        steps: Batches to train on, at least 1.
        batch_size: Images in a batch; where there are fewer in all, some come twice.
        seed: Seed of order and augmentation.

    Raises:
        DivergenceError: If the loss turns non-finite.

    Example:
        >>> image = torch.full((2, 1, 32, 32), 0.5)
        >>> image[..., 8:24, 4:28] = -0.5
        >>> _ = torch.manual_seed(0)
        >>> segmenter = LungSegmenter(32, widths=(4, 4, 8, 8, 16))
        >>> fit_segmenter(segmenter, image, image < 0, steps=60, seed=0)
        >>> bool(((segmenter(image) > 0.5) == (image < 0)).float().mean() > 0.9)
        True
    """
    device = next(segmenter.parameters()).device
    draw = torch.Generator().manual_seed(seed)
    criterion = DiceCELoss(sigmoid=True)
    optimizer = AdamW(segmenter.parameters(), lr=LEARNING_RATE)
    # One step more: the last one of the cycle is at a rate of next to nothing, and a cycle needs two.
    schedule = OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps + 1)
    segmenter.train()
    for step, chosen in enumerate(shuffled_batches(len(images), batch_size, steps, draw), start=1):
        image, mask = (segmenter.to_own_size(each[chosen].to(device).float()) for each in (images, masks))
        image, mask = augment(image, mask, draw)
        loss = criterion(segmenter.logits(image), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        _watch(loss.item(), step, steps)
    segmenter.eval()


def shuffled_batches(count: int, size: int, steps: int, draw: torch.Generator) -> list[torch.Tensor]:
    """Return the numbers of the images of each batch: all in turn, in a new order each time.

    Args:
        count: Images.
        size: Images in a batch.
        steps: Batches.
        draw: Source of the order.

    Example:
        >>> batches = shuffled_batches(4, 2, 2, torch.Generator().manual_seed(0))
        >>> torch.cat(batches).sort().values.tolist()
        [0, 1, 2, 3]
    """
    rounds = math.ceil(steps * size / count)
    order = torch.cat([torch.randperm(count, generator=draw) for _ in range(rounds)])
    return list(torch.split(order[: steps * size], size))


def _watch(loss: float, step: int, steps: int) -> None:
    """Tell how far it is, ten times in all, and refuse to go on with a loss that is none."""
    if not math.isfinite(loss):
        raise DivergenceError(
            f"loss = {loss} of the lung segmenter in step {step}", "a finite loss", "check images and masks for NaN"
        )
    if step * 10 // steps > (step - 1) * 10 // steps:
        logger.info("lung segmenter: step %d of %d, loss %.4f", step, steps, loss)
