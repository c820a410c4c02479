"""Network of the input check for its training; screening computes it as an OpenVINO graph.

The graph: `anomalib_cxr.screening.pipeline.frontal_graph`, which a test compares with this network.
"""

from __future__ import annotations

import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional

from anomalib_cxr.screening.pipeline.frontal_graph import CONTRAST, KINDS, MAX_CONTRAST, NEIGHBORHOOD

_WIDTHS = (16, 32, 48, 64)


class FrontalNetwork(nn.Module):
    """Network of the input check.

    Example:
        >>> logits, lungs = FrontalNetwork()(torch.rand(2, 1, 64, 64))
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
    padding = NEIGHBORHOOD // 2

    def local_mean(images: torch.Tensor) -> torch.Tensor:
        rows = functional.avg_pool2d(functional.pad(images, [padding] * 4, mode="reflect"), (NEIGHBORHOOD, 1), 1)
        return functional.avg_pool2d(rows, (1, NEIGHBORHOOD), 1)

    mean = local_mean(thumbnails)
    deviation = (local_mean(thumbnails**2) - mean**2).clamp(min=0).sqrt()
    local = ((thumbnails - mean) / (deviation + CONTRAST)).clamp(-MAX_CONTRAST, MAX_CONTRAST)
    center, spread = thumbnails.mean((-2, -1), keepdim=True), thumbnails.std((-2, -1), keepdim=True)
    return torch.cat([local, (thumbnails - center) / (spread + CONTRAST)], 1)


def pack(network: FrontalNetwork) -> bytes:
    """Return the weights of a network in half precision, as the content of a file for `InputCheck.load`."""
    return save({name: weight.half().contiguous() for name, weight in network.state_dict().items()})
