"""Synthetic X-rays as a data module: the built-in demonstration, and the data of every test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anomalib_cxr.data.phantom.files import write_phantoms

from .base import RoiDataModule


class ChestPhantom(RoiDataModule):
    """Healthy and sick chest phantoms with lung and lesion masks, drawn on first use.

    Nothing of a patient is in them. Five findings take turns: consolidation, nodules, a cavity, an effusion and a
    miliary pattern. A figure measured on phantoms says that a method runs, not that it detects disease.

    Args:
        root: Folder with the phantoms; drawn when it is missing.
        n_normal: Healthy phantoms.
        n_sick: Phantoms with a finding.
        size: Side in pixels.
        phantom_seed: Seed of the drawing.
        kwargs: Settings of :class:`anomalib_cxr.data.datamodules.base.RoiDataModule`: protocol, batch sizes and so on.

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
        """Draw the phantoms unless they are there."""
        write_phantoms(self.root, n_normal=self.n_normal, n_sick=self.n_sick, size=self.size, seed=self.phantom_seed)
        super().prepare_data()
