"""anomalib's item and batch with one more field: the mask of the region of interest, here the lungs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from anomalib.data import ImageBatch, ImageItem
from anomalib.data.dataclasses.generic import FieldDescriptor
from anomalib.data.dataclasses.numpy import NumpyImageBatch, NumpyImageItem
from torchvision.tv_tensors import Mask


@dataclass
class NumpyRoiImageItem(NumpyImageItem):  # type: ignore[misc]  # anomalib's class is untyped
    """:class:`RoiImageItem` as NumPy arrays; `roi_mask` is `(H, W)`, bool."""

    roi_mask: FieldDescriptor[object | None] = FieldDescriptor()


@dataclass
class NumpyRoiImageBatch(NumpyImageBatch):  # type: ignore[misc]
    """:class:`RoiImageBatch` as NumPy arrays; `roi_mask` is `(B, H, W)`, bool."""

    item_class: ClassVar[type[NumpyRoiImageItem]] = NumpyRoiImageItem
    roi_mask: FieldDescriptor[object | None] = FieldDescriptor()


@dataclass
class RoiImageItem(ImageItem):  # type: ignore[misc]
    """An X-ray `(3, H, W)` in [0, 1] and its lung mask `roi_mask`, `(H, W)`, bool, or None.

    The lung mask is never in `gt_mask`, which in anomalib means "where the anomaly is".

    Example:
        >>> item = RoiImageItem(image=torch.rand(3, 8, 8), roi_mask=torch.ones(1, 8, 8))
        >>> item.roi_mask.shape, item.roi_mask.dtype
        (torch.Size([8, 8]), torch.bool)
    """

    numpy_class: ClassVar[type[NumpyRoiImageItem]] = NumpyRoiImageItem
    roi_mask: FieldDescriptor[Mask | None] = FieldDescriptor(validator_name="validate_roi_mask")

    @classmethod
    def validate_roi_mask(cls, roi_mask: torch.Tensor | None) -> Mask | None:
        """Check a mask as anomalib checks `gt_mask`."""
        mask: Mask | None = cls.validate_gt_mask(roi_mask)
        return mask


@dataclass
class RoiImageBatch(ImageBatch):  # type: ignore[misc]
    """X-rays `(B, 3, H, W)` and their lung masks `roi_mask`, `(B, H, W)`, bool, or None.

    Example:
        >>> items = [RoiImageItem(image=torch.rand(3, 8, 8), roi_mask=torch.ones(8, 8)) for _ in range(2)]
        >>> RoiImageBatch.collate(items).roi_mask.shape
        torch.Size([2, 8, 8])
    """

    item_class: ClassVar[type[RoiImageItem]] = RoiImageItem
    numpy_class: ClassVar[type[NumpyRoiImageBatch]] = NumpyRoiImageBatch
    roi_mask: FieldDescriptor[Mask | None] = FieldDescriptor(validator_name="validate_roi_mask")

    @classmethod
    def validate_roi_mask(cls, roi_mask: torch.Tensor | None) -> Mask | None:
        """Check masks as anomalib checks `gt_mask`."""
        masks: Mask | None = cls.validate_gt_mask(roi_mask)
        return masks
