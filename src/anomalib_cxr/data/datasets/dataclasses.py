"""anomalib's item and batch with one more field: the mask of the region of interest, here the lungs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from anomalib.data import ImageBatch, ImageItem
from anomalib.data.dataclasses.generic import FieldDescriptor
from anomalib.data.dataclasses.numpy import NumpyImageBatch, NumpyImageItem
from torchvision.tv_tensors import Mask

# Fields are in classes of their own, as anomalib's do: its descriptors resolve the annotations of all bases of the
# class that declares them, and some of anomalib's can be resolved by a type checker only.


@dataclass
class _NumpyRoiFields:
    roi_mask: FieldDescriptor[np.ndarray | None] = FieldDescriptor()  # noqa: RUF009 - a descriptor, as anomalib has it


@dataclass
class _RoiFields:
    roi_mask: FieldDescriptor[Mask | None] = FieldDescriptor(validator_name="validate_roi_mask")  # noqa: RUF009

    @classmethod
    def validate_roi_mask(cls, roi_mask: torch.Tensor | None) -> Mask | None:
        """Check a mask, or a batch of them, as anomalib checks `gt_mask`."""
        checked: Mask | None = cls.validate_gt_mask(roi_mask)  # type: ignore[attr-defined]  # the other base has it
        return checked


@dataclass
class NumpyRoiImageItem(_NumpyRoiFields, NumpyImageItem):
    """:class:`RoiImageItem` as NumPy arrays; `roi_mask` is `(H, W)`, bool."""


@dataclass
class NumpyRoiImageBatch(_NumpyRoiFields, NumpyImageBatch):
    """:class:`RoiImageBatch` as NumPy arrays; `roi_mask` is `(B, H, W)`, bool."""

    item_class: ClassVar[type[NumpyRoiImageItem]] = NumpyRoiImageItem


@dataclass
class RoiImageItem(_RoiFields, ImageItem):
    """An X-ray `(3, H, W)` in [0, 1] and its lung mask `roi_mask`, `(H, W)`, bool, or None.

    The lung mask is never in `gt_mask`, which in anomalib means "where the anomaly is".

    Example:
        >>> item = RoiImageItem(image=torch.rand(3, 8, 8), roi_mask=torch.ones(1, 8, 8))
        >>> item.roi_mask.shape, item.roi_mask.dtype
        (torch.Size([8, 8]), torch.bool)
    """

    numpy_class: ClassVar[type[NumpyRoiImageItem]] = NumpyRoiImageItem


@dataclass
class RoiImageBatch(_RoiFields, ImageBatch):
    """X-rays `(B, 3, H, W)` and their lung masks `roi_mask`, `(B, H, W)`, bool, or None.

    Example:
        >>> items = [RoiImageItem(image=torch.rand(3, 8, 8), roi_mask=torch.ones(8, 8)) for _ in range(2)]
        >>> RoiImageBatch.collate(items).roi_mask.shape
        torch.Size([2, 8, 8])
    """

    item_class: ClassVar[type[RoiImageItem]] = RoiImageItem
    numpy_class: ClassVar[type[NumpyRoiImageBatch]] = NumpyRoiImageBatch
