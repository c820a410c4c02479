"""LungAtlas as a model of anomalib: one epoch that collects all healthy lungs, then the fitting of all parts.

Source: trials on the Montgomery and Shenzhen images; docs/benchmarks/detection.md.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal, cast

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.post_processing import PostProcessor
from anomalib.visualization import Visualizer

from anomalib_cxr.errors import DatasetError, SettingError
from anomalib_cxr.models.base.exposure import LEAST_IMAGES
from anomalib_cxr.models.base.module import RadiographModule
from anomalib_cxr.models.base.post_processor import FixedMapPostProcessor
from anomalib_cxr.models.base.pre_processor import RoiPreProcessor, resolve_pre_processor
from anomalib_cxr.models.base.reproducible import seed_or_state, seeded
from anomalib_cxr.models.base.segmenter import prepare_segmenter
from anomalib_cxr.models.base.settings import PLACE
from anomalib_cxr.utils.settings import PositiveInt, at_least, between, check_settings

from .fitting import fit_atlas
from .neighbors import N_NEAREST, PATCH
from .torch_model import LungAtlasModel, LungViews

logger = logging.getLogger(__name__)


AtLeastTwo = Annotated[int, at_least(2)]
PatchDims = Annotated[int, between(1, PATCH**2)]
SIDES = ("the one on the image's left", "the one on the image's right")


class LungAtlas(RadiographModule):
    """Aligns both lungs to a common frame and scores their deviation from healthy lungs.

    A segmenter finds the lungs; each is warped, row by row, into one frame. There, several parts measure the deviation
    from healthy lungs: PCA reconstruction errors of gray values and textures, distances of patches from the nearest
    healthy patches of their place, and spots that stand out. Their scores are adjusted for the exposure of the X-ray
    and combined. Trained in one epoch on healthy images only; no mask is needed. For research, not a medical device.

    Args:
        image_size: Side of the square that the X-ray is resized to before the lungs are found: 128, 256 or 512.
        segmenter: Path of a segmenter of `anomalib-cxr segment train`; None for that of the package. A checkpoint keeps
            it.
        n_folds: Folds of the healthy images, for cross-fitted scores.
        n_components: Dimensions of the subspaces of healthy gray values.
        n_textures: Dimensions of the subspace of healthy textures.
        n_dims: Principal components of a patch.
        n_bank: Healthy patches that are kept for each place.
        max_images: Healthy images that it is fitted to at most; of more, a random sample.
        seed: Seed of folds and samples; None for the state of torch's own random numbers.
        pre_processor: True for :class:`RoiPreProcessor`; False where images arrive in [-1, 1] at `image_size`.
        post_processor: As in anomalib; True normalizes scores by the validation set's minimum and maximum, and
            thresholds them by F1; maps have a fixed scale.
        evaluator: As in anomalib; True for image AUROC on validation and for image and pixel AUROC and F1 on test.
        visualizer: As in anomalib.

    Raises:
        SettingError: If a setting is out of range.

    Example:
        >>> model = LungAtlas(n_bank=8)
        >>> model.eval()(torch.rand(1, 3, 100, 80)).pred_score.shape
        torch.Size([1])
    """

    architecture = ("image_size", "n_components", "n_textures", "n_dims", "n_bank")
    model: LungAtlasModel

    def __init__(
        self,
        image_size: Literal[128, 256, 512] = 128,
        segmenter: str | None = None,
        n_folds: AtLeastTwo = 4,
        n_components: PositiveInt = 400,
        n_textures: PositiveInt = 200,
        n_dims: PatchDims = 24,
        n_bank: Annotated[int, at_least(N_NEAREST)] = 1024,
        max_images: Annotated[int, at_least(LEAST_IMAGES)] = 1000,
        seed: int | None = None,
        pre_processor: RoiPreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        check_settings(LungAtlas.__init__, locals(), PLACE)
        super().__init__(seed, resolve_pre_processor(pre_processor, image_size), post_processor, evaluator, visualizer)
        self.segmenter = segmenter
        self.n_folds = n_folds
        self.max_images = max_images
        self._views: list[LungViews] = []
        with seeded(seed):
            self.model = LungAtlasModel(image_size, n_components, n_textures, n_dims, n_bank)

    def configure_post_processor(self) -> PostProcessor:
        """Return a post-processor that leaves the maps on their fixed scale."""
        return FixedMapPostProcessor()

    def configure_optimizers(self) -> None:
        """Return no optimizer: the parts are fitted."""

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Return what the trainer must be given: one epoch, on one device."""
        return {**super().trainer_arguments, "max_epochs": 1, "devices": 1}

    def on_fit_start(self) -> None:
        """Seed the training, and get the segmenter ready."""
        super().on_fit_start()
        prepare_segmenter(self, self.model.segmenter, self.segmenter)

    def training_step(self, batch: ImageBatch, batch_idx: int) -> torch.Tensor:
        """Collect the views of a batch; the loss is 0, and only lets Lightning count and save."""
        del batch_idx
        with torch.no_grad():
            self._views.append(self.model.preprocess(cast("torch.Tensor", batch.image)))
        return torch.zeros((), device=self.device, requires_grad=True)

    def on_validation_start(self) -> None:
        """Fit the atlas before it is validated."""
        super().on_validation_start()
        self._fit()

    def on_train_epoch_end(self) -> None:
        """Fit the atlas where there is no validation."""
        self._fit()
        super().on_train_epoch_end()

    def _fit(self) -> None:
        """Fit the atlas to the views of this epoch, if that has not been done."""
        if not self._views:
            return
        seed = seed_or_state(self.seed)
        views = LungViews.concatenate(self._views).sample(self.max_images, seed)
        self._views = []
        self._check(views)
        with torch.no_grad(), torch.inference_mode(mode=False):
            fit_atlas(self.model, views, self.n_folds, seed)

    def _check(self, views: LungViews) -> None:
        """Refuse too few images, and lungs that the segmenter does not find."""
        count, found = len(views.lungs), int(views.found.all(dim=1).sum())
        if count < LEAST_IMAGES:
            raise DatasetError(
                f"{count} healthy training images",
                f"at least {LEAST_IMAGES}, for the statistics of healthy scores",
                "add healthy images; in data.init_args, masks: predict lets those without a lung mask train, too",
            )
        if found < count / 2:
            raise DatasetError(
                f"both lungs in {found} of {count} healthy training images, as the segmenter finds them",
                "two lungs in nearly all of them",
                "look at the masks that it predicts (`anomalib-cxr segment predict`), or give another one (segmenter)",
            )
        if found < count:
            logger.warning(
                "In %d of %d healthy training images a lung was not found; its standard position is used.",
                count - found,
                count,
            )

    def check_exportable(self) -> None:
        """Refuse to export an atlas that has not been fitted."""
        self._check_fitted()

    def _check_fitted(self) -> None:
        if not self.model.exposure_adjustment.fitted:
            raise SettingError(
                "a LungAtlas that was not fitted to healthy lungs",
                "one that was trained",
                "train it (`anomalib train`), or give its checkpoint by --ckpt_path",
            )

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> Any:
        """Score a batch, and warn of images in which a lung was not found."""
        del batch_idx
        self._check_fitted()
        images = cast("torch.Tensor", batch.image)
        views = self.model.preprocess(images)
        for number, found in enumerate(views.found.tolist()):
            if not all(found):
                missing = [side for side, is_found in zip(SIDES, found, strict=True) if not is_found]
                path = batch.image_path[number] if batch.image_path else f"image {number} of the batch"
                logger.warning("%s: lung not found: %s; its standard position was scored", path, ", ".join(missing))
        return batch.update(**self.model.score(views, images.shape[-2:])._asdict())

    def test_step(self, batch: Any, batch_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Score a batch as in validation; anomalib's own step would not warn of lungs that are not found."""
        del args, kwargs
        return self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        """Score a batch as in validation."""
        del dataloader_idx
        return self.validation_step(batch, batch_idx)
