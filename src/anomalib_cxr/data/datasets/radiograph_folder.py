"""X-rays without labels, for `anomalib predict`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset
from torchvision.tv_tensors import Image

from anomalib_cxr.data.reading.discovery import radiograph_files
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.errors import DatasetError

from .dataclasses import RoiImageBatch, RoiImageItem
from .verification import verify_radiographs

logger = logging.getLogger(__name__)


class RadiographFolder(Dataset[RoiImageItem]):
    """One X-ray or a folder of them, read as radiographs: PNG and TIFF of 8 and 16 bits, JPEG, BMP, DICOM.

    anomalib's own reader turns a 16-bit PNG white and knows no DICOM. With this class `anomalib predict` scores them
    right: `anomalib predict --config ... --data anomalib_cxr.RadiographFolder --data.init_args.path FILE_OR_FOLDER`.

    A folder is searched through with all folders in it. Texts, tables and reports by their suffix (`.txt`, `.csv`,
    `.pdf` and the like), hidden files and a `DICOMDIR` are passed over; every other file, whatever its name, has to be
    a radiograph. All are read once at construction, so that nothing stops a prediction that has begun.

    Args:
        path: A file or a folder.

    Raises:
        DatasetError: If there is nothing, or if some files are no radiographs; all of those are named.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from anomalib_cxr.data.phantom.files import write_phantoms
        >>> with TemporaryDirectory() as folder:
        ...     root = write_phantoms(Path(folder, "phantoms"), n_normal=1, n_sick=1, size=32, bits=16)
        ...     dataset = RadiographFolder(root / "CXR_png")
        ...     len(dataset), dataset[0].image.shape
        (2, torch.Size([3, 32, 32]))
    """

    def __init__(self, path: Path | str) -> None:
        self.paths = self._find(Path(path))
        verify_radiographs(self.paths)

    @staticmethod
    def _find(path: Path) -> list[Path]:
        if path.is_file():
            return [path]
        paths, passed_over = radiograph_files(path)
        if not paths:
            raise DatasetError(
                f"no radiograph in {path}" if path.exists() else f"no file or folder {path}",
                "a radiograph or a folder of radiographs",
                "correct data.init_args.path",
            )
        if passed_over:
            logger.info("%s: passed over %d files that are no pictures", path, passed_over)
        return paths

    def __len__(self) -> int:
        """Return the number of X-rays."""
        return len(self.paths)

    def __getitem__(self, index: int) -> RoiImageItem:
        """Read one X-ray: image `(3, H, W)` in [0, 1]."""
        image = read_radiograph(self.paths[index])  # (1, H, W)
        return RoiImageItem(image=Image(image.expand(3, -1, -1)), image_path=str(self.paths[index]))

    @property
    def collate_fn(self) -> Callable[..., Any]:
        """Collate into :class:`RoiImageBatch`."""
        return RoiImageBatch.collate
