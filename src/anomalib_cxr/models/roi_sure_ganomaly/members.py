"""A painter and its second encoder, of which a model has one, or several that each have not seen some of the images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import nn

from anomalib_cxr.models.networks.dcgan import DcganGenerator, Generator, initialize_dcgan
from anomalib_cxr.models.networks.residual_unet import ResidualUnet

from .scores import HealthyCodes

GeneratorName = Literal["dcgan", "residual_unet"]
GENERATORS: dict[GeneratorName, type[DcganGenerator | ResidualUnet]] = {
    "dcgan": DcganGenerator,
    "residual_unet": ResidualUnet,
}
"""Networks that paint, by the name that a configuration has for them."""


class Painting(NamedTuple):
    """What a training step needs of one pass."""

    painted: torch.Tensor
    """The painted region of interest in [-1, 1], `(B, n_channels, H, W)`."""
    z_full: torch.Tensor
    """Code of the image that is seen, `(B, Z, 1, 1)`."""
    z_painted: torch.Tensor
    """Code of the painted region, `(B, Z, 1, 1)`."""


class Networks(NamedTuple):
    """The shape of a member; see :class:`anomalib_cxr.models.roi_sure_ganomaly.torch_model.RoiSureGanomalyModel`."""

    image_size: int
    latent_dim: int
    n_features: int
    max_features: int | None
    generator: GeneratorName
    n_channels: int
    scores_codes: bool


class Member(nn.Module):
    """The painter (first encoder and decoder), the second encoder, and what it knows of healthy codes.

    Args:
        shape: Of the networks.
    """

    painter: Generator
    codes: HealthyCodes | None

    def __init__(self, shape: Networks) -> None:
        super().__init__()
        sizes = (shape.image_size, shape.latent_dim, shape.n_features, shape.max_features, shape.n_channels)
        self.painter = GENERATORS[shape.generator](*sizes)
        self.encoder = self.painter.new_encoder()
        self.apply(initialize_dcgan)
        self.codes = HealthyCodes(shape.latent_dim) if shape.scores_codes else None

    def paint(self, image: torch.Tensor) -> Painting:
        """Paint the region of interest of what is seen, `(B, 1, H, W)`, and encode image and painting."""
        painted, z_full = self.painter.paint(image)  # (B, n_channels, H, W), (B, Z, 1, 1)
        return Painting(painted, z_full, self.encoder(painted))

    @property
    def learning(self) -> list[nn.Parameter]:
        """Return the weights that its generator's optimizer moves."""
        return [*self.painter.parameters(), *self.encoder.parameters()]


def fold_of(path: str | Path, n_folds: int) -> int:
    """Return the fold of an image by its file's name: the same in each epoch, process and resumed training.

    Example:
        >>> [fold_of(f"scans/{number}.png", 3) for number in range(6)]
        [1, 1, 1, 0, 2, 1]
    """
    return int.from_bytes(hashlib.sha256(Path(path).name.encode()).digest()[:8], "big") % n_folds


def folds_of(paths: Iterable[str | Path], n_folds: int) -> torch.Tensor:
    """Return the folds of images, `(B,)`; see :func:`fold_of`."""
    return torch.tensor([fold_of(path, n_folds) for path in paths])
