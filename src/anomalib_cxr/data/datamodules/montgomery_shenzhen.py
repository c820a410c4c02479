"""The Montgomery County and Shenzhen chest X-ray sets.

Source: S. Jaeger et al., "Two public chest X-ray datasets for computer-aided screening of pulmonary diseases",
Quantitative Imaging in Medicine and Surgery 2014; lung masks of Shenzhen: S. Stirenko et al., arXiv 1803.01199.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from anomalib_cxr.data.sources.download import OFFICIAL_ARCHIVES, Archive, download_archives

from .base import RoiDataModule, check_choices

Source = Literal["both", "montgomery", "shenzhen"]
SOURCES: tuple[str, ...] = get_args(Source)
_PREFIXES = {"Montgomery": "MCUCXR", "Shenzhen": "CHNCXR"}


class MontgomeryShenzhen(RoiDataModule):
    """Normal and tuberculous chest X-rays of two hospitals, with lung masks.

    Every layout that the sets come in is recognized by itself; see :mod:`anomalib_cxr.data.sources.layouts`.

    Args:
        root: Folder with the data.
        source: `both`, `montgomery` or `shenzhen`.
        download: Fetch the official archive of each chosen hospital that the folder has no X-ray of. The Shenzhen lung
            masks need a Kaggle account and must be fetched by hand.
        kwargs: Settings of :class:`anomalib_cxr.data.datamodules.base.RoiDataModule`: protocol, masks, batch sizes and so on.

    Raises:
        SettingError: If a choice is unknown or a number under its least value.

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
        check_choices(source=(source, SOURCES))
        super().__init__(root=root, sources=SOURCES[1:] if source == "both" else (source,), **kwargs)
        self.download = download

    def prepare_data(self) -> None:
        """Fetch the official archives, and predict missing lung masks, where that is asked for."""
        if self.download:
            download_archives(self.root, [archive for archive in OFFICIAL_ARCHIVES if self._is_wanted(archive)])
        super().prepare_data()

    def _is_wanted(self, archive: Archive) -> bool:
        """Tell whether to fetch an archive; beside the same X-rays in another layout it would only be in the way."""
        images = self.root.rglob(f"CXR_png/{_PREFIXES[archive.name]}_*.png")
        chosen = archive.name.lower() in (self.sources or ())
        return chosen and all(archive.folder in path.parts for path in images)
