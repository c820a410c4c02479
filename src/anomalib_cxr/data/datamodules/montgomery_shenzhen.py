"""Data module of the Montgomery County and Shenzhen chest X-ray sets.

Source: S. Jaeger et al., "Two public chest X-ray datasets for computer-aided screening of pulmonary diseases",
Quantitative Imaging in Medicine and Surgery 2014; lung masks of Shenzhen: S. Stirenko et al., arXiv 1803.01199.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from anomalib_cxr.data.sources.download import OFFICIAL_ARCHIVES, Archive, download_archives
from anomalib_cxr.data.sources.layouts import ROLES
from anomalib_cxr.utils.settings import check_settings

from .base import PLACE, RoiDataModule

Source = Literal["both", "montgomery", "shenzhen"]
_PREFIXES = {"Montgomery": "MCUCXR", "Shenzhen": "CHNCXR"}


class MontgomeryShenzhen(RoiDataModule):
    """Normal and tuberculous chest X-rays of two hospitals, with lung masks.

    The layout of the folder is recognized; see :mod:`anomalib_cxr.data.sources.layouts`.

    Args:
        root: Folder with the data.
        source: `both`, `montgomery` or `shenzhen`.
        download: Download the official archive of each chosen hospital without X-rays in the folder. The Shenzhen lung
            masks need a Kaggle account and must be downloaded by hand.
        kwargs: Settings of :class:`anomalib_cxr.data.datamodules.base.RoiDataModule`, such as protocol, masks and batch
            sizes.

    Raises:
        SettingError: If a setting is outside its range.

    Example:
        >>> datamodule = MontgomeryShenzhen(root="datasets/montgomery_shenzhen", source="shenzhen", seed=1)
        >>> datamodule.sources
        ('shenzhen',)
    """

    def __init__(
        self,
        root: Path | str = "datasets/montgomery_shenzhen",
        source: Source = "both",
        download: bool = False,
        **kwargs: Any,
    ) -> None:
        check_settings(MontgomeryShenzhen.__init__, locals(), PLACE)
        super().__init__(root, ("montgomery", "shenzhen") if source == "both" else (source,), **kwargs)
        self.download = download

    def prepare_data(self) -> None:
        """Download the official archives and predict missing lung masks, if the settings say so."""
        if self.download:
            download_archives(self.root, [archive for archive in OFFICIAL_ARCHIVES if self._is_wanted(archive)])
        super().prepare_data()

    def _is_wanted(self, archive: Archive) -> bool:
        """Return whether to download an archive: not if its X-rays are there in another layout."""
        names = f"{_PREFIXES[archive.name]}_*.png"
        images = [path for path in self.root.rglob(names) if ROLES.get(path.parent.name.lower()) == "image"]
        chosen = archive.name.lower() in (self.sources or ())
        return chosen and all(archive.folder in path.parts for path in images)
