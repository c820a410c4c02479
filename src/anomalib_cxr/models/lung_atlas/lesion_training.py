"""Training of a lesion net on synthetic lesions in healthy lungs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from anomalib_cxr.segmentation.training import shuffled_batches

from .augmentation import MOST_COPIES, STRENGTH, expose, move, uniform
from .lesion_net import LesionInput, LesionNet, LesionOutput

logger = logging.getLogger(__name__)

LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2
BATCH = 24
VISIBLE = 0.12
"""Change of the gray value, in the input's units, at which a lesion counts as visible by about two thirds."""
LEAST_VISIBLE = 6.0
"""Pixels of a lesion, of the map, from which an image counts as having one."""
UNITS = 0.35
"""Greatest change of the unit's logarithm: the net is to bear lungs of more and less contrast."""
GRAIN = 0.02
"""Greatest standard deviation of the noise that is added, of gray values in [0, 1]."""
_FOLDS = 3


class LesionBatch(NamedTuple):
    """One batch of the training."""

    inputs: torch.Tensor
    """Inputs of the net, `(B, 2, H, W)`."""
    lesion: torch.Tensor
    """Visibility of a lesion at each place, in [0, 1], `(B, 1, H / 2, W / 2)`."""
    clean: torch.Tensor
    """The lungs without it, in the scale of the inputs, 0 outside, `(B, 1, H / 2, W / 2)`."""
    inside: torch.Tensor
    """1 in the lungs, `(B, 1, H / 2, W / 2)`."""


AddLesions = Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]
"""Adds lesions to lungs in [0, 1], `(B, 1, H, W)`, whose mask is the second argument."""


class LesionTraining:
    """Trains one lesion net on frames of healthy lungs.

    The number of steps is fixed: trained longer, a net overfits to synthetic lesions, and detects true ones less. The
    moving average of the weights is kept.

    Args:
        frames: Healthy lungs in [0, 1], `(N, 1, H, W)`, on the device to train on.
        insides: Share of lung in each pixel, in [0, 1], `(N, 1, H, W)`.
        add_lesions: Adds synthetic lesions.
        seed: Seed of order, augmentation and lesions. Dropout uses torch's own random numbers.

    Example:
        >>> from anomalib_cxr.functional.lesions import add_lesions
        >>> frames = torch.rand(6, 1, 96, 96)
        >>> training = LesionTraining(frames, torch.ones_like(frames), add_lesions, seed=0)
        >>> net = training.run(LesionNet(2), steps=2)
        >>> net(training.input(frames)).image.shape
        torch.Size([6])
    """

    def __init__(self, frames: torch.Tensor, insides: torch.Tensor, add_lesions: AddLesions, seed: int) -> None:
        self.frames, self.insides, self.add_lesions = frames, insides, add_lesions
        self.draw = torch.Generator().manual_seed(seed)
        self.input = self._fit_input(torch.arange(len(frames)))
        self.fold = torch.randperm(len(frames), generator=self.draw) % _FOLDS
        self.inputs = [self._fit_input((self.fold != fold).nonzero().squeeze(1)) for fold in range(_FOLDS)]

    def _fit_input(self, chosen: torch.Tensor) -> LesionInput:
        """Fit an input to some of the images."""
        prepare = LesionInput().to(self.frames.device)
        prepare.fit_unit(self.frames)  # of all images: the unit is the same in all inputs
        frames = self.frames[chosen]
        moved = [move(frames, STRENGTH, self.draw) for _ in range(MOST_COPIES)]
        prepare.fit(torch.cat([frames, *moved]))
        return prepare

    def run(self, net: LesionNet, steps: int) -> LesionNet:
        """Train a net.

        Args:
            net: The net; trained in place.
            steps: Batches to train on.

        Returns:
            A net with the moving average of the weights, in evaluation mode.
        """
        net.train()
        average = copy.deepcopy(net)
        optimizer = AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.15)
        for step, chosen in enumerate(self._batches(steps)):
            batch = self.make_batch(chosen)
            loss = lesion_loss(net(batch.inputs), batch)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            _update_average(average, net, min(0.98, (step + 1) / (step + 10)))
            if (step + 1) % 100 == 0:
                logger.info("lesion net: step %d of %d, loss %.4f", step + 1, steps, loss.item())
        return average.eval()

    def _batches(self, steps: int) -> list[torch.Tensor]:
        """Return the images of each batch: all in turn, in a new order each time."""
        return shuffled_batches(len(self.frames), BATCH, steps, self.draw)

    def make_batch(self, chosen: torch.Tensor) -> LesionBatch:
        """Augment images and add lesions.

        Args:
            chosen: Numbers of the images, `(B,)`.

        Returns:
            Inputs and targets.
        """
        stacked = torch.cat([self.frames[chosen], self.insides[chosen]], dim=1)  # (B, 2, H, W)
        frames, insides = move(stacked, 1.0, self.draw).chunk(2, dim=1)
        frames = expose(frames, self.draw)
        altered = self.add_lesions(frames, insides, self.draw)
        lesion = self._visibility(frames, altered)
        noise = torch.randn(frames.shape, generator=self.draw).to(frames)
        noisy = altered + GRAIN * uniform(len(chosen), 0, 1, self.draw).to(frames) * noise
        unit = uniform(len(chosen), -UNITS, UNITS, self.draw).exp().to(frames)
        normalized = self.input.normalize(noisy) * unit
        inside = functional.avg_pool2d(insides, 2)
        return LesionBatch(
            torch.cat([normalized, self._residual(normalized, self.fold[chosen])], dim=1),
            lesion,
            functional.avg_pool2d(self.input.normalize(frames, like=noisy) * unit, 2) * inside,
            inside,
        )

    def _visibility(self, clean: torch.Tensor, altered: torch.Tensor) -> torch.Tensor:
        """Return the visibility of lesions at each place."""
        change = functional.avg_pool2d(altered - clean, 2)
        return 1 - torch.exp(-((change / (VISIBLE * self.input.unit)) ** 2))

    def _residual(self, normalized: torch.Tensor, fold: torch.Tensor) -> torch.Tensor:
        """Return the residual of each image from the subspace that was fitted without it, `(B, 1, H, W)`."""
        residuals = torch.stack([prepare.residual(normalized) for prepare in self.inputs])
        return residuals[fold, torch.arange(len(normalized))]


def lesion_loss(output: LesionOutput, batch: LesionBatch) -> torch.Tensor:
    """Return the loss of a batch: of the map, weighted in the lungs and on lesions, of image logit and clean lungs.

    Args:
        output: Output of the net.
        batch: Its targets.

    Returns:
        A scalar.
    """
    weight = (0.15 + batch.inside) * (1 + 2 * batch.lesion)
    places = functional.binary_cross_entropy_with_logits(output.map, batch.lesion, weight=weight)
    has_lesion = (batch.lesion.sum(dim=(1, 2, 3)) > LEAST_VISIBLE).to(output.image)
    image = functional.binary_cross_entropy_with_logits(output.image, has_lesion)
    clean = functional.l1_loss(output.clean, batch.clean)
    return 2 * places + 0.3 * image + 2 * clean


@torch.no_grad()
def _update_average(average: nn.Module, net: nn.Module, kept: float) -> None:
    """Move the average of the weights, and of the statistics, towards the net."""
    for old, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if old.dtype.is_floating_point:
            old.lerp_(new, 1 - kept)
        else:
            old.copy_(new)
