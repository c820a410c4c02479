"""The subspace of healthy lungs: their mean and principal components, and what of an image lies outside it."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

OVERSAMPLED, ITERATIONS = 20, 2
"""Further directions that a randomized decomposition follows, and its passes over the images."""


class HealthySubspace(nn.Module):
    """The mean of healthy images and their principal components.

    Args:
        n_values: Values of an image.
        n_components: Components that are kept; images in lesser number span fewer.

    Example:
        >>> line = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
        >>> subspace = HealthySubspace(n_values=2, n_components=1)
        >>> subspace.fit(line)
        >>> subspace.residual(torch.tensor([[3.0, 3.0], [1.0, 0.0]])).round(decimals=3).abs()
        tensor([[0.0000, 0.0000],
                [0.5000, 0.5000]])
    """

    mean: torch.Tensor
    components: torch.Tensor

    def __init__(self, n_values: int, n_components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_values))
        self.register_buffer("components", torch.zeros(n_values, n_components))

    def fit(self, values: torch.Tensor) -> None:
        """Find mean and components.

        Args:
            values: Healthy images, `(N, n_values)`.
        """
        mean = values.double().mean(dim=0)
        directions = _principal_directions(values - mean, self.components.shape[1])
        self.mean.copy_(mean)
        self.components.zero_()
        self.components[:, : directions.shape[1]] = directions

    def residual(self, values: torch.Tensor) -> torch.Tensor:
        """Return the difference between images and their projections onto the subspace.

        Args:
            values: Images, `(B, n_values)`.

        Returns:
            Residuals, `(B, n_values)`.
        """
        centered = values - self.mean
        # A linear layer and no product with the transpose, which an export would store beside the components.
        return centered - functional.linear(centered @ self.components, self.components)


def _principal_directions(centered: torch.Tensor, most: int) -> torch.Tensor:
    """Return the directions of greatest variance, the greatest first, `(n_values, at most as many as asked for)`.

    Where few are asked for, they are found by a randomized decomposition, many times faster, whose random numbers have
    a seed of their own. Otherwise they are the eigenvectors of the values' products with each other, or found by those
    of the images' products where the images are fewer.

    Args:
        centered: Images without their mean, `(N, n_values)`, in double precision.
        most: Directions that are asked for; those without variance, beyond rounding, are left out.
    """
    if 2 * (most + OVERSAMPLED) < min(centered.shape):
        return _randomized_directions(centered, most)
    few_images = len(centered) < centered.shape[1]
    squares, vectors = torch.linalg.eigh(centered @ centered.T if few_images else centered.T @ centered)  # ascending
    varied = squares > squares[-1] * max(centered.shape) * torch.finfo(centered.dtype).eps
    varied[:-most] = False
    directions: torch.Tensor = vectors[:, varied].flip(1)
    return centered.T @ directions / squares[varied].flip(0).sqrt() if few_images else directions


def _randomized_directions(centered: torch.Tensor, most: int) -> torch.Tensor:
    """Return the directions of greatest variance; see :func:`_principal_directions`.

    Source: N. Halko, P.-G. Martinsson, J. Tropp, "Finding structure with randomness: probabilistic algorithms for
    constructing approximate matrix decompositions", SIAM Review 2011, algorithm 5.1 with subspace iteration.
    """
    values = centered.float()
    draw = torch.Generator().manual_seed(0)
    probes = torch.randn(values.shape[1], most + OVERSAMPLED, generator=draw).to(values)
    basis = torch.linalg.qr(values @ probes).Q
    for _ in range(ITERATIONS):
        basis = torch.linalg.qr(values @ torch.linalg.qr(values.T @ basis).Q).Q
    reduced = (basis.T @ values).double()
    squares, vectors = torch.linalg.eigh(reduced @ reduced.T)  # ascending
    varied = squares > squares[-1] * (max(values.shape) * torch.finfo(values.dtype).eps) ** 2
    varied[:-most] = False
    found: torch.Tensor = reduced.T @ vectors[:, varied].flip(1) / squares[varied].flip(0).sqrt()
    return found
