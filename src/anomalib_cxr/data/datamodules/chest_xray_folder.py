"""Data module of one's own chest X-rays."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import pandas as pd
from torch.utils.data import DataLoader

from anomalib_cxr.data.datasets.near_copies import ImageHashes, warn_of_near_copies
from anomalib_cxr.data.datasets.verification import sample_paths
from anomalib_cxr.data.sources.folder_files import find_labeled, match_masks
from anomalib_cxr.data.sources.folder_samples import check_enough, complete_samples, warn_of_views
from anomalib_cxr.data.sources.folder_table import read_table
from anomalib_cxr.data.sources.identical_files import find_copies, join_patients
from anomalib_cxr.data.sources.patient_splits import check_patients, split_by_patient, splits_table
from anomalib_cxr.data.sources.samples import with_predicted_masks
from anomalib_cxr.data.sources.splits import TEST_SHARE, VALIDATION_SHARE
from anomalib_cxr.errors import DatasetError
from anomalib_cxr.utils.settings import PositiveInt, Range, check_settings

from .base import PLACE, Masks, RoiDataModule

logger = logging.getLogger(__name__)

Folders: TypeAlias = str | Path | Sequence[str | Path]
Share = Annotated[float, Range("> 0 and < 1", lambda value: isinstance(value, float) and 0 < value < 1)]
LEAST_TRAIN = 60
"""Least number of healthy X-rays to train on: the models adjust scores for exposure by a regression on three
covariates, cross-fitted in folds, and their smallest fold then has 15 X-rays."""


class ChestXrayFolder(RoiDataModule):
    """One's own chest X-rays: folders of healthy and abnormal ones, or a table, split by patient.

    Named and used like anomalib's `Folder`. Every format of the reader is accepted, in any mixture and in any
    subfolders; files are recognized by their content. Patient, view, sex and age are read from the headers of DICOM
    files. Patients are split as described in :mod:`anomalib_cxr.data.sources.patient_splits`.

    Args:
        root: Folder with the X-rays; None for the folder of `table`.
        normal_dir: Folders with healthy X-rays, relative to `root`; None with `table`.
        abnormal_dir: Folders with abnormal X-rays; None to train only: no test is possible then.
        normal_test_dir: Folders with healthy X-rays for the test; None to take `normal_split_ratio` of the patients of
            `normal_dir`.
        mask_dir: Folders with masks of the ANOMALIES, as everywhere in anomalib, one for each abnormal X-ray, with its
            name and in the same subfolder; None for no pixel metrics.
        lung_mask_dir: Folders with lung masks, named in the same way; several are merged, such as left and right lung.
        table: CSV file with a row for each X-ray instead of folders, see
            :func:`anomalib_cxr.data.sources.folder_table.read_table`. X-rays whose column `split` is filled
            are not split at random, nor are others of their patients. Of a column that it has, nothing is read from
            headers.
        normal_split_ratio: Share of the healthy patients for the test.
        val_split_ratio: Share of the healthy patients for validation.
        least_train: Least number of healthy X-rays to train on. With fewer than 60 the statistics of healthy lungs are
            not sound; lower it for a trial only.
        masks: As in :class:`anomalib_cxr.data.datamodules.base.RoiDataModule`.
        kwargs: Settings of :class:`anomalib_cxr.data.datamodules.base.RoiDataModule`, such as on_error, seed, cache and
            batch sizes.

    Raises:
        SettingError: If a setting is outside its range.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from anomalib_cxr.data.phantom.files import write_phantoms
        >>> with TemporaryDirectory() as folder:
        ...     for name, counts in {"healthy": (12, 0), "sick": (0, 4)}.items():
        ...         _ = write_phantoms(Path(folder, name), n_normal=counts[0], n_sick=counts[1], size=32)
        ...     datamodule = ChestXrayFolder(folder, "healthy/CXR_png", "sick/CXR_png", least_train=1)
        ...     datamodule.setup()
        ...     [len(data) for data in (datamodule.train_data, datamodule.val_data, datamodule.test_data)]
        [9, 2, 5]
    """

    def __init__(
        self,
        root: Path | str | None = None,
        normal_dir: Folders | None = None,
        abnormal_dir: Folders | None = None,
        normal_test_dir: Folders | None = None,
        mask_dir: Folders | None = None,
        lung_mask_dir: Folders | None = None,
        table: Path | str | None = None,
        normal_split_ratio: Share = TEST_SHARE,
        val_split_ratio: Share = VALIDATION_SHARE,
        least_train: PositiveInt = LEAST_TRAIN,
        masks: Masks = "optional",
        **kwargs: Any,
    ) -> None:
        folders = {"normal_dir": normal_dir, "abnormal_dir": abnormal_dir, "normal_test_dir": normal_test_dir}
        mask_folders = {"mask_dir": mask_dir, "lung_mask_dir": lung_mask_dir}
        conflicts: dict[str, tuple[object, str]] = {}
        if table is not None:
            given = {name: value for name, value in {**folders, **mask_folders}.items() if value is not None}
            conflicts = {name: (value, "null with table, which names the files") for name, value in given.items()}
        elif root is None or normal_dir is None:
            needed = {"root": root, "normal_dir": normal_dir}
            conflicts = {
                name: (None, "a folder, or a CSV file as table") for name, value in needed.items() if value is None
            }
        if normal_split_ratio + val_split_ratio >= 1:
            conflicts["normal_split_ratio"] = normal_split_ratio, "< 1 together with val_split_ratio"
        if table is None and mask_dir is not None and abnormal_dir is None:
            conflicts["mask_dir"] = mask_dir, "null without abnormal_dir; lung masks belong to lung_mask_dir"
        check_settings(ChestXrayFolder.__init__, locals(), PLACE, conflicts)
        home = Path(str(table)).parent if root is None else root
        super().__init__(
            home, sources=None, protocol="holdout", masks=masks, split_table=None, test_source=None, **kwargs
        )
        self.table = table
        self.folders = {setting: _listed(given) for setting, given in folders.items()}
        self.mask_folders = [self.root / folder for folder in _listed(mask_dir)]
        self.lung_mask_folders = [self.root / folder for folder in _listed(lung_mask_dir)]
        self.normal_split_ratio = normal_split_ratio
        self.val_split_ratio = val_split_ratio
        self.least_train = least_train
        self._hashes = ImageHashes()

    @property
    def mask_root(self) -> Path:
        """Return the root: files of different folders may have the same name."""
        return self.root

    def list_samples(self) -> pd.DataFrame:
        """Return the samples table with predicted masks.

        Returns:
            All X-rays, neither verified nor split at random.

        Raises:
            DatasetError: If a folder or the table cannot be used.
        """
        return with_predicted_masks(self._index, self.predicted_masks, self.mask_root)

    @cached_property
    def _index(self) -> pd.DataFrame:
        """X-rays and their headers, which are read once for all stages."""
        if self.table is not None:
            return complete_samples(read_table(self.table, self.root), self.root)
        mask_folders = [*self.mask_folders, *self.lung_mask_folders, self.predicted_masks]
        found = find_labeled(self.root, self.folders, excluded=mask_folders, on_locked=self.on_error)
        if self.mask_folders:
            found["mask_path"] = self._lesion_masks(found)
        if self.lung_mask_folders:
            found["roi_mask_paths"] = match_masks(found, self.root, self.lung_mask_folders, "lung_mask_dir")
        return complete_samples(found.drop(columns="folder"), self.root)

    def _lesion_masks(self, found: pd.DataFrame) -> pd.Series[str]:
        matched = pd.Series(match_masks(found, self.root, self.mask_folders, "mask_dir"), found.index)
        count, sick = matched.map(len), found.label_index == 1
        offenders = {
            "abnormal, without a mask": list(found.image_path[sick & (count == 0)]),
            "abnormal, with several masks": list(found.image_path[sick & (count > 1)]),
            "healthy, with a mask of an anomaly": list(found.image_path[~sick & (count > 0)]),
        }
        if any(offenders.values()):
            raise DatasetError(
                f"X-rays that do not fit the masks in {', '.join(map(str, self.mask_folders))}",
                "one mask of the anomaly for each abnormal X-ray, of the same name; no others",
                "complete or rename the masks; lung masks belong to data.init_args.lung_mask_dir",
                offenders,
            )
        return matched.map("".join)

    def make_samples(self) -> pd.DataFrame:
        """Return the samples table, verified and split.

        Returns:
            The columns of :func:`anomalib_cxr.data.sources.folder_samples.complete_samples`.

        Raises:
            DatasetError: If the folders or their files cannot be used, or are too few.
        """
        samples = self.list_samples()
        check_enough(samples, self.least_train)
        check_patients(samples)
        copies = find_copies(samples)
        usable: pd.DataFrame = self.verify(samples, self._hashes.hash_and_size).copy()
        if not usable.label_index.any():
            logger.warning("No abnormal X-rays are given: the model is trained, and no test is possible.")
        if usable.split.eq("").any():
            joined = usable.assign(patient=join_patients(usable, copies))
            usable["split"] = split_by_patient(joined, self._shares(usable), self.seed)
        usable = self.with_needed_masks(usable)
        check_enough(usable, self.least_train)
        warn_of_views(usable)
        files = list(sample_paths(usable, self.sixteen_bit_white))
        warn_of_near_copies(usable, self._hashes.of(files, self._open_cache()))
        return usable

    def _shares(self, samples: pd.DataFrame) -> dict[str, float]:
        """Return the shares of the healthy patients; none of them tests where that is impossible or needless."""
        tests = bool(samples.label_index.any()) and not self.folders["normal_test_dir"]
        return {"val": self.val_split_ratio} | ({"test": self.normal_split_ratio} if tests else {})

    def describe(self, samples: pd.DataFrame) -> str:
        """Describe the splits in a line for each hospital, and in a table by view and label.

        Args:
            samples: The table of :meth:`make_samples`.
        """
        return f"{super().describe(samples)}\n{splits_table(samples)}"

    def test_dataloader(self) -> Any:
        """Return a loader of the test set; none without abnormal X-rays, and Lightning then skips the test."""
        loader: DataLoader[Any] = super().test_dataloader()
        return loader if self.test_data.has_anomalous else []


def _listed(folders: Folders | None) -> list[str | Path]:
    if folders is None:
        return []
    return [folders] if isinstance(folders, str | Path) else list(folders)
