"""Data module of synthetic X-rays, for demonstrations and tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anomalib_cxr.data.phantom.files import write_phantoms

from .base import RoiDataModule


class ChestPhantom(RoiDataModule):
    """Healthy and sick chest phantoms with lung and lesion masks, drawn on first use.

    They contain no patient data. Sick phantoms have one of five findings: consolidation, nodules, a cavity, an effusion
    or a miliary pattern. Results on phantoms show that a method runs, not that it detects disease.

    Args:
        root: Folder with the phantoms; drawn if it does not exist.
        n_normal: Number of healthy phantoms.
        n_sick: Number of phantoms with a finding.
        size: Height and width in pixels.
        phantom_seed: Seed of the phantoms, independent of the seed of the splits.
        kwargs: Settings of :class:`anomalib_cxr.data.datamodules.base.RoiDataModule`, such as protocol and batch sizes.

    Example:
        >>> ChestPhantom(n_normal=40, n_sick=20).name
        'ChestPhantom'
    """

    def __init__(
        self,
        root: Path | str = "datasets/chest_phantom",
        n_normal: int = 300,
        n_sick: int = 100,
        size: int = 256,
        phantom_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(root=root, **kwargs)
        self.n_normal = n_normal
        self.n_sick = n_sick
        self.size = size
        self.phantom_seed = phantom_seed

    def prepare_data(self) -> None:
        """Draw the phantoms unless they exist."""
        write_phantoms(self.root, n_normal=self.n_normal, n_sick=self.n_sick, size=self.size, seed=self.phantom_seed)
        super().prepare_data()
