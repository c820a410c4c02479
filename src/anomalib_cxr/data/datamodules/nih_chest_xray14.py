"""Data module of NIH ChestX-ray14: 112 120 frontal X-rays of 30 805 patients, fourteen findings, no lung masks.

Source: X. Wang et al., "ChestX-ray8: Hospital-scale chest X-ray database and benchmarks", CVPR 2017.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from anomalib import TaskType

from anomalib_cxr.data.reading.intensities import intact_size
from anomalib_cxr.data.sources.nih_files import FINDINGS, HEALTHY, find_images, read_entries
from anomalib_cxr.data.sources.nih_splits import PATIENT_SHARES, sample_images, split_by_lists, split_patients
from anomalib_cxr.data.sources.samples import with_predicted_masks
from anomalib_cxr.data.sources.splits import PROTOCOLS
from anomalib_cxr.errors import DatasetError, refuse_settings
from anomalib_cxr.utils.settings import PositiveInt, Range, check_settings

from .base import PLACE, Masks, RoiDataModule

logger = logging.getLogger(__name__)

Draw = Literal["dissertation", "official"]
ViewPosition = Literal["PA", "AP", "both"]
_Findings = Annotated[
    tuple[str, ...],
    Range(f"some of {', '.join(FINDINGS)}", lambda findings: bool(findings) and set(findings) <= set(FINDINGS)),
]
_MAX_WARNED = 5  # file names in a warning


class NihChestXray14(RoiDataModule):
    """Healthy and sick chest X-rays of one hospital, split by patient.

    An X-ray with "No Finding" is healthy, even if another X-ray of the patient has a finding. Patients are split and
    X-rays sampled as described in :mod:`anomalib_cxr.data.sources.nih_splits`. With the same seed, a patient is in the
    same split for every view, findings, numbers and protocol.

    Before training, the sampled files are checked by their checksums without decoding. Masks are predicted for the
    sampled X-rays only.

    Args:
        root: Folder with the table, in a layout of :mod:`anomalib_cxr.data.sources.nih_files`.
        draw: `dissertation`: random split of the patients, 20 % for test and 10 % for validation; `official`: the
            patients of `test_list.txt` for test, 10 % of those of `train_val_list.txt` for validation.
        n_train: Healthy X-rays for training; null for all.
        n_val: Healthy X-rays for validation, and as many sick ones; null for all. Unused with protocol `dissertation`.
        n_test: The same for test.
        findings: Findings that count as sick; null for all. X-rays with other findings only are left out.
        view: `PA`, `AP` or `both`.
        masks: As in :class:`anomalib_cxr.data.datamodules.base.RoiDataModule`. The set has no masks: use `predict`, or
            train with target `image`.
        kwargs: Settings of :class:`anomalib_cxr.data.datamodules.base.RoiDataModule`, such as protocol, on_error and
            batch sizes.

    Raises:
        SettingError: If a setting is outside its range, a finding is unknown, or the protocol is `table` or `hospital`.

    Example:
        >>> datamodule = NihChestXray14(root="datasets/nih_chest_xray14", findings=("Pneumonia",), n_test=None)
        >>> datamodule.draw, datamodule.protocol
        ('dissertation', 'holdout')
    """

    def __init__(
        self,
        root: Path | str = "datasets/nih_chest_xray14",
        draw: Draw = "dissertation",
        n_train: PositiveInt | None = 10_803,
        n_val: PositiveInt | None = 600,
        n_test: PositiveInt | None = 1_200,
        findings: _Findings | None = None,
        view: ViewPosition = "both",
        masks: Masks = "optional",
        **kwargs: Any,
    ) -> None:
        check_settings(NihChestXray14.__init__, locals(), PLACE)
        super().__init__(root=root, sources=None, masks=masks, **kwargs)
        if self.protocol not in PROTOCOLS:  # splits are by patient: no table of images; there is one hospital
            refuse_settings({"protocol": self.protocol}, {"protocol": f"one of {', '.join(PROTOCOLS)}"}, PLACE)
        self.draw = draw
        self.n_train = n_train
        self.n_val = n_val
        self.n_test = n_test
        self.findings = findings
        self.view = view

    def make_samples(self) -> pd.DataFrame:
        """Return the samples table, sampled and verified.

        Returns:
            The sampled X-rays, with the columns of :class:`anomalib_cxr.data.sources.samples.SampleRow`, and

            - `patient`: identifier of the patient.
            - `view`: `PA` or `AP`.

        Raises:
            DatasetError: If the folder or its files cannot be used, or are too few.
        """
        drawn = self.list_samples()
        usable = self.verify(self.with_needed_masks(drawn), lambda paths: intact_size(paths.image))
        lost = {*zip(drawn.split, drawn.label, strict=True)} - {*zip(usable.split, usable.label, strict=True)}
        if lost:
            raise DatasetError(
                f"no file that can be used among those drawn for: {', '.join(map(' '.join, sorted(lost)))}",
                "PNG files as they were published",
                "download the images again",
            )
        return usable

    def list_samples(self) -> pd.DataFrame:
        """Return the table of :meth:`make_samples` without opening an image.

        Returns:
            The sampled X-rays, not verified.

        Raises:
            DatasetError: If the folder, its table or its lists cannot be used, or have too few X-rays.
        """
        entries = read_entries(self.root)
        if self.draw == "official":
            groups = split_by_lists(entries, self.root, self.seed)
        else:
            groups = split_patients(entries.patient, PATIENT_SHARES, self.seed)
        samples = _as_samples(self._chosen(self._on_disk(entries)))
        counts = {"train": self.n_train, "val": self.n_val, "test": self.n_test}
        if self.protocol == "dissertation":
            del counts["val"]
        samples["split"] = sample_images(samples, groups[samples.index], counts, self.seed)
        drawn = samples[samples.split != "unused"].reset_index(drop=True)
        patients = ", ".join(f"{split} {count}" for split, count in drawn.groupby("split").patient.nunique().items())
        logger.info("%d of %d X-rays drawn, of so many patients: %s", len(drawn), len(entries), patients)
        if self.protocol == "dissertation":  # validation is the test set
            drawn["split"] = drawn.split.replace("test", "val")
        return with_predicted_masks(drawn, self.predicted_masks)

    def _on_disk(self, entries: pd.DataFrame) -> pd.DataFrame:
        """Add the paths of the images; refuse missing ones, or skip them if `on_error` is `skip`."""
        images = find_images(self.root)
        foreign = images[~images.index.isin(entries.name)]
        if len(foreign):
            some = ", ".join(foreign.iloc[:_MAX_WARNED])
            logger.warning("Left out, since the table does not know them: %d images, such as %s", len(foreign), some)
        entries["image_path"] = entries["name"].map(images)
        missing = entries.name[entries.image_path.isna()]
        if missing.empty:
            return entries
        error = DatasetError(
            f"{len(missing)} of the {len(entries)} images of the table that are in no folder of {self.root}",
            "every image of the table in images_*/images or images",
            "complete the download, or set data.init_args.on_error to skip to draw from those that are there",
            {"missing": list(missing)},
        )
        if self.on_error == "raise":
            raise error
        logger.warning("Left out: %s", error)
        there: pd.DataFrame = entries.drop(index=missing.index)
        return there

    def _chosen(self, entries: pd.DataFrame) -> pd.DataFrame:
        """Return the X-rays of the chosen view that are healthy or have a chosen finding."""
        chosen = entries
        if self.findings is not None:
            counted = {HEALTHY, *self.findings}
            readings = chosen.reading.unique()
            chosen = chosen[chosen.reading.isin([text for text in readings if counted & set(text.split("|"))])]
        if self.view != "both":
            chosen = chosen[chosen["view"] == self.view]
        if chosen.empty:
            raise DatasetError(
                f"{len(entries)} X-rays in {self.root}, none of them of view {self.view!r}, and healthy or with "
                f"{' or '.join(self.findings or ('any finding',))}",
                "X-rays to draw from",
                "choose another view or other findings",
            )
        return chosen


def _as_samples(entries: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the columns of a samples table."""
    sick = entries.reading != HEALTHY
    samples: pd.DataFrame = entries.drop(columns="name").assign(
        label=np.where(sick, "abnormal", "normal"),
        label_index=sick.astype(int),
        mask_path="",
        roi_mask_paths=[()] * len(entries),
        source="nih",
    )
    samples.attrs["task"] = TaskType.CLASSIFICATION
    return samples
