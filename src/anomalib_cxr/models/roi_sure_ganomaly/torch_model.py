"""The networks that score: the painter (first encoder and decoder) and the second encoder.

The discriminator is no part of them, because an exported model must not carry it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_cxr.functional import DISTANCES, Distance, paint_region, painted_region
from anomalib_cxr.models.components import (
    DcganGenerator,
    FrozenSegmenter,
    Generator,
    ResidualUnet,
    initialise_dcgan,
    to_grey,
)

GeneratorName = Literal["dcgan", "residual_unet"]
GENERATORS: dict[GeneratorName, type[DcganGenerator | ResidualUnet]] = {
    "dcgan": DcganGenerator,
    "residual_unet": ResidualUnet,
}
"""Networks that paint, by the name that a configuration has for them."""


class Seen(NamedTuple):
    """What the networks see of an X-ray."""

    image: torch.Tensor
    """Grey image in [-1, 1], `(B, 1, H, W)`, black outside the region."""
    region: torch.Tensor | None
    """1 where the X-ray was kept, 0 elsewhere, `(B, 1, H, W)`; None where all of it was."""


class Painting(NamedTuple):
    """What a training step needs of one pass."""

    painted: torch.Tensor
    """The painted region of interest in [-1, 1], `(B, n_channels, H, W)`."""
    z_full: torch.Tensor
    """Code of the image that is seen, `(B, Z, 1, 1)`."""
    z_painted: torch.Tensor
    """Code of the painted region, `(B, Z, 1, 1)`."""


class RoiSureGanomalyModel(nn.Module):
    """Scores an image by the distance of `z_full` and `z_painted`, the disagreement of the two encoders.

    On a healthy image both agree. On a sick one the painter, which has only learned healthy lungs, paints those.

    Args:
        image_size: Side of the square image, a power of two from 32 to 512.
        latent_dim: Length of the codes.
        n_features: Channels after the first convolution.
        max_features: Cap on the channels; None for none.
        generator: Network that paints, and whose encoder has the layout of the second one, by its name in
            :data:`GENERATORS`.
        distance: Distance of the codes, by its name in :data:`anomalib_cxr.functional.DISTANCES`.
        n_channels: Channels of the networks: 1, or 3 copies of the grey one.
        whole_image: True where the target is all that is seen: the anomaly map then covers all of it.
        lungs_only: True where the networks see the cut-out lungs only.

    Example:
        >>> model = RoiSureGanomalyModel(64, latent_dim=10, n_features=8).eval()
        >>> scores = model(torch.zeros(2, 3, 64, 64))
        >>> scores.pred_score.shape, scores.anomaly_map.shape
        (torch.Size([2]), torch.Size([2, 1, 64, 64]))
    """

    painter: Generator

    def __init__(
        self,
        image_size: int = 256,
        latent_dim: int = 100,
        n_features: int = 64,
        max_features: int | None = None,
        *,
        generator: GeneratorName = "dcgan",
        distance: Distance = "euclidean",
        n_channels: int = 1,
        whole_image: bool = False,
        lungs_only: bool = False,
    ) -> None:
        super().__init__()
        self.whole_image = whole_image
        self.distance = DISTANCES[distance]
        self.painter = GENERATORS[generator](image_size, latent_dim, n_features, max_features, n_channels)
        self.encoder = self.painter.new_encoder()
        self.apply(initialise_dcgan)
        self.lungs = FrozenSegmenter(image_size) if lungs_only else None

    def see(self, images: torch.Tensor) -> Seen:
        """Take from X-rays in [-1, 1], `(B, C, H, W)`, their channels alike, what the networks are to see."""
        grey = to_grey(images)
        if self.lungs is None:
            return Seen(grey, None)
        region = self.lungs.region(grey)
        return Seen(paint_region(grey, region), region)

    def paint(self, image: torch.Tensor) -> Painting:
        """Paint the region of interest of what is seen, `(B, 1, H, W)`, and encode image and painting."""
        painted, z_full = self.painter.paint(image)  # (B, n_channels, H, W), (B, Z, 1, 1)
        return Painting(painted, z_full, self.encoder(painted))

    def painting_of(self, images: torch.Tensor) -> torch.Tensor:
        """Paint images as the pre-processor leaves them, `(B, C, H, W)`, in grey in [-1, 1], `(B, 1, H, W)`."""
        return to_grey(self.paint(self.see(images).image).painted)

    def forward(self, images: torch.Tensor) -> InferenceBatch:
        """Score images.

        Args:
            images: X-rays in [-1, 1], `(B, C, H, W)`, their channels alike.

        Returns:
            `pred_score` `(B,)`, at least 0, and `anomaly_map` `(B, 1, H, W)`: the difference between what is seen and
            the painting in [0, 1] where the painter painted, 0 elsewhere.
        """
        image, region = self.see(images)
        painted, z_full, z_painted = self.paint(image)
        residual = to_grey((image - painted).abs()) / 2  # (B, 1, H, W)
        if not self.whole_image:
            residual = residual * painted_region(to_grey(painted))
        if region is not None:
            residual = residual * region
        return InferenceBatch(pred_score=self.distance(z_painted, z_full), anomaly_map=residual)
