"""What a model asks of the network that paints, whatever it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn


class Generator(nn.Module, ABC):
    """Sees a grey image, writes a code of it, and paints.

    A new one is a subclass with the arguments of :class:`anomalib_cxr.models.components.DcganGenerator` and an entry in
    :data:`anomalib_cxr.models.roi_sure_ganomaly.members.GENERATORS`.

    Args:
        n_channels: Channels of the painting, and copies of the grey image that are seen.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.n_channels = n_channels

    @abstractmethod
    def paint(self, grey: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Paint and encode.

        Args:
            grey: What it sees, in [-1, 1], `(B, 1, H, W)`.

        Returns:
            The painting in [-1, 1], `(B, n_channels, H, W)`, and the code, `(B, Z, 1, 1)`.
        """

    @abstractmethod
    def new_encoder(self) -> nn.Module:
        """Return an encoder of the layout of its own one, with weights of its own.

        It encodes images `(B, n_channels, H, W)` into codes `(B, Z, 1, 1)`.
        """

    def forward(self, grey: torch.Tensor) -> torch.Tensor:
        """Return the painting alone, so that it can serve as the denoiser of a risk estimate."""
        return self.paint(grey)[0]

    def as_channels(self, grey: torch.Tensor) -> torch.Tensor:
        """Repeat the grey channel as often as the encoder takes it, `(B, n_channels, H, W)`."""
        # An expansion would become a product with ones, which OpenVINO rounds to bfloat16 where it can.
        return torch.cat([grey] * self.n_channels, dim=1)
