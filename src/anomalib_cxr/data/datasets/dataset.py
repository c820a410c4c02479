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
from .image_cache import PictureCache, after
from .verification import PictureFiles, Pictures, read_pictures


class RoiDataset(AnomalibDataset):
    """X-rays, each with the mask of its lungs where all of the table have one.

    Args:
        samples: A table from :func:`anomalib_cxr.data.sources.samples.make_samples`.
        augmentations: Applied to image, lung mask and lesion mask together. The image has ONE channel there.

    Attributes:
        cache: Where the pictures are read from, if augmentations begin with its resizing; None for their files.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from anomalib_cxr.data.phantom.files import write_phantoms
        >>> from anomalib_cxr.data.sources.samples import make_samples
        >>> with TemporaryDirectory() as folder:
        ...     root = write_phantoms(Path(folder, "phantoms"), n_normal=1, n_sick=1, size=32)
        ...     item = RoiDataset(make_samples(root))[1]
        >>> item.image.shape, item.roi_mask.shape, item.gt_mask.any(), item.gt_label
        (torch.Size([3, 32, 32]), torch.Size([32, 32]), tensor(True), tensor(True))
    """

    def __init__(self, samples: pd.DataFrame, augmentations: Transform | None = None) -> None:
        super().__init__(augmentations)
        self.cache: PictureCache | None = None
        self.samples = samples

    @property
    def samples(self) -> pd.DataFrame:
        """The samples table."""
        return super().samples

    @samples.setter
    def samples(self, samples: pd.DataFrame) -> None:
        AnomalibDataset.samples.__set__(self, samples)  # type: ignore[attr-defined]  # a property of the base
        # Once for the table: counted for each item, an epoch would grow with the square of the number of images.
        self._has_roi_masks = bool((samples.roi_mask_paths.map(len) > 0).all())

    @property
    def has_roi_masks(self) -> bool:
        """Whether items carry `roi_mask`: all or none do, since a batch cannot hold both."""
        return self._has_roi_masks

    def __getitem__(self, index: int) -> RoiImageItem:
        """Read one X-ray: image `(3, H, W)` in [0, 1], masks `(H, W)`."""
        sample = self.samples.iloc[index]
        image, roi_mask, lesion = self._pictures(sample)
        return RoiImageItem(
            image=Image(image.expand(3, -1, -1)),  # anomalib takes three channels only
            roi_mask=roi_mask,
            gt_mask=lesion,
            gt_label=torch.tensor(sample.label_index),
            image_path=sample.image_path,
        )

    def _pictures(self, sample: pd.Series) -> Pictures:
        """Return the pictures of an X-ray after augmentation, from the cache if that has them resized as is wanted."""
        files = PictureFiles(sample.image_path, sample.roi_mask_paths, sample.mask_path)
        cached, rest = (False, None) if self.cache is None else after(self.cache.resize, self.augmentations)
        if self.cache is None or not cached:
            return self._wanted(read_pictures(self._wanted_files(files))).transformed(self.augmentations)
        return self._wanted(self.cache.read(files) or self.cache.renew(files)).transformed(rest)

    def _wanted_files(self, files: PictureFiles) -> PictureFiles:
        """Return the files of the pictures that items carry."""
        lesion = files.lesion if self.task == TaskType.SEGMENTATION else ""
        return PictureFiles(files.image, files.roi_masks if self.has_roi_masks else (), lesion)

    def _wanted(self, pictures: Pictures) -> Pictures:
        """Return the pictures that items carry; in a normal image the lesion is nowhere."""
        image, roi_mask, lesion = pictures
        if self.task != TaskType.SEGMENTATION:
            lesion = None
        elif lesion is None:
            lesion = Mask(torch.zeros(image.shape[-2:], dtype=torch.bool))
        return Pictures(image, roi_mask if self.has_roi_masks else None, lesion)

    @property
    def collate_fn(self) -> Callable[..., Any]:
        """Collate into :class:`RoiImageBatch`."""
        return RoiImageBatch.collate
