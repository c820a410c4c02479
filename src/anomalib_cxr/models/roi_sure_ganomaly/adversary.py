"""How the discriminator and the generator play against each other, by the name that a configuration has for it.

Sources: [0] S. Akcay et al., "GANomaly", ACCV 2018, for feature matching; [1] I. Gulrajani et al., "Improved training
of Wasserstein GANs", NeurIPS 2017; [2] C. K. Sonderby et al., "Amortised MAP inference for image super-resolution",
ICLR 2017, and M. Arjovsky, L. Bottou, "Towards principled methods for training generative adversarial networks", ICLR
2017, for instance noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from torch import nn

from anomalib_cxr.functional import Distance, gradient_penalty
from anomalib_cxr.models.networks.dcgan import DiscriminatorOutput, Norm
from anomalib_cxr.models.networks.wgan_gp import ImageNorm

from .judging import judge_for_both
from .loss import discriminator_loss, feature_matching

AdversaryName = Literal["feature_matching", "wgan_gp"]

REINITIALIZE_BELOW = 1e-5
"""Loss under which the discriminator has won and is started again, as the dissertation and GANomaly's own code do."""


class Duel(NamedTuple):
    """What comes of showing the discriminator true and painted regions."""

    loss: torch.Tensor
    """The discriminator's loss, a scalar."""
    real: DiscriminatorOutput
    """What it says of the true regions."""
    painted: DiscriminatorOutput
    """What it says of the painted ones, for the painter to learn from: its own weights get no gradient of this."""


class Adversary(ABC):
    """What discriminator and generator want of each other.

    Attributes:
        norm: Normalization in the discriminator.
        n_critic: Steps of the discriminator for each of the generator.
        reinitialize_below: Loss under which the discriminator is started again; None for never.
    """

    norm: Norm
    n_critic: int
    reinitialize_below: float | None

    @abstractmethod
    def duel(self, discriminator: nn.Module, real: torch.Tensor, painted: torch.Tensor) -> Duel:
        """Show the discriminator both sides; its loss has no gradient to the painter.

        Args:
            discriminator: The discriminator, which gives a :class:`anomalib_cxr.models.networks.dcgan.DiscriminatorOutput`.
            real: True regions in [-1, 1], `(B, C, H, W)`.
            painted: As many painted ones.
        """

    @abstractmethod
    def generator_term(self, real: DiscriminatorOutput, painted: DiscriminatorOutput) -> torch.Tensor:
        """Return what the generator is to minimize, a scalar.

        Args:
            real: What the discriminator says of true regions.
            painted: What it says of painted ones, with the painter's gradient.
        """


class FeatureMatching(Adversary):
    """The discriminator tells true from painted; the generator wants both to look alike to it.

    Args:
        distance: Distance of the features.
    """

    norm = nn.BatchNorm2d
    n_critic = 1
    reinitialize_below = REINITIALIZE_BELOW

    def __init__(self, distance: Distance = "euclidean") -> None:
        self.distance = distance

    def duel(self, discriminator: nn.Module, real: torch.Tensor, painted: torch.Tensor) -> Duel:
        """Return half the cross-entropy of each side."""
        judged, both = discriminator(real), judge_for_both(discriminator, painted)
        return Duel(discriminator_loss(judged.logits, both.for_discriminator.logits), judged, both.for_painter)

    def generator_term(self, real: DiscriminatorOutput, painted: DiscriminatorOutput) -> torch.Tensor:
        """Return the distance of the features."""
        return feature_matching(real.features.detach(), painted.features, self.distance)


class WganGp(Adversary):
    """The discriminator, a critic, tells how far apart both sides are; the generator wants to be called real.

    The critic has no batch normalization, which would mix the gradients of a batch.

    Args:
        n_critic: Steps of the critic for each of the generator.
        w_gp: Weight of the gradient penalty.
    """

    norm = ImageNorm
    reinitialize_below = None

    def __init__(self, n_critic: int = 5, w_gp: float = 10.0) -> None:
        self.n_critic = n_critic
        self.w_gp = w_gp

    def duel(self, discriminator: nn.Module, real: torch.Tensor, painted: torch.Tensor) -> Duel:
        """Return `mean D(Y_hat) - mean D(Y) + w_gp * penalty`; in float32, because it has a gradient in it."""
        real, painted = real.float(), painted.float()
        with torch.autocast(real.device.type, enabled=False):
            judged, both = discriminator(real), judge_for_both(discriminator, painted)
            penalty = gradient_penalty(lambda between: discriminator(between).logits, real, painted.detach()).mean()
        gap = both.for_discriminator.logits.mean() - judged.logits.mean()
        return Duel(gap + self.w_gp * penalty, judged, both.for_painter)

    def generator_term(self, real: DiscriminatorOutput, painted: DiscriminatorOutput) -> torch.Tensor:
        """Return `-mean D(Y_hat)`."""
        del real
        return -painted.logits.mean()


def choose_adversary(name: AdversaryName, *, distance: Distance, n_critic: int, w_gp: float) -> Adversary:
    """Return the adversary of a name; a new one is added here.

    Args:
        name: `feature_matching` or `wgan_gp`.
        distance: Distance of the features, for `feature_matching`.
        n_critic: Steps of the critic for each of the generator, for `wgan_gp`.
        w_gp: Weight of the gradient penalty, for `wgan_gp`.
    """
    return FeatureMatching(distance) if name == "feature_matching" else WganGp(n_critic, w_gp)


def instance_noise_level(first: float, epoch: int, n_epochs: int) -> float:
    """Return the standard deviation of the noise in an epoch: it falls in a line to 0 in the last one.

    Args:
        first: Standard deviation in the first epoch.
        epoch: The epoch, from 0.
        n_epochs: Epochs of the training.

    Example:
        >>> [instance_noise_level(0.2, epoch, 5) for epoch in range(5)]
        [0.2, 0.15000000000000002, 0.1, 0.05, 0.0]
    """
    return first * (1 - epoch / max(1, n_epochs - 1))
