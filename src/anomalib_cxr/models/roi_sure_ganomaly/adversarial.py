"""Adversarial training: schemes by which discriminator and generator are trained against each other.

Sources: [0] S. Akcay et al., "GANomaly", ACCV 2018, for feature matching; [1] I. Gulrajani et al., "Improved training
of Wasserstein GANs", NeurIPS 2017; [2] C. K. Sonderby et al., "Amortised MAP inference for image super-resolution",
ICLR 2017, and M. Arjovsky, L. Bottou, "Towards principled methods for training generative adversarial networks", ICLR
2017, for instance noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from anomalib_cxr.functional import Distance, gradient_penalty
from anomalib_cxr.models.networks.dcgan import DiscriminatorOutput, Norm
from anomalib_cxr.models.networks.wgan_gp import ImageNorm

from .loss import discriminator_loss, feature_matching
from .settings import AdversarySettings

REINITIALIZE_BELOW = 1e-5
"""Loss under which a discriminator is initialized again, as the dissertation and GANomaly's own code do."""


class AdversarialScheme(ABC):
    """Losses of discriminator and generator.

    Attributes:
        norm: Normalization in the discriminator.
        n_critic: Steps of the discriminator for each of the generator.
        reinitialize_below: Loss under which the discriminator is initialized again; None for never.
    """

    norm: Norm
    n_critic: int
    reinitialize_below: float | None

    def output(self, discriminator: nn.Module, regions: torch.Tensor) -> DiscriminatorOutput:
        """Return the discriminator's output in the precision that the scheme needs.

        Args:
            discriminator: The discriminator.
            regions: True or generated regions in [-1, 1], `(B, C, H, W)`.

        Returns:
            Features and logits.
        """
        output: DiscriminatorOutput = discriminator(regions)
        return output

    @abstractmethod
    def discriminator_loss(
        self, discriminator: nn.Module, real: torch.Tensor, generated: torch.Tensor
    ) -> tuple[torch.Tensor, DiscriminatorOutput]:
        """Return the discriminator's loss.

        Args:
            discriminator: The discriminator.
            real: True regions in [-1, 1], `(B, C, H, W)`.
            generated: As many generated ones, detached from the generator.

        Returns:
            The loss, a scalar, and the output of the true regions.
        """

    @abstractmethod
    def generator_loss(self, real: DiscriminatorOutput, generated: DiscriminatorOutput) -> torch.Tensor:
        """Return the adversarial term of the generator's loss.

        Args:
            real: Output of true regions.
            generated: Output of generated ones, with the generator's gradient.

        Returns:
            A scalar.
        """


class FeatureMatching(AdversarialScheme):
    """Cross-entropy for the discriminator, distance of its features for the generator.

    Args:
        distance: Distance of the features.
    """

    norm = nn.BatchNorm2d
    n_critic = 1
    reinitialize_below = REINITIALIZE_BELOW

    def __init__(self, distance: Distance = "euclidean") -> None:
        self.distance = distance

    def discriminator_loss(
        self, discriminator: nn.Module, real: torch.Tensor, generated: torch.Tensor
    ) -> tuple[torch.Tensor, DiscriminatorOutput]:
        """Return half the cross-entropy of each side, and the output of the true regions."""
        output = self.output(discriminator, real)
        return discriminator_loss(output.logits, self.output(discriminator, generated).logits), output

    def generator_loss(self, real: DiscriminatorOutput, generated: DiscriminatorOutput) -> torch.Tensor:
        """Return the distance of the features."""
        return feature_matching(real.features.detach(), generated.features, self.distance)


class WganGp(AdversarialScheme):
    """Wasserstein critic with gradient penalty, in float32 because its loss has a gradient in it.

    The critic has no batch normalization, which would mix the gradients of a batch.

    Args:
        n_critic: Steps of the critic for each of the generator.
        weight: Weight of the gradient penalty.
    """

    norm = ImageNorm
    reinitialize_below = None

    def __init__(self, n_critic: int = 5, weight: float = 10.0) -> None:
        self.n_critic = n_critic
        self.weight = weight

    def output(self, discriminator: nn.Module, regions: torch.Tensor) -> DiscriminatorOutput:
        """Return the critic's output, computed in float32."""
        with torch.autocast(regions.device.type, enabled=False):
            output: DiscriminatorOutput = discriminator(regions.float())
            return output

    def discriminator_loss(
        self, discriminator: nn.Module, real: torch.Tensor, generated: torch.Tensor
    ) -> tuple[torch.Tensor, DiscriminatorOutput]:
        """Return `mean D(Y_hat) - mean D(Y) + weight * penalty`, and the output of the true regions."""
        real, generated = real.float(), generated.float()
        output = self.output(discriminator, real)
        gap = self.output(discriminator, generated).logits.mean() - output.logits.mean()
        penalty = gradient_penalty(lambda between: self.output(discriminator, between).logits, real, generated).mean()
        return gap + self.weight * penalty, output

    def generator_loss(self, real: DiscriminatorOutput, generated: DiscriminatorOutput) -> torch.Tensor:
        """Return `-mean D(Y_hat)`."""
        del real
        return -generated.logits.mean()


def choose_scheme(settings: AdversarySettings, distance: Distance) -> AdversarialScheme:
    """Return the scheme of some settings; a new one is added here.

    Args:
        settings: Settings of the adversarial training.
        distance: Distance of the features, for `feature_matching`.

    Returns:
        The scheme.
    """
    if settings.scheme == "feature_matching":
        return FeatureMatching(distance)
    return WganGp(settings.n_critic, settings.gradient_penalty)


def adversarial_losses(
    scheme: AdversarialScheme, discriminator: nn.Module, real: torch.Tensor, generated: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the generator's adversarial term and the discriminator's loss, whose gradients reach one of them only.

    Args:
        scheme: The scheme.
        discriminator: The discriminator.
        real: True regions in [-1, 1], `(B, C, H, W)`.
        generated: As many generated ones, with the generator's gradient.

    Returns:
        Two scalars.
    """
    loss, real_output = scheme.discriminator_loss(discriminator, real, generated.detach())
    with frozen_weights(discriminator):
        generated_output = scheme.output(discriminator, generated)
    return scheme.generator_loss(real_output, generated_output), loss


@contextmanager
def frozen_weights(network: nn.Module) -> Iterator[None]:
    """Let gradients flow through a network without reaching its weights.

    Args:
        network: The network.

    Yields:
        Nothing.
    """
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in learning:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in learning:
            weight.requires_grad_()


def instance_noise_level(first: float, epoch: int, n_epochs: int) -> float:
    """Return the standard deviation of the noise in an epoch: it falls linearly to 0 in the last one.

    Args:
        first: Standard deviation in the first epoch.
        epoch: The epoch, from 0.
        n_epochs: Epochs of the training.

    Returns:
        The standard deviation.

    Example:
        >>> [instance_noise_level(0.2, epoch, 5) for epoch in range(5)]
        [0.2, 0.15000000000000002, 0.1, 0.05, 0.0]
    """
    return first * (1 - epoch / max(1, n_epochs - 1))
