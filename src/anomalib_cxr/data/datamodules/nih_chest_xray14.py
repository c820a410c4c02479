"""NIH ChestX-ray14: 112 120 frontal chest X-rays of 30 805 patients, fourteen findings, no lung masks.

Source: X. Wang et al., "ChestX-ray8: Hospital-scale chest X-ray database and benchmarks", CVPR 2017.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from anomalib import TaskType

from anomalib_cxr.data.reading.radiograph import intact_size
from anomalib_cxr.data.sources.mask_folder import with_predicted_masks
from anomalib_cxr.data.sources.nih_draw import deal_at_random, deal_by_lists, draw_images
from anomalib_cxr.data.sources.nih_files import FINDINGS, HEALTHY, find_images, read_entries
from anomalib_cxr.data.sources.splits import PROTOCOLS
from anomalib_cxr.errors import DatasetError, refuse_settings

from .base import PLACE, Masks, RoiDataModule, check_choices, check_least

logger = logging.getLogger(__name__)

Draw = Literal["dissertation", "official"]
DRAWS: tuple[str, ...] = get_args(Draw)
View = Literal["PA", "AP", "both"]
VIEWS: tuple[str, ...] = get_args(View)
_WARNED = 5  # names that a warning gives


class NihChestXray14(RoiDataModule):
    """Healthy and sick chest X-rays of one hospital, split by patient.

    Healthy is an X-ray with "No Finding", also where another X-ray of the patient has one. See
    :mod:`anomalib_cxr.data.sources.nih_draw` for how patients are dealt and X-rays drawn. With the same seed, a patient is in
    the same split whatever the view, the findings, the numbers and the protocol are.

    Of the X-rays that are drawn each file is checked before a training, by its checksums, and not decoded. Masks are
    predicted for those alone.

    Args:
        root: Folder with the table, in a layout of :mod:`anomalib_cxr.data.sources.nih_files`.
        draw: `dissertation`: patients are dealt at random, two tenths to test, a tenth to validation; `official`: the
            patients of `test_list.txt` test, a tenth of those of `train_val_list.txt` validate.
        n_train: Healthy X-rays to train on; null for all.
        n_val: Healthy X-rays to validate on, and as many sick ones; null for all of both. Not used where the protocol
            is `dissertation`.
        n_test: The same for test.
        findings: Findings that count as sick; null for all. An X-ray with none but other findings is left out.
        view: `PA`, `AP` or `both`.
        masks: As in :class:`anomalib_cxr.data.datamodules.base.RoiDataModule`. The set has none: have them predicted, or
            train with target `image`.
        kwargs: Further settings of :class:`anomalib_cxr.data.datamodules.base.RoiDataModule`: protocol, on_error, batch sizes
            and so on.

    Raises:
        SettingError: If a choice or a finding is unknown, or a number under its least value.

    Example:
        >>> datamodule = NihChestXray14(root="datasets/nih_chest_xray14", findings=("Pneumonia",), n_test=None)
        >>> datamodule.draw, datamodule.protocol
        ('dissertation', 'holdout')
    """

    def __init__(
        self,
        root: Path | str = "datasets/nih_chest_xray14",
        draw: Draw = "dissertation",
        n_train: int | None = 10_803,
        n_val: int | None = 600,
        n_test: int | None = 1_200,
        findings: tuple[str, ...] | None = None,
        view: View = "both",
        masks: Masks = "optional",
        **kwargs: Any,
    ) -> None:
        check_choices(draw=(draw, DRAWS), view=(view, VIEWS))
        numbers = {"n_train": n_train, "n_val": n_val, "n_test": n_test}
        check_least(**{name: (number, 1) for name, number in numbers.items() if number is not None})
        _check_findings(findings)
        super().__init__(root=root, sources=None, masks=masks, **kwargs)
        check_choices(protocol=(self.protocol, PROTOCOLS))  # its splits are by patient: no table of images
        self.draw = draw
        self.n_train = n_train
        self.n_val = n_val
        self.n_test = n_test
        self.findings = findings
        self.view = view

    def make_samples(self) -> pd.DataFrame:
        """Return the samples table, drawn and verified.

        Returns:
            The X-rays that were drawn, with the columns of :func:`anomalib_cxr.data.sources.samples.make_samples`, `reading`
            holding the findings, and the columns

            - `patient`: identity of the patient.
            - `view`: `PA` or `AP`.

        Raises:
            DatasetError: If the folder or its files cannot be used, or do not suffice for the draw.
        """
        drawn = self.list_samples()
        usable = self.verify(self._with_needed_masks(drawn), intact_size)
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

        Raises:
            DatasetError: If the folder, its table or its lists cannot be used, or do not suffice for the draw.
        """
        entries = read_entries(self.root)
        if self.draw == "official":
            groups = deal_by_lists(entries, self.root, self.seed)
        else:
            groups = deal_at_random(entries, self.seed)
        samples = _as_samples(self._of_choice(self._on_disk(entries)))
        asked = {"train": self.n_train, "val": self.n_val, "test": self.n_test}
        if self.protocol == "dissertation":
            del asked["val"]
        samples["split"] = draw_images(samples, groups[samples.index], asked, self.seed)
        drawn = samples[samples.split != "unused"].reset_index(drop=True)
        patients = ", ".join(f"{split} {count}" for split, count in drawn.groupby("split").patient.nunique().items())
        logger.info("%d of %d X-rays drawn, of so many patients: %s", len(drawn), len(entries), patients)
        if self.protocol == "dissertation":  # validation is the test set
            drawn["split"] = drawn.split.replace("test", "val")
        return with_predicted_masks(drawn, self.predicted_masks)

    def _on_disk(self, entries: pd.DataFrame) -> pd.DataFrame:
        """Add the paths of the images; all must be there, unless files that cannot be used are skipped."""
        images = find_images(self.root)
        foreign = images[~images.index.isin(entries.name)]
        if len(foreign):
            some = ", ".join(foreign.iloc[:_WARNED])
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

    def _with_needed_masks(self, samples: pd.DataFrame) -> pd.DataFrame:
        """Leave out training X-rays without a lung mask where masks are needed, as for some no lungs are found."""
        training = samples.split == "train"
        without = training & (samples.roi_mask_paths.map(len) == 0)
        if not self.needs_masks or not without.any():
            return samples
        if without.sum() == training.sum():
            raise DatasetError(
                f"{training.sum()} X-rays of {self.root} to train on, none of them with a lung mask",
                f"lung masks for the images that train (masks: {self.masks}), which this set does not have",
                "have them predicted (data.init_args.masks: predict, and segmenter); or set data.init_args.masks to "
                "optional and model.init_args.target to image",
            )
        logger.warning("Left out: %d of %d training X-rays, without a lung mask", without.sum(), training.sum())
        masked: pd.DataFrame = samples[~without]
        return masked

    def _of_choice(self, entries: pd.DataFrame) -> pd.DataFrame:
        """Keep the X-rays of the chosen view that are healthy or have a chosen finding."""
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


def _check_findings(findings: Sequence[str] | None) -> None:
    """Refuse findings that no X-ray of the set has, and the choice of none."""
    if findings is not None and (not findings or set(findings) - set(FINDINGS)):
        refuse_settings({"findings": findings}, {"findings": f"some of {', '.join(FINDINGS)}, or null"}, PLACE)


def _as_samples(entries: pd.DataFrame) -> pd.DataFrame:
    """Give the table the columns that datasets want."""
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
