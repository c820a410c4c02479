"""Base class of the data modules: arguments, augmentations, and the three data sets."""

from __future__ import annotations

import copy
import logging
from itertools import chain
from pathlib import Path
from typing import Literal

import pandas as pd
from anomalib.data import AnomalibDataModule, ImageItem
from anomalib.data.transforms.utils import extract_transforms_by_type
from anomalib.utils.attrs import get_nested_attr
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Resize, Transform

from anomalib_cxr.data.datasets.dataset import RoiDataset
from anomalib_cxr.data.datasets.image_cache import ImageCache
from anomalib_cxr.data.datasets.verification import (
    ReadSize,
    decoded_size,
    drop_unusable,
    sample_paths,
    verify_samples,
)
from anomalib_cxr.data.reading.verification import OnError
from anomalib_cxr.data.sources.mask_folder import DEFAULT_FOLDER
from anomalib_cxr.data.sources.samples import check_normal_images, make_samples, select_sources
from anomalib_cxr.data.sources.split_table import assign_by_table, check_filled
from anomalib_cxr.data.sources.splits import HOSPITAL, Protocol, assign_splits, describe_splits, leave_hospital_out
from anomalib_cxr.errors import CxrError, DatasetError, SettingError
from anomalib_cxr.utils.results_folder import remove_unused_results
from anomalib_cxr.utils.settings import NonNegativeFloat, NonNegativeInt, PositiveInt, SixteenBitWhite, check_settings

logger = logging.getLogger(__name__)

Masks = Literal["required", "optional", "predict"]
TABLE: Literal["table"] = "table"
"""Name of the protocol with splits from a table."""
PLACE = "data.init_args"
"""Place of the settings in a configuration."""


