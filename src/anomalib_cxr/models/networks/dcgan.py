"""DCGAN's encoder, decoder and discriminator, for any power of two as image size.

Source: [0] A. Radford, L. Metz, S. Chintala, "Unsupervised representation learning with deep convolutional generative
adversarial networks", ICLR 2016; [1] S. Akcay et al., "GANomaly", ACCV 2018, for encoder, decoder, encoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import nn


class Generator(nn.Module, ABC):
    """Encodes a gray image and reconstructs from it.

    A new one is a subclass with the arguments of :class:`anomalib_cxr.models.networks.dcgan.DcganGenerator` and an
    entry in :data:`anomalib_cxr.models.roi_sure_ganomaly.torch_model.GENERATORS`.

    Args:
        n_channels: Channels of the reconstruction, and copies of the gray image at the input.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.n_channels = n_channels

    @abstractmethod
    def reconstruct(self, gray: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode and reconstruct.

        Args:
            gray: Input in [-1, 1], `(B, 1, H, W)`.

        Returns:
            The reconstruction in [-1, 1], `(B, n_channels, H, W)`, and the code, `(B, Z, 1, 1)`.
        """

    @abstractmethod
    def new_encoder(self) -> nn.Module:
        """Return an encoder of the layout of its own one, with weights of its own.

        Returns:
            A network from images `(B, n_channels, H, W)` to codes `(B, Z, 1, 1)`.
        """

    def forward(self, gray: torch.Tensor) -> torch.Tensor:
        """Return the reconstruction alone, as the denoiser of a risk estimate.

        Args:
            gray: Input in [-1, 1], `(B, 1, H, W)`.

        Returns:
            The reconstruction, `(B, n_channels, H, W)`.
        """
        return self.reconstruct(gray)[0]

    def as_channels(self, gray: torch.Tensor) -> torch.Tensor:
        """Repeat the gray channel as often as the encoder takes it.

        Args:
            gray: Input, `(B, 1, H, W)`.

        Returns:
            Copies, `(B, n_channels, H, W)`.
        """
        return gray.expand(-1, self.n_channels, -1, -1)


NEGATIVE_SLOPE = 0.2
_INIT_STD = 0.02

Norm = Callable[[int], nn.Module]
"""Constructor of a normalization for a number of channels."""
Activation = Literal["leaky_relu", "relu"]


def _activation(name: Activation) -> nn.Module:
    return nn.ReLU(inplace=True) if name == "relu" else nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)


def block_channels(image_size: int, n_features: int, max_features: int | None) -> list[int]:
    """Return the channels after each halving of the image, from `image_size / 2` down to 4 x 4.

    Args:
        image_size: Side of the square image, a power of two.
        n_features: Channels after the first convolution.
        max_features: Cap on the channels; None for none.

    Returns:
        Channels of each level.

    Example:
        >>> block_channels(64, 64, None), block_channels(64, 64, 128)
        ([64, 128, 256, 512], [64, 128, 128, 128])
    """
    halvings = image_size.bit_length() - 3
    return [min(n_features * 2**step, max_features or n_features * 2**step) for step in range(halvings)]


def _halving(n_in: int, n_out: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel_size=4, stride=2, padding=1, bias=False)


def _doubling(n_in: int, n_out: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(n_in, n_out, kernel_size=4, stride=2, padding=1, bias=False)


def _down(n_in: int, n_out: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(
        _halving(n_in, n_out),
        norm(n_out),
        nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
    )


def _up(n_in: int, n_out: int, activation: Activation) -> nn.Sequential:
    return nn.Sequential(_doubling(n_in, n_out), nn.BatchNorm2d(n_out), _activation(activation))


class Encoder(nn.Module):
    """Convolutions that halve the image down to 4 x 4, then one that gives the code.

    Args:
        image_size: Side of the square image, a power of two, at least 32.
        latent_dim: Length of the code.
        n_features: Channels after the first convolution; doubled by each further one.
        max_features: Cap on the channels; None for none.
        n_channels: Channels of the image.
        norm: Normalization after each convolution but the first and the last.

    Example:
        >>> Encoder(64, latent_dim=10, n_features=8)(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 10, 1, 1])
    """

    def __init__(
        self,
        image_size: int,
        latent_dim: int,
        n_features: int,
        max_features: int | None = None,
        n_channels: int = 1,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        channels = block_channels(image_size, n_features, max_features)
        self.features = nn.Sequential(
            _halving(n_channels, channels[0]),
            nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
            *(_down(n_in, n_out, norm) for n_in, n_out in pairwise(channels)),
        )  # (B, C, 4, 4)
        self.head = nn.Conv2d(channels[-1], latent_dim, kernel_size=4, bias=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Encode images.

        Args:
            image: Images, `(B, n_channels, H, W)`.

        Returns:
            Codes, `(B, latent_dim, 1, 1)`.
        """
        code: torch.Tensor = self.head(self.features(image))
        return code


