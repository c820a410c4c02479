"""What is made of a painting: one number, the higher the less healthy."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from sklearn.covariance import LedoitWolf
from torch import nn

ScoreName = Literal["latent", "residual", "mahalanobis"]
SCORES: tuple[str, ...] = get_args(ScoreName)
_LEAST = 1e-8  # of a square whose logarithm is taken


def log_mean_square(residual: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the mean squared residual in a region.

    Args:
        residual: Differences, `(B, 1, H, W)`.
        region: 1 where they count, 0 elsewhere, `(B, 1, H, W)`; where it is empty, all of them count.

    Returns:
        `(B,)`.

    Example:
        >>> log_mean_square(torch.tensor([[[[2.0, 5.0]]]]), torch.tensor([[[[1.0, 0.0]]]])).exp().round()
        tensor([4.])
    """
    empty = region.sum(dim=(2, 3), keepdim=True) == 0
    weight = torch.where(empty, torch.ones_like(region), region)
    mean = (residual**2 * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3))
    return (mean + _LEAST).log()


class HealthyCodes(nn.Module):
    """Scores codes by their Mahalanobis distance from those of healthy images.

    The code is the first encoder's: what it has to say of the image before anything is painted. The second encoder
    learns to agree with it, on sick images too, so that their difference says little; but a code far from all healthy
    ones says that no healthy lungs look so. With fewer healthy images than a covariance of that many numbers asks for,
    it is shrunk towards a sphere.

    Source: O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004.

    Args:
        latent_dim: Length of the codes.

    Example:
        >>> codes = HealthyCodes(2)
        >>> codes.fit(torch.randn(100, 2, generator=torch.Generator().manual_seed(0)))
        >>> near, far = codes(torch.tensor([[0.0, 0.0], [9.0, 9.0]]))
        >>> bool(far > near)
        True
    """

    center: torch.Tensor
    whitening: torch.Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(latent_dim))
        self.register_buffer("whitening", torch.eye(latent_dim))

    def fit(self, codes: torch.Tensor) -> None:
        """Learn from codes of healthy images, `(N, Z)`."""
        healthy = LedoitWolf().fit(codes.detach().cpu().double().numpy())
        self.center.copy_(torch.from_numpy(healthy.location_))
        self.whitening.copy_(torch.linalg.cholesky(torch.from_numpy(healthy.precision_)))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the logarithm of the mean squared whitened deviation of codes, `(B, Z)`: `(B,)`."""
        deviations = (codes - self.center) @ self.whitening
        return ((deviations**2).mean(dim=1) + _LEAST).log()
