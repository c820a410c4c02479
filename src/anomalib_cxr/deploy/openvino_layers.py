"""Layers that compute the same as torch's and that OpenVINO leaves in float32.

On processors with bfloat16 instructions OpenVINO rounds each operation that is not marked (see
:mod:`anomalib_cxr.deploy.export`). It rewrites some operations into new ones without the mark: a leaky ReLU
that no convolution precedes, however it is put together of ReLU or maximum, and the maximum over a window.
"""

from __future__ import annotations

import torch
from torch import nn


class SafeLeakyReLU(nn.LeakyReLU):
    """A leaky ReLU as a weighted sum of the value and its magnitude.

    Example:
        >>> SafeLeakyReLU(0.5)(torch.tensor([-2.0, 0.0, 3.0]))
        tensor([-1.,  0.,  3.])
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale what is under 0."""
        return x * ((1 + self.negative_slope) / 2) + x.abs() * ((1 - self.negative_slope) / 2)


class SafeMaxPool2d(nn.Module):
    """The greatest of each 2 x 2 pixels, from slices: `(B, C, H, W)` to `(B, C, H/2, W/2)`, sides even.

    Example:
        >>> SafeMaxPool2d()(torch.tensor([[[[1.0, 5.0], [3.0, 2.0]]]]))
        tensor([[[[5.]]]])
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compare rows, then columns."""
        rows = torch.maximum(x[..., ::2, :], x[..., 1::2, :])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


def replace_unsafe_layers(network: nn.Module) -> None:
    """Put twins in the place of layers that OpenVINO would not leave in float32, in a network and all parts of it.

    Args:
        network: A network whose poolings, if they are 2 x 2, see images of even sides.
    """
    for module in network.modules():
        for name, layer in list(module.named_children()):
            if type(layer) is nn.LeakyReLU:
                setattr(module, name, SafeLeakyReLU(layer.negative_slope))
            elif isinstance(layer, nn.MaxPool2d) and (layer.kernel_size, layer.stride, layer.padding) == (2, 2, 0):
                setattr(module, name, SafeMaxPool2d())
