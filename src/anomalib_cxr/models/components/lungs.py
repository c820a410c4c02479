"""Where the lungs are: by the masks of a training batch, or as a frozen segmenter finds them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from anomalib_cxr.errors import SettingError
from anomalib_cxr.segmentation.network import LungSegmenter

from .twins import put_in_twins


def lung_masks(batch: Any, setting: str) -> torch.Tensor:
    """Return the lung masks of a batch as numbers, `(B, 1, H, W)`.

    Args:
        batch: A batch with or without `roi_mask`.
        setting: What needs the masks, such as `target = 'lungs'`.

    Raises:
        SettingError: If it has none.
    """
    masks: torch.Tensor | None = getattr(batch, "roi_mask", None)
    if masks is None:
        raise SettingError(
            f"{setting} and training images without lung masks",
            "batches with roi_mask, as anomalib_cxr.MontgomeryShenzhen and anomalib_cxr.ChestPhantom yield them",
            "train on one of these data modules, or without masks: a segmenter by its path where one is needed, and "
            "target: image where there is a target",
        )
    return masks.unsqueeze(1).to(torch.float32)


class FrozenSegmenter(nn.Module):
    """Finds the lungs inside a model. It is no part of what is trained: frozen, and always set to inference.

    Args:
        image_size: Side of the square at which a new segmenter works, whatever the size of the X-rays that it is shown;
            64 finds lungs nearly as well as 256, for a fraction of the time.

    Example:
        >>> lungs = FrozenSegmenter(32).train()
        >>> lungs.segmenter.training, lungs(torch.zeros(1, 1, 100, 80)).shape
        (False, torch.Size([1, 1, 100, 80]))
    """

    trained: torch.Tensor

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.take(LungSegmenter(image_size))
        self.register_buffer("trained", torch.tensor(False))

    def take(self, segmenter: LungSegmenter) -> None:
        """Find lungs by this segmenter from now on."""
        put_in_twins(segmenter)
        self.segmenter = segmenter.requires_grad_(requires_grad=False).eval()

    def train(self, mode: bool = True) -> FrozenSegmenter:
        """Stay set to inference, whatever the surrounding model is set to."""
        del mode
        return super().train(mode=False)

    def forward(self, grey: torch.Tensor) -> torch.Tensor:
        """Return the probability of lung in [0, 1], for X-rays in [-1, 1], both `(B, 1, H, W)`."""
        probability: torch.Tensor = self.segmenter(grey)
        return probability
