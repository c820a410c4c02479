"""Training of the lung segmenter on tensors, with augmentation."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from anomalib_cxr.errors import DivergenceError

from .network import LungSegmenter

logger = logging.getLogger(__name__)

Augmentation = Callable[[torch.Tensor, torch.Tensor, torch.Generator], tuple[torch.Tensor, torch.Tensor]]
"""Function that augments a batch of images and masks, as :func:`augment` does."""
LEARNING_RATE = 3e-3
"""Maximum of the one-cycle schedule."""
ROTATION, SCALE, SHIFT = math.radians(10), 0.15, 0.1
"""Maximum rotation, logarithm of the scale of each axis, and shift (share of half the side)."""
GAMMA = 0.5
"""Maximum logarithm of the exponent of the gray values."""
OPACITY_PROBABILITY = 0.5
"""Share of the images that get an opacity."""
_GRAIN = 6  # independent values along a side of an opacity


def fit_segmenter(
    segmenter: LungSegmenter,
    images: torch.Tensor,
    masks: torch.Tensor,
    *,
    steps: int,
    batch_size: int = 16,
    seed: int,
    augmentation: Augmentation | None = None,
) -> None:
    """Train a segmenter in place, on its own device.

    Loss: cross-entropy plus 1 - Dice. Optimizer: AdamW with a one-cycle learning rate. The images are shuffled and
    augmented.

    Args:
        segmenter: Segmenter; afterwards it is in evaluation mode.
        images: X-rays in [-1, 1], `(N, 1, H, W)`, of any floating type and size, on any device.
        masks: Lung masks, 0 or 1, `(N, 1, H, W)`, of any type.
        steps: Number of batches, at least 1.
        batch_size: Images per batch; if there are fewer images, some are repeated.
        seed: Seed of order and augmentation.
        augmentation: Augmentation of each batch; None for :func:`augment`.

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
    from monai.losses.dice import DiceCELoss  # noqa: PLC0415  # seconds that only training a segmenter is to cost

    device = next(segmenter.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    criterion = DiceCELoss(sigmoid=True)
    optimizer = AdamW(segmenter.parameters(), lr=LEARNING_RATE)
    # One step more: the last step of a cycle has a rate of almost 0, and a cycle needs two steps.
    schedule = OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps + 1)
    segmenter.train()
    for step, chosen in enumerate(shuffled_batches(len(images), batch_size, steps, generator), start=1):
        image, mask = (segmenter.to_own_size(pair[chosen].to(device).float()) for pair in (images, masks))
        image, mask = (augmentation or augment)(image, mask, generator)
        loss = criterion(segmenter.logits(image), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        _report(loss.item(), step, steps)
    segmenter.eval()


def shuffled_batches(count: int, size: int, steps: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Return the indices of the images of each batch, shuffled anew in each epoch.

    Args:
        count: Number of images.
        size: Images per batch.
        steps: Number of batches.
        generator: Source of the order.

    Returns:
        One tensor of indices per batch, `(size,)`.

    Example:
        >>> batches = shuffled_batches(4, 2, 2, torch.Generator().manual_seed(0))
        >>> torch.cat(batches).sort().values.tolist()
        [0, 1, 2, 3]
    """
    epochs = math.ceil(steps * size / count)
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(epochs)])
    return list(torch.split(order[: steps * size], size))


def _report(loss: float, step: int, steps: int) -> None:
    """Log the progress ten times in all; refuse a loss that is not finite."""
    if not math.isfinite(loss):
        raise DivergenceError(
            f"loss = {loss} of the lung segmenter in step {step}", "a finite loss", "check images and masks for NaN"
        )
    if step * 10 // steps > (step - 1) * 10 // steps:
        logger.info("lung segmenter: step %d of %d, loss %.4f", step, steps, loss)


def augment(images: torch.Tensor, masks: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment a batch: affine transform and mirroring, smooth opacities in the lungs, and gamma.

    The opacities leave the masks unchanged, so that disease does not reduce the segmented lung.

    Args:
        images: X-rays in [-1, 1], `(B, 1, H, W)`.
        masks: Lung masks, 0 to 1, `(B, 1, H, W)`.
        generator: Source of the draws, on the CPU, so that they are the same on every device.

    Returns:
        Images in [-1, 1] and masks, transformed alike, of the same shapes.

    Example:
        >>> images, masks = torch.zeros(2, 1, 32, 32), torch.ones(2, 1, 32, 32)
        >>> image, mask = augment(images, masks, torch.Generator().manual_seed(0))
        >>> image.shape, mask.shape, bool((mask < 1).any())  # pixels from beyond the border are no lung
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 1, 32, 32]), True)
    """
    gray = (images + 1) / 2  # [0, 1]
    pairs = _transform(torch.cat([gray, masks], dim=1), generator)
    gray, masks = pairs[:, :1].clamp(0, 1), pairs[:, 1:]
    gray = _add_opacities(gray, masks, generator) ** _uniform(len(images), GAMMA, generator, gray).exp()
    return 2 * gray - 1, masks


def _uniform(count: int, width: float, generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    """Draw one number of [-width, width] for each image, `(B, 1, 1, 1)`."""
    return (torch.rand(count, 1, 1, 1, generator=generator) * 2 - 1).mul(width).to(like)


def _transform(pairs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Rotate, scale each axis, shift and mirror; pixels from beyond the border are 0."""

    def draw(width: float) -> torch.Tensor:
        return _uniform(len(pairs), width, generator, pairs).flatten()

    turn, shift_x, shift_y = draw(ROTATION), draw(SHIFT), draw(SHIFT)
    scale_x, scale_y = draw(SCALE).exp().copysign(draw(1)), draw(SCALE).exp()
    rows = [turn.cos() * scale_x, -turn.sin() * scale_y, shift_x, turn.sin() * scale_x, turn.cos() * scale_y, shift_y]
    theta = torch.stack(rows, dim=1).reshape(-1, 2, 3)
    grid = functional.affine_grid(theta, list(pairs.shape), align_corners=False)
    return functional.grid_sample(pairs, grid, align_corners=False)


def _add_opacities(gray: torch.Tensor, masks: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add a smooth random opacity, of some vertical gradient, to the lungs of some images."""
    count, size = len(gray), gray.shape[-2:]
    field = torch.randn(count, 1, _GRAIN, _GRAIN, generator=generator).to(gray)
    slope = torch.linspace(-1, 1, _GRAIN).to(gray).reshape(-1, 1) * _uniform(count, 2, generator, gray)
    clouds = functional.interpolate(field + slope, size=size, mode="bicubic", align_corners=False)
    sharpness, threshold = _uniform(count, 1, generator, gray).exp() * 3, _uniform(count, 1, generator, gray)
    density = torch.rand(count, 1, 1, 1, generator=generator).to(gray)
    chosen = (torch.rand(count, 1, 1, 1, generator=generator) < OPACITY_PROBABILITY).to(gray)
    white = torch.rand(count, 1, 1, 1, generator=generator).to(gray) * 0.5 + 0.5
    opacity = chosen * density * masks * torch.sigmoid(sharpness * (clouds - threshold))
    return gray + opacity * (white - gray)
