"""A dataset of X-rays and lung masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from anomalib import TaskType
from anomalib.data.datasets.base import AnomalibDataset
from torchvision.transforms.v2 import Transform
from torchvision.tv_tensors import Image, Mask

from .dataclasses import RoiImageBatch, RoiImageItem
from .radiograph import read_mask, read_radiograph


class RoiDataset(AnomalibDataset):
    """X-rays, each with the mask of its lungs where all of the table have one.

    Args:
        samples: A table from :func:`anomalib_cxr.data.samples.make_samples`.
        augmentations: Applied to image, lung mask and lesion mask together. The image has ONE channel there.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from anomalib_cxr.data.phantom_files import write_phantoms
        >>> from anomalib_cxr.data.samples import make_samples
        >>> with TemporaryDirectory() as folder:
        ...     root = write_phantoms(Path(folder, "phantoms"), n_normal=1, n_sick=1, size=32)
        ...     item = RoiDataset(make_samples(root))[1]
        >>> item.image.shape, item.roi_mask.shape, item.gt_mask.any(), item.gt_label
        (torch.Size([3, 32, 32]), torch.Size([32, 32]), tensor(True), tensor(True))
    """

    def __init__(self, samples: pd.DataFrame, augmentations: Transform | None = None) -> None:
        super().__init__(augmentations)
        self.samples = samples

    @property
    def has_roi_masks(self) -> bool:
        """Whether items carry `roi_mask`: all or none do, since a batch cannot hold both."""
        return bool((self.samples.roi_mask_paths.map(len) > 0).all())

    def __getitem__(self, index: int) -> RoiImageItem:
        """Read one X-ray: image `(3, H, W)` in [0, 1], masks `(H, W)`."""
        sample = self.samples.iloc[index]
        image = Image(read_radiograph(sample.image_path))  # (1, H, W)
        roi_mask = Mask(read_mask(*sample.roi_mask_paths)) if self.has_roi_masks else None
        lesion = self._lesion(sample.mask_path, image) if self.task == TaskType.SEGMENTATION else None
        if self.augmentations:
            image, roi_mask, lesion = self.augmentations(image, roi_mask, lesion)
        return RoiImageItem(
            image=Image(image.expand(3, -1, -1)),  # anomalib takes three channels only
            roi_mask=roi_mask,
            gt_mask=lesion,
            gt_label=torch.tensor(sample.label_index),
            image_path=sample.image_path,
        )

    @staticmethod
    def _lesion(mask_path: str, image: torch.Tensor) -> Mask:
        """Return where the lesion is; nowhere in a normal image."""
        return Mask(read_mask(mask_path) if mask_path else torch.zeros(image.shape[-2:], dtype=torch.bool))

    @property
    def collate_fn(self) -> Callable[..., Any]:
        """Collate into :class:`RoiImageBatch`."""
        return RoiImageBatch.collate
