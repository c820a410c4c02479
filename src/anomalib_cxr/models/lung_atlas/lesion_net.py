"""The network that looks for lesions: a small U-Net on aligned lungs and on what healthy lungs do not explain."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.models.components.twins import MaxPoolTwin

WIDTHS = (16, 32, 48, 64)
DROPPED = 0.1
"""Share of the coarsest features that are dropped in training."""


class Answer(NamedTuple):
    """What the network says of a frame."""

    places: torch.Tensor
    """Logits of a lesion, `(B, 1, H / 2, W / 2)`."""
    clean: torch.Tensor
    """The lungs without their lesions, in the scale of the input, `(B, 1, H / 2, W / 2)`."""
    image: torch.Tensor
    """Logit that there is a lesion at all, `(B,)`."""


def _block(n_in: int, n_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (n_in, n_out):
        layers += [nn.Conv2d(width, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class LesionNet(nn.Module):
    """Maps lesions at half the resolution of the frame, paints the lungs without them, and judges the image.

    Args:
        n_channels: Channels of the input.
        widths: Channels of the levels, from the finest to the coarsest.

    Example:
        >>> answer = LesionNet(2)(torch.zeros(1, 2, 96, 96))
        >>> answer.places.shape, answer.clean.shape, answer.image.shape
        (torch.Size([1, 1, 48, 48]), torch.Size([1, 1, 48, 48]), torch.Size([1]))
    """

    def __init__(self, n_channels: int, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4 * n_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_block(*each) for each in zip((widths[0], *widths[:-1]), widths, strict=True))
        rising = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(_block(coarse + fine, fine) for coarse, fine in rising)
        self.pool = MaxPoolTwin()
        self.drop = nn.Dropout2d(DROPPED)
        self.head = nn.Conv2d(widths[0], 2, 1)
        self.judge = nn.Linear(2 * widths[-1], 1)

    def forward(self, frames: torch.Tensor) -> Answer:
        """Look for lesions in frames, `(B, n_channels, H, W)`, whose sides are multiples of 16."""
        features = self.stem(functional.pixel_unshuffle(frames, 2))  # (B, widths[0], H / 2, W / 2)
        levels: list[torch.Tensor] = []
        for block in self.down:
            features = block(self.pool(features) if levels else features)
            levels.append(features)
        features = self.drop(levels.pop())  # (B, widths[-1], H / 16, W / 16)
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        # A sum, not the layer's own matrix product, which OpenVINO would not leave in float32.
        image = (pooled * self.judge.weight).sum(dim=1) + self.judge.bias
        for block in self.up:
            finer = levels.pop()
            risen = antialiased_resize(features, (finer.shape[-2], finer.shape[-1]))
            features = block(torch.cat([risen, finer], dim=1))
        painted = self.head(features)
        return Answer(painted[:, :1], painted[:, 1:], image)
