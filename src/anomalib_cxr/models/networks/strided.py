"""DCGAN's convolutions, which halve or double an image, as matrix products where those train faster.

On a CPU, torch brings the weights of a convolution into an order of its own at each pass, and their gradient back.
Where many pixels share the weights that is soon paid for; next to the code of a wide network, where a map has 4 x 4
pixels, it takes longer than the convolution.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

WEIGHTS_A_PIXEL = 1 << 15
"""Weights for each pixel of the smaller map, of all images together, from which on a product was found to be faster."""
_KERNEL, _STRIDE, _PADDING = 4, 2, 1


class HalvingConv2d(nn.Conv2d):
    """A convolution that halves the image; but for rounding, :class:`torch.nn.Conv2d` of the same weights.

    Args:
        n_in: Channels of the image.
        n_out: Channels of the result.

    Example:
        >>> HalvingConv2d(3, 8)(torch.zeros(1, 3, 8, 6)).shape
        torch.Size([1, 8, 4, 3])
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, _KERNEL, _STRIDE, _PADDING, bias=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # torch's name
        """Halve `(B, C, H, W)`, both sides even."""
        if not _is_product_faster(self, input[:, 0, ::2, ::2]):
            return super().forward(input)
        windows = functional.unfold(input, _KERNEL, padding=_PADDING, stride=_STRIDE)  # (B, C * 4 * 4, H/2 * W/2)
        products = self.weight.flatten(1) @ windows
        return products.reshape(len(input), self.out_channels, input.shape[-2] // 2, input.shape[-1] // 2)


class DoublingConv2d(nn.ConvTranspose2d):
    """Its mirror, that doubles the image; but for rounding, :class:`torch.nn.ConvTranspose2d` of the same weights.

    Args:
        n_in: Channels of the image.
        n_out: Channels of the result.

    Example:
        >>> DoublingConv2d(8, 3)(torch.zeros(1, 8, 4, 3)).shape
        torch.Size([1, 3, 8, 6])
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, _KERNEL, _STRIDE, _PADDING, bias=False)

    def forward(self, input: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:  # noqa: A002
        """Double `(B, C, H, W)`."""
        if not _is_product_faster(self, input[:, 0]):
            return super().forward(input, output_size)
        windows = self.weight.flatten(1).t() @ input.flatten(2)  # (B, C * 4 * 4, H * W)
        sides = (2 * input.shape[-2], 2 * input.shape[-1])
        return functional.fold(windows, sides, _KERNEL, padding=_PADDING, stride=_STRIDE)


def _is_product_faster(layer: nn.Conv2d | nn.ConvTranspose2d, pixels: torch.Tensor) -> bool:
    """Tell whether a layer in training does better with a product; scoring and exports keep to the convolution."""
    if not layer.training or layer.weight.device.type != "cpu":
        return False  # before a number of images is looked at, which an export leaves open
    return layer.weight.numel() >= WEIGHTS_A_PIXEL * pixels.numel()
