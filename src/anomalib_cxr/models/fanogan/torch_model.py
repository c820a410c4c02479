"""The networks that score: encoder, generator and the critic's features.

The critic's last layer is no part of them, because a score does not need it.
"""

from __future__ import annotations

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_cxr.functional import mean_squared_distance
from anomalib_cxr.models.base.module import to_gray
from anomalib_cxr.models.networks.wgan_gp import ResidualGenerator, ResidualTrunk, glorot_linear

from .loss import Residual


class FanoganEncoder(nn.Module):
    """Encoder of an image into a code in [-1, 1], in the critic's layout; the Tanh is the authors' default.

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
        """Encode images.

        Args:
            image: Gray images in [-1, 1], `(B, 1, H, W)`.

        Returns:
            Codes, `(B, latent_dim)`.
        """
        return torch.tanh(self.head(self.trunk(image)))


class FanoganModel(nn.Module):
    """Scores an image by its distance from its reconstruction by a generator of healthy images.

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

    def __init__(self, image_size: int = 64, latent_dim: int = 128, n_features: int = 64, kappa: float = 1.0) -> None:
        super().__init__()
        self.kappa = kappa
        self.generator = ResidualGenerator(image_size, latent_dim, n_features)
        self.features = ResidualTrunk(image_size, n_features)
        self.encoder = FanoganEncoder(image_size, latent_dim, n_features)

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """Reconstruct X-rays.

        Args:
            images: X-rays in [-1, 1], `(B, C, H, W)`.

        Returns:
            `G(E(x))` in gray in [-1, 1], `(B, 1, H, W)`.
        """
        image: torch.Tensor = self.generator(self.encoder(to_gray(images)))
        return image

    def residual(self, gray: torch.Tensor, reconstructed: torch.Tensor) -> Residual:
        """Compare images with their reconstructions.

        Args:
            gray: Gray images in [-1, 1], `(B, 1, H, W)`.
            reconstructed: Their reconstructions, `(B, 1, H, W)`.

        Returns:
            The differences of gray values and features, each `(B,)`.
        """
        return Residual(
            mean_squared_distance(gray, reconstructed),
            mean_squared_distance(self.features(gray), self.features(reconstructed)),
        )

    def forward(self, images: torch.Tensor) -> InferenceBatch:
        """Score images.

        Args:
            images: X-rays in [-1, 1], `(B, C, H, W)`, their channels alike.

        Returns:
            `pred_score` `(B,)`, at least 0, and `anomaly_map` `(B, 1, H, W)`: the difference between the image and its
            reconstruction, in [0, 1].
        """
        gray = to_gray(images)
        reconstructed = self.reconstruct(gray)
        score = self.residual(gray, reconstructed).total(self.kappa)
        return InferenceBatch(pred_score=score, anomaly_map=(gray - reconstructed).abs() / 2)
