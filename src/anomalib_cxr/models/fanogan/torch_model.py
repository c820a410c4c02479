"""The networks that score: encoder, generator and the critic's features.

The critic's last layer is no part of them, because a score does not need it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_cxr.functional import mean_squared_distance
from anomalib_cxr.models.base.module import to_gray
from anomalib_cxr.models.networks.wgan_gp import ResidualGenerator, ResidualTrunk, glorot_linear

from .loss import Residual


class Reconstruction(NamedTuple):
    """What the generator makes of an image's code."""

    painted: torch.Tensor
    """`G(E(x))` in [-1, 1], `(B, 1, H, W)`."""
    code: torch.Tensor
    """`E(x)` in [-1, 1], `(B, latent_dim)`."""


class FanoganEncoder(nn.Module):
    """From an image to a code in [-1, 1], in the critic's layout.

    Args:
        image_size: Side of the square image, a power of two.
        latent_dim: Length of the code.
        n_features: Channels after the first convolution.

    Example:
        >>> FanoganEncoder(32, latent_dim=10, n_features=4)(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, image_size: int, latent_dim: int, n_features: int) -> None:
        super().__init__()
        self.trunk = ResidualTrunk(image_size, n_features)
        self.head = glorot_linear(self.trunk.n_out, latent_dim)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Encode images `(B, 1, H, W)` into codes `(B, latent_dim)`."""
        return torch.tanh(self.head(self.trunk(image)))


class FanoganModel(nn.Module):
    """Scores an image by how far it is from the nearest thing that a generator of healthy images can make.

    `mean (x - G(E(x)))^2 + kappa * mean (f(x) - f(G(E(x))))^2`, `f` the critic's features.

    Args:
        image_size: Side of the square image, a power of two.
        latent_dim: Length of the codes.
        n_features: Channels at full resolution; up to 8 times as many at 4 x 4.
        kappa: Weight of the features.

    Example:
        >>> model = FanoganModel(32, latent_dim=10, n_features=4).eval()
        >>> scores = model(torch.zeros(2, 3, 32, 32))
        >>> scores.pred_score.shape, scores.anomaly_map.shape
        (torch.Size([2]), torch.Size([2, 1, 32, 32]))
    """

    to_gray = staticmethod(to_gray)

    def __init__(self, image_size: int = 64, latent_dim: int = 128, n_features: int = 64, kappa: float = 1.0) -> None:
        super().__init__()
        self.kappa = kappa
        self.generator = ResidualGenerator(image_size, latent_dim, n_features)
        self.features = ResidualTrunk(image_size, n_features)
        self.encoder = FanoganEncoder(image_size, latent_dim, n_features)

    def paint(self, gray: torch.Tensor) -> Reconstruction:
        """Encode gray images in [-1, 1], `(B, 1, H, W)`, and generate images of the codes."""
        code = self.encoder(gray)
        return Reconstruction(self.generator(code), code)

    def painting_of(self, images: torch.Tensor) -> torch.Tensor:
        """Paint images as the pre-processor leaves them, `(B, C, H, W)`, in gray in [-1, 1], `(B, 1, H, W)`."""
        return self.paint(self.to_gray(images)).painted

    def residual(self, gray: torch.Tensor, painted: torch.Tensor) -> Residual:
        """Compare images with what was generated of their codes, both `(B, 1, H, W)`, per image."""
        return Residual(
            mean_squared_distance(gray, painted),
            mean_squared_distance(self.features(gray), self.features(painted)),
        )

    def forward(self, images: torch.Tensor) -> InferenceBatch:
        """Score images.

        Args:
            images: X-rays in [-1, 1], `(B, C, H, W)`, their channels alike.

        Returns:
            `pred_score` `(B,)`, at least 0, and `anomaly_map` `(B, 1, H, W)`: the difference between the image and
            what was generated of its code, in [0, 1].
        """
        gray = self.to_gray(images)
        painted = self.paint(gray).painted
        return InferenceBatch(
            pred_score=self.residual(gray, painted).total(self.kappa), anomaly_map=(gray - painted).abs() / 2
        )
