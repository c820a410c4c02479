"""Datasets: X-rays of a samples table with lung masks, and X-rays of a folder without labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from anomalib import TaskType
from anomalib.data.datasets.base import AnomalibDataset
from torch.utils.data import Dataset
from torchvision.transforms.v2 import Transform
from torchvision.tv_tensors import Image, Mask

from anomalib_cxr.data.reading.discovery import list_radiographs
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.data.reading.verification import OnError, verify_radiographs
from anomalib_cxr.errors import DatasetError
from anomalib_cxr.utils.settings import check_settings

from .dataclasses import RoiImageBatch, RoiImageItem
from .image_cache import ImageCache, split_off_resize
from .sample_tensors import SampleTensors, read_sample
from .verification import SamplePaths


class RoiDataset(AnomalibDataset):
    """X-rays with lung masks, if all samples of the table have one, and lesion masks.

    Args:
        samples: A table from :func:`anomalib_cxr.data.sources.samples.make_samples`.
        augmentations: Applied to image, lung mask and lesion mask together. The image has ONE channel there.
        sixteen_bit_white: White of 16-bit images.

    Attributes:
        has_roi_masks: True if items have `roi_mask`: all or none do, since a batch cannot hold both.
        cache: Cache that is read if augmentations begin with its resizing; None to read the files.

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

    def __init__(
        self,
        samples: pd.DataFrame,
        augmentations: Transform | None = None,
        sixteen_bit_white: int | None = None,
    ) -> None:
        super().__init__(augmentations)
        self.sixteen_bit_white = sixteen_bit_white
        self.cache: ImageCache | None = None
        self.samples = samples

    @property
    def samples(self) -> pd.DataFrame:
        """The samples table."""
        return super().samples

    @samples.setter
    def samples(self, samples: pd.DataFrame) -> None:
        AnomalibDataset.samples.__set__(self, samples)  # type: ignore[attr-defined]  # a property of the base
        # once for the table: evaluated for each item, an epoch would take quadratic time
        self.has_roi_masks = bool((samples.roi_mask_paths.map(len) > 0).all())

    def __getitem__(self, index: int) -> RoiImageItem:
        """Return one X-ray: image `(3, H, W)` in [0, 1], masks `(H, W)`."""
        sample = self.samples.iloc[index]
        image, roi_mask, lesion = self._read(sample)
        return RoiImageItem(
            image=Image(image.expand(3, -1, -1)),  # anomalib takes three channels only
            roi_mask=roi_mask,
            gt_mask=lesion,
            gt_label=torch.tensor(sample.label_index),
            image_path=sample.image_path,
        )

    def _read(self, sample: pd.Series) -> SampleTensors:
        """Read image and masks from the cache, if augmentations begin with its resizing, or else from their files."""
        paths = SamplePaths(sample.image_path, sample.roi_mask_paths, sample.mask_path, self.sixteen_bit_white)
        if self.cache is not None:
            cached, remaining = split_off_resize(self.cache.resize, self.augmentations)
            if cached:
                return self._select(self.cache.read(paths)).transformed(remaining)
        used = SamplePaths(
            paths.image,
            paths.roi_masks if self.has_roi_masks else (),
            paths.lesion if self.task == TaskType.SEGMENTATION else "",
            self.sixteen_bit_white,
        )
        return self._select(read_sample(used)).transformed(self.augmentations)

    def _select(self, tensors: SampleTensors) -> SampleTensors:
        """Keep the masks that items have; a normal image has an empty lesion mask."""
        image, roi_mask, lesion = tensors
        if self.task != TaskType.SEGMENTATION:
            lesion = None
        elif lesion is None:
            lesion = Mask(torch.zeros(image.shape[-2:], dtype=torch.bool))
        return SampleTensors(image, roi_mask if self.has_roi_masks else None, lesion)

    @property
    def collate_fn(self) -> Callable[..., Any]:
        """Collate into :class:`RoiImageBatch`."""
        return RoiImageBatch.collate


class RadiographFolder(Dataset[RoiImageItem]):
    """X-rays without labels, for `anomalib predict`: PNG and TIFF of 8 and 16 bits, JPEG, BMP, DICOM.

    anomalib's own reader turns a 16-bit PNG white and does not read DICOM. This class is used by
    `anomalib predict --config ... --data anomalib_cxr.RadiographFolder --data.init_args.path FILE_OR_FOLDER`.

    A folder is searched recursively. Texts, tables and reports by their suffix (`.txt`, `.csv`, `.pdf` and the like),
    hidden files and a `DICOMDIR` are skipped; every other file, whatever its name, has to be a frontal radiograph. All
    are read once at construction, so that a broken file cannot stop a prediction halfway.

    Args:
        path: A file or a folder.
        sixteen_bit_white: White of 16-bit PNG and TIFF files, as the model was trained with; see
            :func:`anomalib_cxr.data.reading.radiograph.read_radiograph`.
        on_error: Action on files that are no frontal radiographs: `raise` an error that names all of them, or `skip`
            them; a model of this package then lists them at the end of its prediction.

    Attributes:
        paths: The X-rays.
        skipped: Skipped files, by reason.

    Raises:
        DatasetError: If there is no file, or if some files are no frontal radiographs, with `raise`; if all are none,
            with `skip`. It names all of those.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from anomalib_cxr.data.phantom.files import write_phantoms
        >>> with TemporaryDirectory() as folder:
        ...     root = write_phantoms(Path(folder, "phantoms"), n_normal=1, n_sick=1, size=32, bits=16)
        ...     dataset = RadiographFolder(root / "CXR_png")
        ...     len(dataset), dataset[0].image.shape
        (2, torch.Size([3, 32, 32]))
    """

    def __init__(self, path: Path | str, sixteen_bit_white: int | None = None, on_error: OnError = "raise") -> None:
        check_settings(RadiographFolder.__init__, locals(), "data.init_args")
        self.sixteen_bit_white = sixteen_bit_white
        found = _find_files(Path(path))
        self.skipped = verify_radiographs(found, sixteen_bit_white, on_error)
        excluded = {file for files in self.skipped.values() for file in files}
        self.paths = [file for file in found if file not in excluded]

    def __len__(self) -> int:
        """Return the number of X-rays."""
        return len(self.paths)

    def __getitem__(self, index: int) -> RoiImageItem:
        """Return one X-ray: image `(3, H, W)` in [0, 1]."""
        image = read_radiograph(self.paths[index], self.sixteen_bit_white)  # (1, H, W)
        return RoiImageItem(image=Image(image.expand(3, -1, -1)), image_path=str(self.paths[index]))

    @property
    def collate_fn(self) -> Callable[..., Any]:
        """Collate into :class:`RoiImageBatch`."""
        return RoiImageBatch.collate


def _find_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    paths = list_radiographs(path)
    if not paths:
        raise DatasetError(
            f"no radiograph in {path}" if path.exists() else f"no file or folder {path}",
            "a radiograph or a folder of radiographs",
            "correct data.init_args.path",
        )
    return paths
