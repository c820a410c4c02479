"""The residual networks of WGAN-GP, for one gray channel and any power of two as image size.

Source: [0] I. Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS 2017, its residual networks for 64 px;
[1] T. Schlegl et al., "f-AnoGAN", Medical Image Analysis 2019, and its code, for one channel and the initial weights.
"""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # the name that torch's users know

GRID = 4
"""Side of the coarsest feature map."""
_HE = sqrt(2.0)
_WIDEST = 8


def block_widths(image_size: int, n_features: int) -> list[int]:
    """Return the channels at each resolution, from `image_size` down to 4 x 4, doubled up to 8 times the first.

    Args:
        image_size: Side of the square image, a power of two.
        n_features: Channels at full resolution.

    Returns:
        Channels of each level.

    Example:
        >>> block_widths(64, 64), block_widths(128, 64)
        ([64, 128, 256, 512, 512], [64, 128, 256, 512, 512, 512])
    """
    halvings = (image_size // GRID).bit_length() - 1
    return [n_features * min(2**step, _WIDEST) for step in range(halvings + 1)]


class ConvMeanPool(nn.Conv2d):
    """A 3 x 3 convolution, then the mean of each 2 x 2 pixels: `(B, n_in, H, W)` to `(B, n_out, H/2, W/2)`.

    Both are linear, so they are computed as one: a 4 x 4 kernel of stride 2, for less than half of the multiplications.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve and take means.

        Args:
            x: Feature maps, `(B, n_in, H, W)`.

        Returns:
            `(B, n_out, H/2, W/2)`.
        """
        kernel = F.avg_pool2d(self.weight, 2, stride=1, padding=1)  # (n_out, n_in, 4, 4)
        return F.conv2d(x, kernel, self.bias, stride=2, padding=1)


class UpsampleConv(nn.Conv2d):
    """Each pixel four times, then a 1 x 1 or 3 x 3 convolution: `(B, n_in, H, W)` to `(B, n_out, 2H, 2W)`.

    Computed as one transposed convolution, as in :class:`ConvMeanPool`.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge and convolve.

        Args:
            x: Feature maps, `(B, n_in, H, W)`.

        Returns:
            `(B, n_out, 2H, 2W)`.
        """
        kernel = 4 * F.avg_pool2d(self.weight, 2, stride=1, padding=1)  # (n_out, n_in, k, k), k = 2 or 4
        return F.conv_transpose2d(
            x, kernel.flip(-2, -1).transpose(0, 1), self.bias, stride=2, padding=self.kernel_size[0] // 2
        )


def _conv(
    n_in: int, n_out: int, size: int = 3, *, gain: float = 1.0, bias: bool = True, kind: type[nn.Conv2d] = nn.Conv2d
) -> nn.Conv2d:
    """Create a convolution; uniform weights of variance `gain^2 * 2 / (fan_in + fan_out)`, bias 0."""
    conv = kind(n_in, n_out, size, padding=size // 2, bias=bias)
    nn.init.xavier_uniform_(conv.weight, gain)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def glorot_linear(n_in: int, n_out: int) -> nn.Linear:
    """Create a linear layer with Glorot's uniform weights and bias 0.

    Args:
        n_in: Input features.
        n_out: Output features.

    Returns:
        The layer.
    """
    linear = nn.Linear(n_in, n_out)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class ImageNorm(nn.Module):
    """Layer normalization of a critic: of each image over channels and pixels, then a scale for each channel.

    As in the authors' code. `nn.LayerNorm` would have a scale for each pixel. `nn.GroupNorm` with one group is the
    same function with weights of another shape.

    Args:
        n_channels: Channels of the images.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(n_channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize images.

        Args:
            x: Feature maps, `(B, C, H, W)`.

        Returns:
            Normalized maps, alike in shape.
        """
        return F.layer_norm(x, x.shape[1:]) * self.weight + self.bias


def _batch_norm(n_channels: int) -> nn.BatchNorm2d:
    """Create a batch normalization with the constants of TensorFlow 1's layer, which the authors' code uses [1]."""
    return nn.BatchNorm2d(n_channels, eps=1e-3, momentum=0.01)


class UpBlock(nn.Module):
    """Residual block that doubles the size: `(B, n_in, H, W)` to `(B, n_out, 2H, 2W)`."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.shortcut = _conv(n_in, n_out, 1, kind=UpsampleConv)
        self.residual = nn.Sequential(
            _batch_norm(n_in),
            nn.ReLU(),
            _conv(n_in, n_out, gain=_HE, bias=False, kind=UpsampleConv),
            _batch_norm(n_out),
            nn.ReLU(),
            _conv(n_out, n_out, gain=_HE),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add residual and shortcut.

        Args:
            x: Feature maps, `(B, n_in, H, W)`.

        Returns:
            `(B, n_out, 2H, 2W)`.
        """
        doubled: torch.Tensor = self.shortcut(x) + self.residual(x)
        return doubled


class DownBlock(nn.Module):
    """Residual block that halves the size: `(B, n_in, H, W)` to `(B, n_out, H/2, W/2)`."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), _conv(n_in, n_out, 1))
        self.residual = nn.Sequential(
            ImageNorm(n_in),
            nn.ReLU(),
            _conv(n_in, n_in, gain=_HE, bias=False),
            ImageNorm(n_in),
            nn.ReLU(),
            _conv(n_in, n_out, gain=_HE, kind=ConvMeanPool),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add residual and shortcut.

        Args:
            x: Feature maps, `(B, n_in, H, W)`.

        Returns:
            `(B, n_out, H/2, W/2)`.
        """
        halved: torch.Tensor = self.shortcut(x) + self.residual(x)
        return halved


class ResidualGenerator(nn.Module):
    """Generator of images in [-1, 1] from codes: a linear layer to 4 x 4, then blocks that double the size.

    Args:
        image_size: Side of the square image, a power of two, at least 8.
        latent_dim: Length of the code.
        n_features: Channels before the last convolution.

    Example:
        >>> ResidualGenerator(64, latent_dim=10, n_features=4)(torch.zeros(2, 10)).shape
        torch.Size([2, 1, 64, 64])
    """

    def __init__(self, image_size: int, latent_dim: int, n_features: int) -> None:
        super().__init__()
        widths = block_widths(image_size, n_features)[::-1]
        self.layers = nn.Sequential(
            glorot_linear(latent_dim, widths[0] * GRID**2),
            nn.Unflatten(1, (widths[0], GRID, GRID)),  # (B, C, 4, 4)
            *(UpBlock(n_in, n_out) for n_in, n_out in pairwise(widths)),  # (B, n_features, H, W)
            _batch_norm(n_features),
            nn.ReLU(),
            _conv(n_features, 1, gain=_HE),
            nn.Tanh(),
        )

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        """Generate images.

        Args:
            code: Codes, `(B, latent_dim)`.

        Returns:
            Images in [-1, 1], `(B, 1, H, W)`.
        """
        image: torch.Tensor = self.layers(code)
        return image


class ResidualTrunk(nn.Module):
    """Features of an image: a convolution, then blocks that halve the size down to 4 x 4.

    Each image is normalized by itself, as the gradient penalty of a critic needs it.

    Args:
        image_size: Side of the square image, a power of two, at least 8.
        n_features: Channels after the first convolution.

    Attributes:
        n_out: Length of the features.

    Example:
        >>> trunk = ResidualTrunk(64, n_features=64)
        >>> trunk.n_out, trunk(torch.zeros(2, 1, 64, 64)).shape
        (8192, torch.Size([2, 8192]))
    """

    def __init__(self, image_size: int, n_features: int) -> None:
        super().__init__()
        widths = block_widths(image_size, n_features)
        self.n_out = widths[-1] * GRID**2
        self.layers = nn.Sequential(
            _conv(1, n_features), *(DownBlock(n_in, n_out) for n_in, n_out in pairwise(widths)), nn.Flatten()
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute features.

        Args:
            image: Images in [-1, 1], `(B, 1, H, W)`.

        Returns:
            Features, `(B, n_out)`.
        """
        features: torch.Tensor = self.layers(image)
        return features
