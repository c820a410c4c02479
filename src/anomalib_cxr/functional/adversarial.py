"""Terms of adversarial training: distances of codes or features, and the gradient penalty of a Wasserstein critic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

Distance = Literal["euclidean", "mean_squared"]


def euclidean_distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Compute the Euclidean distance of each pair of a batch.

    Args:
        first: Codes or features, `(B, ...)`.
        second: Codes or features of the same shape.

    Returns:
        One distance per pair, `(B,)`.

    Example:
        >>> euclidean_distance(torch.zeros(2, 1, 2), torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]]))
        tensor([5., 0.])
    """
    distance: torch.Tensor = torch.linalg.vector_norm((first - second).flatten(1), dim=1)
    return distance


def mean_squared_distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Compute the mean squared difference of each pair of a batch, as GANomaly compares codes and features.

    Args:
        first: Codes or features, `(B, ...)`.
        second: Codes or features of the same shape.

    Returns:
        One mean per pair, `(B,)`.

    Example:
        >>> mean_squared_distance(torch.zeros(2, 1, 2), torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]]))
        tensor([12.5000,  0.0000])
    """
    return (first - second).square().flatten(1).mean(1)


DISTANCES: dict[Distance, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "euclidean": euclidean_distance,
    "mean_squared": mean_squared_distance,
}
"""Distances by their name in a configuration."""

Critic = Callable[[torch.Tensor], torch.Tensor]


def gradient_penalty(
    critic: Critic,
    real: torch.Tensor,
    fake: torch.Tensor,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Compute the gradient penalty of a Wasserstein critic: `(||dD(x) / dx||_2 - 1)^2`.

    It is taken at `x = e * real + (1 - e) * fake`, `e ~ U[0, 1]` for each pair. No gradient flows back to the images.
    The critic must treat each image separately: batch normalization would mix the gradients of a batch.

    Source: I. Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS 2017, equation 3.

    Args:
        critic: `D`, from `(B, C, H, W)` to one value per image, `(B,)` or `(B, 1)`.
        real: Real images, `(B, C, H, W)`.
        fake: Generated images of the same shape.
        generator: Source of `e`, on the device of `real`; None for torch's global one.

    Returns:
        One penalty per pair, `(B,)`, at least 0. Gradients flow to the critic's parameters.

    Example:
        >>> slope_3 = lambda x: 3 * x.flatten(1).sum(1)  # the gradient's norm is 3 * sqrt(4 pixels) = 6
        >>> gradient_penalty(slope_3, torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2))
        tensor([25., 25.])
    """
    share = torch.rand((len(real), *[1] * (real.dim() - 1)), generator=generator, device=real.device, dtype=real.dtype)
    between = (share * real.detach() + (1 - share) * fake.detach()).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: torch.Tensor = (torch.linalg.vector_norm(slope.flatten(1), dim=1) - 1).square()
    return penalty
