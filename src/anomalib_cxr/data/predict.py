"""X-rays without labels, for `anomalib predict`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch.utils.data import Dataset
from torchvision.tv_tensors import Image

from anomalib_cxr.errors import DatasetError

from .dataclasses import RoiImageBatch, RoiImageItem
from .radiograph import image_size, read_radiograph


class RadiographFolder(Dataset[RoiImageItem]):
    """One X-ray or a folder of them, read as radiographs: 8 and 16 bit PNG, JPEG, DICOM.

    anomalib's own reader turns a 16-bit PNG white and knows no DICOM. With this class `anomalib predict` scores them right:
    `anomalib predict --config ... --data anomalib_cxr.RadiographFolder --data.init_args.path FILE_OR_FOLDER`.

    Args:
        path: A file, or a folder that is searched through.

    Raises:
        DatasetError: If there is nothing, or if some files are no radiographs; all of those are named.
    """

    def __init__(self, path: Path | str) -> None:
        self.paths = self._find(Path(path))

    @staticmethod
    def _find(path: Path) -> list[Path]:
        if path.is_file():
            return [path]
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        if not files:
            raise DatasetError(f"no file in {path}", "a radiograph or a folder of radiographs", "correct data.init_args.path")
        return files

    def __len__(self) -> int:
        """Return the number of X-rays."""
        return len(self.paths)

    def __getitem__(self, index: int) -> RoiImageItem:
        """Read one X-ray: image `(3, H, W)` in [0, 1]."""
        image = read_radiograph(self.paths[index])  # (1, H, W)
        return RoiImageItem(image=Image(image.expand(3, -1, -1)), image_path=str(self.paths[index]))

    @property
    def collate_fn(self) -> Callable[[list[RoiImageItem]], RoiImageBatch]:
        """Collate into :class:`RoiImageBatch`."""
        collate: Callable[[list[RoiImageItem]], RoiImageBatch] = RoiImageBatch.collate
        return collate
