"""What the data modules of this package have in common: everything but where their files come from."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Literal, get_args

import pandas as pd
from anomalib.data import AnomalibDataModule
from anomalib.data.transforms.utils import extract_transforms_by_type
from anomalib.utils.attrs import get_nested_attr
from torchvision.transforms.v2 import Resize, Transform

from anomalib_cxr.data.datasets.dataset import RoiDataset
from anomalib_cxr.data.datasets.image_cache import ImageCache
from anomalib_cxr.data.datasets.verification import (
    ON_ERROR,
    OnError,
    ReadSize,
    decoded_size,
    drop_unusable,
    sample_paths,
    verify_samples,
)
from anomalib_cxr.data.sources.mask_folder import FOLDER
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.data.sources.split_table import assign_by_table, check_filled
from anomalib_cxr.data.sources.splits import PROTOCOLS, Protocol, assign_splits, describe_splits
from anomalib_cxr.errors import DatasetError, refuse_settings

logger = logging.getLogger(__name__)

Masks = Literal["required", "optional", "predict"]
MASKS: tuple[str, ...] = get_args(Masks)
TABLE: Literal["table"] = "table"
"""The protocol of a user's own splits."""
PLACE = "data.init_args"


def check_choices(**choices: tuple[str, tuple[str, ...]]) -> None:
    """Refuse names that are not among the known ones."""
    wrong = {name: value for name, (value, known) in choices.items() if value not in known}
    expected = {name: f"one of {', '.join(known)}" for name, (_, known) in choices.items()}
    refuse_settings(wrong, expected, PLACE)


def check_least(**numbers: tuple[float, float]) -> None:
    """Refuse numbers under their least value."""
    wrong = {name: value for name, (value, least) in numbers.items() if value < least}
    refuse_settings(wrong, {name: f">= {least}" for name, (_, least) in numbers.items()}, PLACE)


