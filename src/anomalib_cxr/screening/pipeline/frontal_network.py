"""Network that tells upright frontal chest X-rays from all else, on thumbnails.

Local contrast normalization removes exposure. Training: `benchmarks/input_check_training.py`.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

SIDE = 64
"""Side of a thumbnail in pixels."""
KINDS = (
    "frontal",
    "turned by 90 degrees",  # to the left
    "upside down",  # turned by 180 degrees
    "turned by 90 degrees",  # to the right
    "upside down",  # as in a mirror
    "inverted, dense tissue dark",
    "a part of the chest, or one that is too small in the image",
    "a lateral chest X-ray",
    "no chest X-ray",
)
"""Classes of the network; only the first one is accepted."""
_WIDTHS = (16, 32, 48, 64)
_NEIGHBORHOOD = 9  # pixels of a thumbnail, for the local mean and standard deviation
_CONTRAST = 0.02  # local standard deviation below which contrast is not enhanced
_MAX_CONTRAST = 3.0


class FrontalNetwork(nn.Module):
    """Network of the input check.

    Example:
        >>> logits, lungs = FrontalNetwork()(torch.rand(2, 1, SIDE, SIDE))
        >>> logits.shape, lungs.shape
        (torch.Size([2, 9]), torch.Size([2, 1, 16, 16]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
            )
            for channels, width in zip((2, *_WIDTHS), _WIDTHS, strict=False)
        )
        self.lungs = nn.Sequential(nn.Conv2d(sum(_WIDTHS[1:]), 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 1))
        self.head = nn.Sequential(
            nn.Dropout(0.3), nn.Linear(_WIDTHS[-1] * 16 + 256, 32), nn.ReLU(), nn.Linear(32, len(KINDS))
        )

    def forward(self, thumbnails: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute logits.

        Args:
            thumbnails: Images in [0, 1], `(B, 1, SIDE, SIDE)`.

        Returns:
            Logits of the kinds, `(B, K)`, and of the lungs of an upright frontal X-ray, `(B, 1, 16, 16)`, which are
            trained along with them.
        """
        levels = [normalized(thumbnails)]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        features = levels[-1]
        size = levels[2].shape[-2:]  # (16, 16)
        lungs = self.lungs(torch.cat([functional.interpolate(level, size) for level in levels[2:]], 1))
        flat = torch.cat([features.flatten(1), torch.sigmoid(lungs).flatten(1)], 1)
        kinds: torch.Tensor = self.head(flat)
        return kinds, lungs


def normalized(thumbnails: torch.Tensor) -> torch.Tensor:
    """Return thumbnails with their contrast normalized locally, and as a whole, `(B, 2, SIDE, SIDE)`."""
    padding = _NEIGHBORHOOD // 2

    def local_mean(images: torch.Tensor) -> torch.Tensor:
        rows = functional.avg_pool2d(functional.pad(images, [padding] * 4, mode="reflect"), (_NEIGHBORHOOD, 1), 1)
        return functional.avg_pool2d(rows, (1, _NEIGHBORHOOD), 1)

    mean = local_mean(thumbnails)
    deviation = (local_mean(thumbnails**2) - mean**2).clamp(min=0).sqrt()
    local = ((thumbnails - mean) / (deviation + _CONTRAST)).clamp(-_MAX_CONTRAST, _MAX_CONTRAST)
    center, spread = thumbnails.mean((-2, -1), keepdim=True), thumbnails.std((-2, -1), keepdim=True)
    return torch.cat([local, (thumbnails - center) / (spread + _CONTRAST)], 1)
