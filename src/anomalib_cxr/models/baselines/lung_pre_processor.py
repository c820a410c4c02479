"""Pre-processing of anomalib's models for X-rays: the lungs alone, in a common frame."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torchvision.transforms.v2.functional import normalize

from anomalib_cxr.errors import SettingError
from anomalib_cxr.functional.alignment import Rows, find_box, find_rows, standard_rows
from anomalib_cxr.functional.frames import box_grid, rows_grid, to_frame
from anomalib_cxr.models.base.pre_processor import RoiPreProcessor
from anomalib_cxr.models.base.segmenter import FrozenSegmenter
from anomalib_cxr.segmentation.packaged import choose_segmenter

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FRAMED = 2
"""Side of the X-rays from which a frame is taken, in sides of the frame: lungs fill half of an X-ray or more."""


class AlignedLungs(RoiPreProcessor):
    """Shows an anomalib model the lungs of an X-ray in a common frame, normalized as ImageNet's images are.

    The lungs are found by a segmenter, that of the package by default. Maps are maps of the frame, and masks of lesions
    are warped into it.

    Args:
        size: Side of the square frame, in pixels.
        alignment: `box` for the bounding box of both lungs; `rows` for both lungs side by side, each row stretched
            between the lung's edges.
        segmenter: File of `anomalib-cxr segment train`; None for the segmenter of the package.
        mean: Mean of each channel, of the images that the features were trained on.
        std: Standard deviation of each channel.

    Example:
        >>> AlignedLungs(64)(torch.rand(1, 3, 100, 80)).shape
        torch.Size([1, 3, 64, 64])
    """

    def __init__(
        self,
        size: int = 256,
        alignment: Literal["box", "rows"] = "box",
        segmenter: str | None = None,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__(FRAMED * size)
        self.size = size
        self.alignment = alignment
        self.mean, self.std = mean, std
        self.segmenter = FrozenSegmenter(size)
        self.segmenter.replace_network(choose_segmenter(segmenter).network)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Prepare images as the exported graph does.

        Args:
            batch: X-rays of any size in [0, 1], their channels alike, `(B, 3, H, W)`.

        Returns:
            Frames of the lungs, normalized, `(B, 3, size, size)`.
        """
        images = super().forward(batch)  # (B, 3, 2 size, 2 size) in [-1, 1]
        return self._framed(images, self._grid(images))

    def _prepare(self, batch: Any) -> None:
        super()._prepare(batch)
        grid = self._grid(batch.image)
        batch.image = self._framed(batch.image, grid)
        if batch.gt_mask is not None:
            mask = batch.gt_mask.reshape(len(batch.gt_mask), 1, *batch.gt_mask.shape[-2:]).float()
            batch.gt_mask = (to_frame(mask, grid) > 0.5).squeeze(1)  # noqa: PLR2004  # inside the mask

    def _grid(self, images: torch.Tensor) -> torch.Tensor:
        """Return the positions of the frame in X-rays in [-1, 1], `(B, size, size, 2)`."""
        with torch.no_grad():
            probability = self.segmenter(images.mean(dim=1, keepdim=True))
        if self.alignment == "box":
            return box_grid(find_box(probability), (self.size, self.size))
        standard = Rows(*(edge.to(probability) for edge in standard_rows(probability.shape[-2])))
        return rows_grid(find_rows(probability, standard), (self.size, self.size))

    def _framed(self, images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        frames: torch.Tensor = normalize((to_frame(images, grid) + 1) / 2, list(self.mean), list(self.std))
        return frames

    def checkpoint_config(self) -> dict[str, Any]:
        """Return the part of a checkpoint; the segmenter is among its weights."""
        return {"size": self.size, "alignment": self.alignment, "mean": [*self.mean], "std": [*self.std]}

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Refuse a checkpoint whose images were prepared otherwise."""
        if config != self.checkpoint_config():
            raise SettingError(
                f"a checkpoint whose pre-processing is {config}",
                f"what this model is built with: {self.checkpoint_config()}",
                "use the settings that the checkpoint was trained with",
            )