class Decoder(nn.Module):
    """The encoder's mirror: from a code to an image in [-1, 1].

    Args:
        image_size: Side of the square image, a power of two, at least 32.
        latent_dim: Length of the code.
        n_features: Channels before the last convolution.
        max_features: Cap on the channels; None for none.
        n_channels: Channels of the image.
        activation: `leaky_relu`, or `relu` as GANomaly has it.

    Example:
        >>> Decoder(64, latent_dim=10, n_features=8)(torch.zeros(2, 10, 1, 1)).shape
        torch.Size([2, 1, 64, 64])
    """

    def __init__(
        self,
        image_size: int,
        latent_dim: int,
        n_features: int,
        max_features: int | None = None,
        n_channels: int = 1,
        activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__()
        channels = block_channels(image_size, n_features, max_features)[::-1]
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(latent_dim, channels[0], kernel_size=4, bias=False),
            nn.BatchNorm2d(channels[0]),
            _activation(activation),  # (B, C, 4, 4)
            *(_up(n_in, n_out, activation) for n_in, n_out in pairwise(channels)),
            _doubling(channels[-1], n_channels),
            nn.Tanh(),
        )

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        """Decode codes.

        Args:
            code: Codes, `(B, latent_dim, 1, 1)`.

        Returns:
            Images in [-1, 1], `(B, n_channels, H, W)`.
        """
        image: torch.Tensor = self.layers(code)
        return image


class DcganGenerator(Generator):
    """Encoder and decoder; the reconstruction depends on the image through the code alone.

    Args:
        image_size: Side of the square image, a power of two, at least 32.
        latent_dim: Length of the code.
        n_features: Channels after the first convolution; doubled by each further one.
        max_features: Cap on the channels; None for none.
        n_channels: Channels of the reconstruction, and copies of the gray image at the input.
        decoder_activation: Activation in the decoder: `leaky_relu`, or `relu` as GANomaly has it.

    Example:
        >>> image, code = DcganGenerator(64, latent_dim=10, n_features=8).reconstruct(torch.zeros(2, 1, 64, 64))
        >>> image.shape, code.shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2, 10, 1, 1]))
    """

    def __init__(
        self,
        image_size: int,
        latent_dim: int,
        n_features: int,
        max_features: int | None = None,
        n_channels: int = 1,
        decoder_activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__(n_channels)
        self._shape = (image_size, latent_dim, n_features, max_features, n_channels)
        self.encoder = self.new_encoder()
        self.decoder = Decoder(*self._shape, decoder_activation)

    def new_encoder(self) -> Encoder:
        """Return an encoder of the same layout, with weights of its own; see :meth:`Generator.new_encoder`."""
        return Encoder(*self._shape)

    def reconstruct(self, gray: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return reconstruction and code of gray images; see :meth:`Generator.reconstruct`."""
        code = self.encoder(self.as_channels(gray))  # (B, Z, 1, 1)
        return self.decoder(code), code


class DiscriminatorOutput(NamedTuple):
    """Output of a discriminator for a batch."""

    features: torch.Tensor
    """Features before the last layer, `(B, C, 4, 4)`."""
    logits: torch.Tensor
    """Logit of being real, `(B,)`."""


class Discriminator(nn.Module):
    """An encoder with one output; its features are compared by feature matching.

    Args:
        image_size: Side of the square image, a power of two, at least 32.
        n_features: Channels after the first convolution; doubled by each further one.
        max_features: Cap on the channels; None for none.
        n_channels: Channels of the image.
        norm: Normalization after each convolution but the first and the last.

    Example:
        >>> output = Discriminator(64, n_features=8)(torch.zeros(2, 1, 64, 64))
        >>> output.features.shape, output.logits.shape
        (torch.Size([2, 64, 4, 4]), torch.Size([2]))
    """

    def __init__(
        self,
        image_size: int,
        n_features: int,
        max_features: int | None = None,
        n_channels: int = 1,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(image_size, 1, n_features, max_features, n_channels, norm)

    def forward(self, image: torch.Tensor) -> DiscriminatorOutput:
        """Return features and logits of images.

        Args:
            image: Images in [-1, 1], `(B, n_channels, H, W)`.

        Returns:
            The output.
        """
        features = self.encoder.features(image)
        return DiscriminatorOutput(features, self.encoder.head(features).flatten())


def initialize_dcgan(module: nn.Module) -> None:
    """Initialize a layer as DCGAN does; for `module.apply`.

    Convolutions from N(0, 0.02), batch normalization's weights from N(1, 0.02) and its biases 0; 0.02 is the standard
    deviation.

    Args:
        module: A layer; of another kind than these, it is left alone.
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, _INIT_STD)
    elif isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
        nn.init.normal_(module.weight, 1.0, _INIT_STD)
        nn.init.zeros_(module.bias)
