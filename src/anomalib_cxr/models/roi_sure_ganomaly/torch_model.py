"""The networks that score: the painter (first encoder and decoder) and the second encoder.

The discriminator is no part of them, because an exported model must not carry it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_cxr.functional import euclidean_distance, painted_region
from anomalib_cxr.models.components import Decoder, Encoder, initialise_dcgan, to_grey


class Painting(NamedTuple):
    """What a training step needs of one pass."""

    painted: torch.Tensor
    """The painted region of interest in [-1, 1], `(B, 1, H, W)`."""
    z_full: torch.Tensor
    """Code of the full image, `(B, Z, 1, 1)`."""
    z_painted: torch.Tensor
    """Code of the painted region, `(B, Z, 1, 1)`."""


class Painter(nn.Module):
    """First encoder and decoder: sees the full image, paints the region of interest.

    Args:
        image_size: Side of the square image, a power of two from 32 to 512.
        latent_dim: Length of the code.
        n_features: Channels after the first convolution.
        max_features: Cap on the channels; None for none.
    """

    def __init__(self, image_size: int, latent_dim: int, n_features: int, max_features: int | None) -> None:
        super().__init__()
        self.encoder = Encoder(image_size, latent_dim, n_features, max_features)
        self.decoder = Decoder(image_size, latent_dim, n_features, max_features)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Paint the region of interest of images in [-1, 1], `(B, 1, H, W)`."""
        painted: torch.Tensor = self.decoder(self.encoder(image))
        return painted


class RoiSureGanomalyModel(nn.Module):
    """Scores an image by `||z_full - z_painted||_2`, the disagreement of the two encoders.

    On a healthy image both agree. On a sick one the painter, which has only learned healthy lungs, paints those.

    Args:
        image_size: Side of the square image, a power of two from 32 to 512.
        latent_dim: Length of the codes.
        n_features: Channels after the first convolution.
        max_features: Cap on the channels; None for none.
        whole_image: True where the target is the whole image: the anomaly map then covers all of it.

    Example:
        >>> model = RoiSureGanomalyModel(64, latent_dim=10, n_features=8).eval()
        >>> scores = model(torch.zeros(2, 3, 64, 64))
        >>> scores.pred_score.shape, scores.anomaly_map.shape
        (torch.Size([2]), torch.Size([2, 1, 64, 64]))
    """

    to_grey = staticmethod(to_grey)

    def __init__(
        self,
        image_size: int = 256,
        latent_dim: int = 100,
        n_features: int = 64,
        max_features: int | None = None,
        *,
        whole_image: bool = False,
    ) -> None:
        super().__init__()
        self.whole_image = whole_image
        self.painter = Painter(image_size, latent_dim, n_features, max_features)
        self.encoder = Encoder(image_size, latent_dim, n_features, max_features)
        self.apply(initialise_dcgan)

    def paint(self, grey: torch.Tensor) -> Painting:
        """Paint the region of interest of grey images in [-1, 1], `(B, 1, H, W)`, and encode image and painting."""
        z_full = self.painter.encoder(grey)  # (B, Z, 1, 1)
        painted = self.painter.decoder(z_full)  # (B, 1, H, W)
        return Painting(painted, z_full, self.encoder(painted))

    def painting_of(self, images: torch.Tensor) -> torch.Tensor:
        """Paint images as the pre-processor leaves them, `(B, C, H, W)`, in grey in [-1, 1], `(B, 1, H, W)`."""
        return self.paint(self.to_grey(images)).painted

    def forward(self, images: torch.Tensor) -> InferenceBatch:
        """Score images.

        Args:
            images: X-rays in [-1, 1], `(B, C, H, W)`, their channels alike.

        Returns:
            `pred_score` `(B,)`, at least 0, and `anomaly_map` `(B, 1, H, W)`: the difference between image and
            painting in [0, 1] where the painter painted, 0 elsewhere.
        """
        grey = self.to_grey(images)
        painted, z_full, z_painted = self.paint(grey)
        residual = (grey - painted).abs() / 2
        region = torch.ones_like(painted) if self.whole_image else painted_region(painted)
        return InferenceBatch(pred_score=euclidean_distance(z_painted, z_full), anomaly_map=residual * region)