class RoiDataModule(AnomalibDataModule):
    """X-rays with lung masks from one folder, split by a protocol.

    Args:
        root: Folder with the data, in a layout of :mod:`anomalib_cxr.data.sources.layouts`.
        sources: Hospitals to use; None for all.
        protocol: `holdout` (train, validation and test disjoint), `dissertation` (validation is the test set),
            `hospital` (test on the hospital `test_source`, train and validate on the others), or `table` (splits from
            `split_table`).
        masks: `required`: train on images with a lung mask only, as target `lungs` needs it; `optional`: train on all
            normal images; `predict`: as `required`, after a segmenter has predicted the missing masks.
        on_error: Action on files that cannot be used: `raise` an error that names all of them, or `skip` them.
        train_batch_size: Images in a training batch.
        drop_last: Leave out the last batch of an epoch where it is smaller, other images in each epoch.
        eval_batch_size: Images in a validation or test batch.
        num_workers: Processes of a data loader.
        train_augmentations: Augmentations of training images together with their masks.
        val_augmentations: The same for validation.
        test_augmentations: The same for test.
        augmentations: Augmentations of the stages without their own.
        seed: Seed of the splits, or column of `split_table`.
        split_table: CSV file for protocol `table`, see
            :func:`anomalib_cxr.data.sources.split_table.read_split_table`.
        test_source: Hospital to test on, with protocol `hospital` only.
        n_train: Normal X-rays of each other hospital that train, drawn by the seed, with protocol `hospital` only; None
            for all that do not validate.
        segmenter: File of the lung segmenter, with masks `predict` only; None for that of the package.
        predicted_masks: Folder of predicted masks; None for `predicted_masks` in the root. Its masks are used for
            images without a true mask, whatever `masks` is.
        sixteen_bit_white: White of 16-bit PNG and TIFF files, such as 4095 for the 12 bits of a detector. None is
            65535, and refuses files without any value above half of that, since they may hold fewer bits. The model
            remembers it.
        cache: Decode each image once instead of each epoch, and keep images and masks at the model's size in
            `cache_folder`. Augmentations before the model's resizing need the original, which is then read from its
            file; let them begin with the model's own `Resize` to use the cache.
        cache_folder: Folder of the caches; None for the user's cache folder. It will hold images of patients.
        cache_gigabytes: Bound on all caches in that folder; the least recently used are deleted first.

    Raises:
        SettingError: If a setting is outside its range, `split_table` or `test_source` is missing or unused, or
            `n_train` or `segmenter` is unused.

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

    seed: int  # never None, unlike in anomalib's class
    train_data: RoiDataset
    val_data: RoiDataset
    test_data: RoiDataset

    def __init__(
        self,
        root: Path | str,
        sources: tuple[str, ...] | None = None,
        protocol: Literal[Protocol, "hospital", "table"] = "holdout",
        masks: Masks = "required",
        on_error: OnError = "raise",
        train_batch_size: PositiveInt = 32,
        eval_batch_size: PositiveInt = 32,
        num_workers: NonNegativeInt = 0,
        train_augmentations: Transform | None = None,
        val_augmentations: Transform | None = None,
        test_augmentations: Transform | None = None,
        augmentations: Transform | None = None,
        seed: NonNegativeInt = 0,
        split_table: Path | str | None = None,
        test_source: str | None = None,
        segmenter: Path | str | None = None,
        predicted_masks: Path | str | None = None,
        sixteen_bit_white: SixteenBitWhite | None = None,
        cache: bool = True,
        cache_folder: Path | str | None = None,
        cache_gigabytes: NonNegativeFloat = 20.0,
        drop_last: bool = False,
        n_train: PositiveInt | None = None,
    ) -> None:
        conflicts: dict[str, tuple[object, str]] = {}
        if (protocol == TABLE) != (split_table is not None):
            conflicts["split_table"] = split_table, "a CSV file with protocol: table, null without"
        if (protocol == HOSPITAL) != (test_source is not None):
            conflicts["test_source"] = test_source, "a hospital with protocol: hospital, null without"
        if protocol != HOSPITAL and n_train is not None:
            conflicts["n_train"] = n_train, "a number or null with protocol: hospital, null without"
        if segmenter is not None and masks != "predict":
            expected = "a file of `anomalib-cxr segment train` or null with masks: predict, null without"
            conflicts["segmenter"] = segmenter, expected
        check_settings(RoiDataModule.__init__, locals(), PLACE, conflicts)
        super().__init__(
            train_batch_size=train_batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            train_augmentations=train_augmentations,
            val_augmentations=val_augmentations,
            test_augmentations=test_augmentations,
            augmentations=augmentations,
            # The protocol determines all three sets: anomalib must not split them again.
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
        self.test_source = test_source
        self.n_train = n_train
        self.segmenter = segmenter
        self.predicted_masks = self.root / DEFAULT_FOLDER if predicted_masks is None else Path(predicted_masks)
        self.sixteen_bit_white = sixteen_bit_white
        self.drop_last = drop_last
        self.cache = cache
        self.cache_folder = None if cache_folder is None else Path(cache_folder)
        self.cache_gigabytes = cache_gigabytes

    @property
    def mask_root(self) -> Path | None:
        """Return the folder by which predicted masks are named, for sets with X-rays of the same name; else None."""
        return None

    @property
    def needs_masks(self) -> bool:
        """True if training uses only images with a lung mask."""
        return self.masks != "optional"

    def prepare_data(self) -> None:
        """Predict the missing lung masks if `masks` is `predict`."""
        if self.masks != "predict":
            return
        # Imported here: segmentation depends on data, so that an import above would be circular.
        from anomalib_cxr.segmentation.prediction import predict_masks  # noqa: PLC0415

        samples = self.list_samples()
        without = samples[samples.roi_mask_paths.map(len) == 0]
        images, white = list(without.image_path), self.sixteen_bit_white
        prediction = predict_masks(images, self.predicted_masks, self.segmenter, white, self.mask_root)
        logger.info("%d lung masks predicted into %s", prediction.written, self.predicted_masks)
        for reason, images in prediction.offenders.items():
            logger.warning("No lung mask for %d images: %s; such as %s", len(images), reason, images[0])

    def list_samples(self) -> pd.DataFrame:
        """Return the samples table with predicted masks.

        Returns:
            The X-rays of the chosen hospitals, neither verified nor split.
        """
        return select_sources(make_samples(self.root, self.predicted_masks), self.sources, self.root)

    def make_samples(self) -> pd.DataFrame:
        """Return the samples table, verified and split.

        Returns:
            The columns of :func:`anomalib_cxr.data.sources.samples.make_samples`.

        Raises:
            DatasetError: If the folder or its files cannot be used, or do not suffice for the protocol.
        """
        samples = self.list_samples()
        check_normal_images(samples, self.root, require_masks=self.needs_masks)
        if self.protocol == TABLE:
            return self._split_by_table(samples)
        samples = self.verify(samples)
        if self.protocol == HOSPITAL:
            return leave_hospital_out(
                samples, str(self.test_source), self.seed, require_masks=self.needs_masks, n_train=self.n_train
            )
        return assign_splits(samples, self.protocol, self.seed, require_masks=self.needs_masks)

    def _split_by_table(self, samples: pd.DataFrame) -> pd.DataFrame:
        """Split by the table, and then skip unusable files: the table may name them."""
        table = Path(str(self.split_table))
        split = assign_by_table(samples, table, self.seed, require_masks=self.needs_masks, sources=self.sources)
        usable = self.verify(split)
        check_filled(usable, table, self.seed)
        return usable

    def verify(self, samples: pd.DataFrame, read_size: ReadSize = decoded_size) -> pd.DataFrame:
        """Check that all files of a table can be used, and decode them into the cache if there is one.

        Args:
            samples: The table.
            read_size: Function that checks an image and returns its height and width, used without a cache.

        Returns:
            The rows whose files can be used.

        Raises:
            DatasetError: If files cannot be used and `on_error` is `raise`, or if the cache cannot be written.
        """
        cache = self._open_cache()
        if cache is None:
            return verify_samples(samples, self.on_error, read_size, self.sixteen_bit_white)
        problems = cache.fill(list(sample_paths(samples, self.sixteen_bit_white)))
        logger.info("Cache of %d decoded images: %s", len(samples), cache.directory)
        return drop_unusable(samples, problems, self.on_error)

    def with_needed_masks(self, samples: pd.DataFrame) -> pd.DataFrame:
        """Leave out training X-rays without a lung mask if masks are needed: some lungs cannot be segmented.

        Args:
            samples: A samples table, split.

        Returns:
            The other X-rays; a warning gives the number of those left out.

        Raises:
            DatasetError: If no training X-ray has a lung mask.
        """
        training = samples.split == "train"
        without = training & (samples.roi_mask_paths.map(len) == 0)
        if not self.needs_masks or not without.any():
            return samples
        if without.sum() == training.sum():
            raise DatasetError(
                f"{training.sum()} X-rays of {self.root} to train on, none of them with a lung mask",
                f"lung masks for the images that train (masks: {self.masks})",
                "have them predicted (data.init_args.masks: predict); or set data.init_args.masks to optional, and "
                "where a model has a target, model.init_args.target to image",
            )
        logger.warning("Left out: %d of %d training X-rays, without a lung mask", without.sum(), training.sum())
        masked: pd.DataFrame = samples[~without]
        return masked

    def _open_cache(self) -> ImageCache | None:
        """Return the cache at the size of the trainer's model; None without a cache or a fixed size."""
        transform = get_nested_attr(self, "trainer.model.pre_processor.transform", None)
        resizes = extract_transforms_by_type(transform, Resize)
        if not self.cache or not resizes or len(resizes[0].size) != 2:  # noqa: PLR2004  # else the sizes differ
            return None
        return ImageCache(self.root, resizes[0], self.cache_folder, self.cache_gigabytes)

    def setup(self, stage: str | None = None) -> None:
        """Create the data sets, and let them read from the cache.

        Args:
            stage: Stage of the trainer.
        """
        super().setup(stage)
        cache = self._open_cache()
        subsets = (self.train_data, self.val_data, self.test_data)
        if cache is not None:  # filled by the verification, but for a data module whose model has changed since
            tables = (sample_paths(subset.samples, self.sixteen_bit_white) for subset in subsets)
            cache.fill(list(dict.fromkeys(chain.from_iterable(tables))))
        for subset in subsets:
            subset.cache = cache

    def train_dataloader(self) -> DataLoader[ImageItem]:
        """Return the loader of training images, in random order.

        Returns:
            The loader.

        Raises:
            SettingError: If `drop_last` would leave no batch.
        """
        if self.drop_last and len(self.train_data) < self.train_batch_size:
            raise SettingError(
                f"drop_last with {len(self.train_data)} training images and train_batch_size = {self.train_batch_size}",
                "at least one whole batch",
                "lower data.init_args.train_batch_size, or set data.init_args.drop_last: false",
            )
        loader: DataLoader[ImageItem] = DataLoader(
            self.train_data,
            self.train_batch_size,
            shuffle=True,
            num_workers=self.num_workers,
            collate_fn=self.external_collate_fn or self.train_data.collate_fn,
            drop_last=self.drop_last,
        )
        return loader

    def on_exception(self, exception: BaseException) -> None:
        """Leave no results folder of a training that was refused before it began.

        Args:
            exception: What ended the trainer.
        """
        super().on_exception(exception)
        if isinstance(exception, CxrError) and self.trainer is not None:
            remove_unused_results(self.trainer)

    def describe(self, samples: pd.DataFrame) -> str:
        """Describe the splits for the log.

        Args:
            samples: The table of :meth:`make_samples`.

        Returns:
            A line for each hospital.
        """
        return describe_splits(samples)

    def _setup(self, _stage: str | None = None) -> None:
        samples = self.make_samples()
        logger.info("%s, protocol %r, seed %d:\n%s", self.name, self.protocol, self.seed, self.describe(samples))
        subsets = {split: samples[samples.split == split] for split in ("train", "val", "test")}
        datasets = {
            split: RoiDataset(table, sixteen_bit_white=self.sixteen_bit_white) for split, table in subsets.items()
        }
        self.train_data, self.val_data = datasets["train"], datasets["val"]
        self.test_data = copy.deepcopy(self.val_data) if subsets["test"].empty else datasets["test"]
