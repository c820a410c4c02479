"""A generator of residual blocks with skip connections between its two halves.

Sources: [0] O. Ronneberger, P. Fischer, T. Brox, "U-Net", MICCAI 2015; [1] K. He et al., "Deep residual learning for
image recognition", CVPR 2016; [2] Z. Zhang, Q. Liu, Y. Wang, "Road extraction by deep residual U-Net", IEEE Geoscience
and Remote Sensing Letters 2018, for the two together.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from .dcgan import Generator, block_channels


class ResidualBlock(nn.Module):
    """DCGAN's halving or doubling of an image, a second convolution, and a shortcut beside both.

    Only convolutions resize. The activation is a plain ReLU: OpenVINO 2026.4 cannot run a leaky ReLU after the sum in
    bfloat16, which it uses by default on processors that have it.

    Args:
        n_in: Channels that come in.
        n_out: Channels that go out.
        convolution: `nn.Conv2d` halves the sides, `nn.ConvTranspose2d` doubles them.

    Example:
        >>> ResidualBlock(1, 8, nn.Conv2d)(torch.zeros(2, 1, 16, 16)).shape
        torch.Size([2, 8, 8, 8])
    """

    def __init__(self, n_in: int, n_out: int, convolution: type[nn.Conv2d | nn.ConvTranspose2d]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(n_in, n_out, kernel_size=4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.shortcut = nn.Sequential(
            convolution(n_in, n_out, kernel_size=2, stride=2, bias=False), nn.BatchNorm2d(n_out)
        )
        self.activation = nn.ReLU()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Halve or double feature maps.

        Args:
            maps: Feature maps, `(B, n_in, H, W)`.

        Returns:
            Maps of half or twice the size, `(B, n_out, h, w)`.
        """
        activated: torch.Tensor = self.activation(self.body(maps) + self.shortcut(maps))
        return activated


class ResidualEncoder(nn.Module):
    """Residual blocks that halve the image down to 4 x 4, then a convolution that gives the code.

    Args:
        image_size: Side of the square image, a power of two, at least 32.
        latent_dim: Length of the code.
        n_features: Channels of the first block; doubled by each further one.
        max_features: Cap on the channels; None for none.
        n_channels: Channels of the image.

    Example:
        >>> ResidualEncoder(64, latent_dim=10, n_features=8)(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 10, 1, 1])
    """

    def __init__(
        self, image_size: int, latent_dim: int, n_features: int, max_features: int | None = None, n_channels: int = 1
    ) -> None:
        super().__init__()
        channels = [n_channels, *block_channels(image_size, n_features, max_features)]
        self.blocks = nn.ModuleList(ResidualBlock(n_in, n_out, nn.Conv2d) for n_in, n_out in pairwise(channels))
        self.head = nn.Conv2d(channels[-1], latent_dim, kernel_size=4, bias=False)

    def encode(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Encode images, and keep the feature maps for the skip connections.

        Args:
            image: Images, `(B, n_channels, H, W)`.

        Returns:
            Codes, `(B, latent_dim, 1, 1)`, and the maps of all blocks, from half the side to 4 x 4.
        """
        maps = [image]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return self.head(maps[-1]), maps[1:]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Encode images.

        Args:
            image: Images, `(B, n_channels, H, W)`.

        Returns:
            Codes, `(B, latent_dim, 1, 1)`.
        """
        return self.encode(image)[0]


class ResidualUnet(Generator):
    """Residual encoder, and residual blocks that double the sides again, each beside the encoder's map of its size.

    Unlike in :class:`anomalib_cxr.models.networks.dcgan.DcganGenerator`, the reconstruction depends on the image
    through more than the code.

    Args:
        image_size: Side of the square image, a power of two, at least 32.
        latent_dim: Length of the code.
        n_features: Channels of the first block; doubled by each further one.
        max_features: Cap on the channels; None for none.
        n_channels: Channels of the reconstruction, and copies of the gray image at the input.

    Example:
        >>> image, code = ResidualUnet(64, latent_dim=10, n_features=8).reconstruct(torch.zeros(2, 1, 64, 64))
        >>> image.shape, code.shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2, 10, 1, 1]))
    """

    def __init__(
        self, image_size: int, latent_dim: int, n_features: int, max_features: int | None = None, n_channels: int = 1
    ) -> None:
        super().__init__(n_channels)
        self._shape = (image_size, latent_dim, n_features, max_features, n_channels)
        self.encoder = self.new_encoder()
        channels = block_channels(image_size, n_features, max_features)[::-1]  # from 4 x 4 to half the image's side
        self.unfold = nn.Sequential(
            nn.ConvTranspose2d(latent_dim, channels[0], kernel_size=4, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(inplace=True),
        )  # (B, C, 4, 4)
        self.blocks = nn.ModuleList(
            ResidualBlock(2 * n_in, n_out, nn.ConvTranspose2d) for n_in, n_out in pairwise([*channels, channels[-1]])
        )
        self.head = nn.Sequential(nn.Conv2d(channels[-1], n_channels, kernel_size=3, padding=1, bias=False), nn.Tanh())

    def new_encoder(self) -> ResidualEncoder:
        """Return an encoder of the same layout, with weights of its own; see :meth:`Generator.new_encoder`."""
        return ResidualEncoder(*self._shape)

    def reconstruct(self, gray: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return reconstruction and code of gray images; see :meth:`Generator.reconstruct`."""
        code, skips = self.encoder.encode(self.as_channels(gray))
        maps = self.unfold(code)
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            maps = block(torch.cat([maps, skip], dim=1))
        return self.head(maps), code
