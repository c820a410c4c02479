"""What healthy lungs have in common, as a linear subspace, and what does not lie in it."""

from __future__ import annotations

import torch
from torch import nn


class HealthySubspace(nn.Module):
    """The mean of healthy images and the directions in which they differ most: principal components.

    Args:
        n_values: Values of an image.
        n_components: Directions that are kept; images in lesser number span fewer.

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
        """Learn from healthy images, `(N, n_values)`."""
        mean = values.double().mean(dim=0)
        found = _principal_directions(values - mean, self.components.shape[1])
        self.mean.copy_(mean)
        self.components.zero_()
        self.components[:, : found.shape[1]] = found

    def residual(self, values: torch.Tensor) -> torch.Tensor:
        """Return what of images is not in the subspace, `(B, n_values)` to `(B, n_values)`."""
        # In this form an export keeps float32, and the components only once: the projection of the opposite is added,
        # as a product from the left.
        opposite = (self.mean - values) @ self.components  # (B, n_components)
        return values - self.mean + (self.components @ opposite.T).T


def _principal_directions(away: torch.Tensor, most: int) -> torch.Tensor:
    """Return the directions of greatest variance, the greatest first, `(n_values, at most as many as asked for)`.

    They are the eigenvectors of the values' products with each other, or found by those of the images' products where
    the images are fewer.

    Args:
        away: What images are away from their mean, `(N, n_values)`, in double precision.
        most: Directions that are asked for; those without variance, beyond rounding, are left out.
    """
    few_images = len(away) < away.shape[1]
    squares, vectors = torch.linalg.eigh(away @ away.T if few_images else away.T @ away)  # ascending
    varied = squares > squares[-1] * max(away.shape) * torch.finfo(away.dtype).eps
    varied[:-most] = False
    found: torch.Tensor = vectors[:, varied].flip(1)
    return away.T @ found / squares[varied].flip(0).sqrt() if few_images else found