class RoiDataModule(AnomalibDataModule):
    """X-rays with lung masks from one folder, split by a protocol.

    Args:
        root: Folder with the data, in any layout of :mod:`anomalib_cxr.data.sources.layouts`.
        sources: Hospitals to take; None for all.
        protocol: `holdout` (train, validation and test disjoint), `dissertation` (validation is the test set), or
            `table`: as `split_table` says.
        masks: `required`: only images with a lung mask train, as target `lungs` needs it; `optional`: all normal ones
            may; `predict`: as `required`, after `segmenter` has predicted the masks that are missing.
        on_error: What to do about files that cannot be used: `raise` names them all, `skip` leaves them out.
        train_batch_size: Images in a training batch.
        eval_batch_size: Images in a batch of validation and test.
        num_workers: Processes that read.
        train_augmentations: Applied to training images and their masks together.
        val_augmentations: The same for validation.
        test_augmentations: The same for test.
        augmentations: Used where no augmentation of the stage is given.
        seed: Seed of the draw, or column of `split_table`.
        split_table: Table of splits for protocol `table`, see :func:`anomalib_cxr.data.sources.split_table.read_split_table`.
        segmenter: File of the lung segmenter that predicts masks; null where none is to.
        predicted_masks: Folder of predicted masks; None for `predicted_masks` in the root. Masks that lie there serve
            images without a true one, whatever `masks` is.
        cache: Whether to decode each image once, not each epoch: images and masks are kept as the model's resizing
            leaves them, in `cache_folder`. Augmentations that come before a resizing need the original and are read
            from the files; let them begin with the model's own `Resize` to have theirs cached, too.
        cache_folder: Folder of caches; None for the user's own cache folder. It then holds images of patients.
        cache_gigabytes: Bound on all caches in it; those that were not used for longest are deleted first.

    Raises:
        SettingError: If a choice is unknown, a number under its least value, or `split_table` or `segmenter` missing or
            of no use.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from anomalib_cxr.data.phantom.files import write_phantoms
        >>> with TemporaryDirectory() as folder:
        ...     root = write_phantoms(Path(folder, "phantoms"), n_normal=6, n_sick=4, size=32)
        ...     datamodule = RoiDataModule(root, train_batch_size=4)
        ...     datamodule.setup()
        ...     batch = next(iter(datamodule.train_dataloader()))
        >>> batch.image.shape, batch.roi_mask.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 32, 32]))
    """

    seed: int  # never None here, as it may be in anomalib's own
    train_data: RoiDataset
    val_data: RoiDataset
    test_data: RoiDataset

    def __init__(
        self,
        root: Path | str,
        sources: tuple[str, ...] | None = None,
        protocol: Protocol | Literal["table"] = "holdout",
        masks: Masks = "required",
        on_error: OnError = "raise",
        train_batch_size: int = 32,
        eval_batch_size: int = 32,
        num_workers: int = 0,
        train_augmentations: Transform | None = None,
        val_augmentations: Transform | None = None,
        test_augmentations: Transform | None = None,
        augmentations: Transform | None = None,
        seed: int = 0,
        split_table: Path | str | None = None,
        segmenter: Path | str | None = None,
        predicted_masks: Path | str | None = None,
        cache: bool = True,
        cache_folder: Path | str | None = None,
        cache_gigabytes: float = 20.0,
    ) -> None:
        check_choices(protocol=(protocol, (*PROTOCOLS, TABLE)), masks=(masks, MASKS), on_error=(on_error, ON_ERROR))
        check_least(
            train_batch_size=(train_batch_size, 1),
            eval_batch_size=(eval_batch_size, 1),
            num_workers=(num_workers, 0),
            seed=(seed, 0),
            cache_gigabytes=(cache_gigabytes, 0),
        )
        if (protocol == TABLE) != (split_table is not None):
            wanted = "a CSV file with protocol: table, null without"
            refuse_settings({"split_table": split_table}, {"split_table": wanted}, PLACE)
        if (masks == "predict") != (segmenter is not None):
            wanted = "a file of `anomalib-cxr segment train` with masks: predict, null without"
            refuse_settings({"segmenter": segmenter}, {"segmenter": wanted}, PLACE)
        super().__init__(
            train_batch_size=train_batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            train_augmentations=train_augmentations,
            val_augmentations=val_augmentations,
            test_augmentations=test_augmentations,
            augmentations=augmentations,
            # The protocol has drawn all three sets: anomalib is to leave them as they are.
            val_split_mode="from_dir",
            test_split_mode="from_dir",
            seed=seed,
        )
        self.root = Path(root)
        self.sources = sources
        self.protocol = protocol
        self.masks = masks
        self.on_error = on_error
        self.split_table = split_table
        self.segmenter = segmenter
        self.predicted_masks = self.root / FOLDER if predicted_masks is None else Path(predicted_masks)
        self.cache = cache
        self.cache_folder = None if cache_folder is None else Path(cache_folder)
        self.cache_gigabytes = cache_gigabytes

    @property
    def needs_masks(self) -> bool:
        """Whether only images with a lung mask train."""
        return self.masks != "optional"

    def prepare_data(self) -> None:
        """Predict the lung masks that are missing, where that is asked for."""
        if self.segmenter is None:
            return
        # Imported here: segmentation reads X-rays by this package's data, not the other way round.
        from anomalib_cxr.segmentation.prediction import predict_masks  # noqa: PLC0415

        samples = self.list_samples()
        without = samples[samples.roi_mask_paths.map(len) == 0]
        prediction = predict_masks(list(without.image_path), self.predicted_masks, self.segmenter)
        logger.info("%d lung masks predicted into %s", prediction.written, self.predicted_masks)
        for reason, images in prediction.offenders.items():
            logger.warning("No lung mask for %d images: %s; such as %s", len(images), reason, images[0])

    def list_samples(self) -> pd.DataFrame:
        """Return the samples table, with predicted masks, neither verified nor split."""
        return self._of_sources(make_samples(self.root, self.predicted_masks))

    def make_samples(self) -> pd.DataFrame:
        """Return the samples table, verified and split; see :func:`anomalib_cxr.data.sources.samples.make_samples`.

        Raises:
            DatasetError: If the folder or its files cannot be used, or do not suffice for the protocol.
        """
        samples = self.list_samples()
        self._check_normal(samples)
        if self.protocol == TABLE:
            return self._split_by_table(samples)
        samples = self.verify(samples)
        return assign_splits(samples, self.protocol, self.seed, require_masks=self.needs_masks)

    def _split_by_table(self, samples: pd.DataFrame) -> pd.DataFrame:
        """Split by the table, before files that cannot be used are left out: these are not missing."""
        table = Path(str(self.split_table))
        placed = assign_by_table(samples, table, self.seed, require_masks=self.needs_masks, sources=self.sources)
        usable = self.verify(placed)
        check_filled(usable, table, self.seed)
        return usable

    def verify(self, samples: pd.DataFrame, read_size: ReadSize = decoded_size) -> pd.DataFrame:
        """Look whether all files of a table can be used, and decode them into the cache if there is one.

        Args:
            samples: The table.
            read_size: Function that checks an image and returns its height and width, used where there is no cache.

        Raises:
            DatasetError: If some cannot, and these are not to be skipped; or if the cache cannot be written.
        """
        cache = self._open_cache()
        if cache is None:
            return verify_samples(samples, self.on_error, read_size)
        problems = cache.fill(list(sample_paths(samples)))
        logger.info("Cache of %d decoded images: %s", len(samples), cache.directory)
        return drop_unusable(samples, problems, self.on_error)

    def _open_cache(self) -> ImageCache | None:
        """Return the cache at the size of the model that is to be trained, or None where there is none to be."""
        transform = get_nested_attr(self, "trainer.model.pre_processor.transform", None)
        resizes = extract_transforms_by_type(transform, Resize)
        if not self.cache or not resizes or len(resizes[0].size) != 2:  # noqa: PLR2004  # else the sizes differ
            return None
        return ImageCache(self.root, resizes[0], self.cache_folder, self.cache_gigabytes)

    def setup(self, stage: str | None = None) -> None:
        """Make the data sets, and let them read from the cache."""
        super().setup(stage)
        cache = self._open_cache()
        subsets = (self.train_data, self.val_data, self.test_data)
        if cache is not None:  # filled by the verification, but for a data module whose model has changed since
            cache.fill(list(dict.fromkeys(files for subset in subsets for files in sample_paths(subset.samples))))
        for subset in subsets:
            subset.cache = cache

    def _of_sources(self, samples: pd.DataFrame) -> pd.DataFrame:
        """Keep the X-rays of the chosen hospitals, of which one at least must be there."""
        if self.sources is None:
            return samples
        chosen: pd.DataFrame = samples[samples.source.isin(self.sources)]
        if chosen.empty:
            counts = samples.source.value_counts(sort=False)
            raise DatasetError(
                f"{self.root} with X-rays of {', '.join(f'{name} ({count})' for name, count in counts.items())} only",
                f"X-rays of {' or '.join(self.sources)}",
                "choose another source, or complete the data",
            )
        return chosen

    def _check_normal(self, samples: pd.DataFrame) -> None:
        """Refuse a set without anything to learn from, before its files are read one by one."""
        normal = samples[samples.label_index == 0]
        if normal.empty:
            raise DatasetError(
                f"{len(samples)} X-rays in {self.root}, none of them normal",
                "normal images to learn from (a name that ends in _0)",
                "choose another source, or complete the data",
            )
        with_mask = normal.roi_mask_paths.map(len).groupby(normal.source).any()
        without = ", ".join(map(str, with_mask.index[~with_mask]))
        if self.needs_masks and without:
            raise DatasetError(
                f"{int(normal.source.isin(with_mask.index[~with_mask]).sum())} normal X-rays of {without} in "
                f"{self.root}, none of them with a lung mask",
                f"lung masks for the images that train (masks: {self.masks})",
                "for Shenzhen, fetch yoctoman/shcxr-lung-mask from Kaggle (it needs an account) and unpack its folder "
                "mask/ into the root; or have them predicted (data.init_args.masks: predict, and segmenter); or choose "
                "another source; or set data.init_args.masks to optional and model.init_args.target to image",
            )

    def _setup(self, _stage: str | None = None) -> None:
        samples = self.make_samples()
        told = describe_splits(samples)
        logger.info("%s, protocol %r, seed %d:\n%s", self.name, self.protocol, self.seed, told)
        subsets = {split: samples[samples.split == split] for split in ("train", "val", "test")}
        self.train_data = RoiDataset(subsets["train"])
        self.val_data = RoiDataset(subsets["val"])
        self.test_data = copy.deepcopy(self.val_data) if subsets["test"].empty else RoiDataset(subsets["test"])
