"""How a lesion net learns: healthy lungs, into which lesions are painted, and the places where they are."""

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
from .lesion_net import Answer, LesionNet, LesionView

logger = logging.getLogger(__name__)

LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2
BATCH = 24
SEEN = 0.12
"""Change of the gray value, in the view's units, at which a lesion counts as seen by about two thirds."""
LEAST_SEEN = 6.0
"""Pixels of a lesion, of the map, from which an image counts as having one."""
UNITS = 0.35
"""Greatest change of the unit's logarithm: the net is to bear lungs of more and less contrast."""
GRAIN = 0.02
"""Greatest standard deviation of the noise that is added, of gray values in [0, 1]."""
_FOLDS = 3


class Example(NamedTuple):
    """One batch to learn from."""

    seen: torch.Tensor
    """What the net sees, `(B, 2, H, W)`."""
    lesion: torch.Tensor
    """How much of a lesion is seen at each place, in [0, 1], `(B, 1, H / 2, W / 2)`."""
    clean: torch.Tensor
    """The lungs without it, in the scale of what is seen, 0 outside, `(B, 1, H / 2, W / 2)`."""
    inside: torch.Tensor
    """1 in the lungs, `(B, 1, H / 2, W / 2)`."""


Paint = Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]
"""Paints lesions into lungs in [0, 1], `(B, 1, H, W)`, whose mask is the second argument."""


class LesionTraining:
    """Trains one lesion net on frames of healthy lungs.

    The number of steps is fixed: trained longer, a net learns the painted lesions by heart, and finds true ones less.
    What is kept is the moving average of the weights.

    Args:
        frames: Healthy lungs in [0, 1], `(N, 1, H, W)`, on the device to train on.
        insides: How much of each pixel is lung, in [0, 1], `(N, 1, H, W)`.
        paint: Paints lesions.
        seed: Seed of order, augmentation and lesions. What is dropped in training comes from torch's own random
            numbers.

    Example:
        >>> from anomalib_cxr.functional.lesions import add_lesions
        >>> frames = torch.rand(6, 1, 96, 96)
        >>> training = LesionTraining(frames, torch.ones_like(frames), add_lesions, seed=0)
        >>> net = training.run(LesionNet(2), steps=2)
        >>> net(training.view(frames)).image.shape
        torch.Size([6])
    """

    def __init__(self, frames: torch.Tensor, insides: torch.Tensor, paint: Paint, seed: int) -> None:
        self.frames, self.insides, self.paint = frames, insides, paint
        self.draw = torch.Generator().manual_seed(seed)
        self.view = self._view(torch.arange(len(frames)))
        self.fold = torch.randperm(len(frames), generator=self.draw) % _FOLDS
        self.views = [self._view((self.fold != fold).nonzero().squeeze(1)) for fold in range(_FOLDS)]

    def _view(self, chosen: torch.Tensor) -> LesionView:
        """Fit a view to some of the images."""
        view = LesionView().to(self.frames.device)
        view.fit_unit(self.frames)  # of all images: the unit is the same in all views
        frames = self.frames[chosen]
        moved = [move(frames, STRENGTH, self.draw) for _ in range(MOST_COPIES)]
        view.fit(torch.cat([frames, *moved]))
        return view

    def run(self, net: LesionNet, steps: int) -> LesionNet:
        """Train a net, and return the average of its weights, set to inference."""
        net.train()
        average = copy.deepcopy(net)
        optimizer = AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.15)
        for step, chosen in enumerate(self._batches(steps)):
            example = self.example(chosen)
            loss = lesion_loss(net(example.seen), example)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            _follow(average, net, min(0.98, (step + 1) / (step + 10)))
            if (step + 1) % 100 == 0:
                logger.info("lesion net: step %d of %d, loss %.4f", step + 1, steps, loss.item())
        return average.eval()

    def _batches(self, steps: int) -> list[torch.Tensor]:
        """Return the images of each batch: all in turn, in a new order each time."""
        return shuffled_batches(len(self.frames), BATCH, steps, self.draw)

    def example(self, chosen: torch.Tensor) -> Example:
        """Make a batch of images: move, expose, paint lesions, and see."""
        both = torch.cat([self.frames[chosen], self.insides[chosen]], dim=1)
        frames, insides = move(both, 1.0, self.draw).chunk(2, dim=1)
        frames = expose(frames, self.draw)
        painted = self.paint(frames, insides, self.draw)
        lesion = self._seen_lesion(frames, painted)
        noise = torch.randn(frames.shape, generator=self.draw).to(frames)
        noisy = painted + GRAIN * uniform(len(chosen), 0, 1, self.draw).to(frames) * noise
        unit = uniform(len(chosen), -UNITS, UNITS, self.draw).exp().to(frames)
        seen = self.view.normalize(noisy) * unit
        inside = functional.avg_pool2d(insides, 2)
        return Example(
            torch.cat([seen, self._unseen_residual(seen, self.fold[chosen])], dim=1),
            lesion,
            functional.avg_pool2d(self.view.normalize(frames, like=noisy) * unit, 2) * inside,
            inside,
        )

    def _seen_lesion(self, clean: torch.Tensor, painted: torch.Tensor) -> torch.Tensor:
        """Return how much of a lesion is seen at each place."""
        change = functional.avg_pool2d(painted - clean, 2)
        return 1 - torch.exp(-((change / (SEEN * self.view.unit)) ** 2))

    def _unseen_residual(self, seen: torch.Tensor, fold: torch.Tensor) -> torch.Tensor:
        """Return the residual of each image from the subspace that was fitted without it, `(B, 1, H, W)`."""
        residuals = torch.stack([view.residual(seen) for view in self.views])
        return residuals[fold, torch.arange(len(seen))]


def lesion_loss(answer: Answer, example: Example) -> torch.Tensor:
    """Return the loss of a batch: of the map, whose weight is in the lungs and on lesions, of image and painting."""
    weight = (0.15 + example.inside) * (1 + 2 * example.lesion)
    places = functional.binary_cross_entropy_with_logits(answer.places, example.lesion, weight=weight)
    has_lesion = (example.lesion.sum(dim=(1, 2, 3)) > LEAST_SEEN).to(answer.image)
    image = functional.binary_cross_entropy_with_logits(answer.image, has_lesion)
    clean = functional.l1_loss(answer.clean, example.clean)
    return 2 * places + 0.3 * image + 2 * clean


@torch.no_grad()
def _follow(average: nn.Module, net: nn.Module, kept: float) -> None:
    """Move the average of the weights, and of the statistics, towards the net."""
    for old, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if old.dtype.is_floating_point:
            old.lerp_(new, 1 - kept)
        else:
            old.copy_(new)
