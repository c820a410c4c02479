"""Losses of Fanogan; each term is one pure function.

Source: I. Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS 2017, for generator and critic; T. Schlegl
et al., "f-AnoGAN", Medical Image Analysis 2019, for the encoder.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


def wasserstein_gap(real: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
    """Return `mean D(x) - mean D(G(z))`, the critic's estimate of the Wasserstein distance.

    Args:
        real: The critic's values of real images, `(B,)`.
        generated: Those of generated ones, `(B,)`.

    Returns:
        A scalar.
    """
    return real.mean() - generated.mean()


def critic_loss(gap: torch.Tensor, penalty: torch.Tensor, w_gp: float) -> torch.Tensor:
    """Return `w_gp * penalty - gap`.

    Args:
        gap: :func:`wasserstein_gap`, a scalar.
        penalty: Mean of the gradient penalty, a scalar.
        w_gp: Weight of the penalty.

    Returns:
        A scalar.

    Example:
        >>> critic_loss(torch.tensor(2.0), torch.tensor(0.5), w_gp=10.0)
        tensor(3.)
    """
    return w_gp * penalty - gap


def generator_loss(generated: torch.Tensor) -> torch.Tensor:
    """Return `-mean D(G(z))`.

    Args:
        generated: The critic's values of generated images, `(B,)`.

    Returns:
        A scalar.
    """
    return -generated.mean()


class Residual(NamedTuple):
    """Difference between images and their reconstructions."""

    image: torch.Tensor
    """Mean squared difference of the images, `(B,)`."""
    features: torch.Tensor
    """Mean squared difference of the critic's features, `(B,)`."""

    def total(self, kappa: float) -> torch.Tensor:
        """Return `image + kappa * features`: the score, and in the mean the encoder's loss.

        Args:
            kappa: Weight of the features.

        Returns:
            `(B,)`.
        """
        return self.image + kappa * self.features
