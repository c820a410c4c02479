"""LungAtlas as a model of anomalib: one epoch to see all healthy lungs, then the fitting of all parts.

Source: trials on the Montgomery and Shenzhen images; docs/benchmarks/detection.md.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.visualization import Visualizer

from anomalib_cxr.errors import DatasetError, SettingError
from anomalib_cxr.models.base.exposure import LEAST_IMAGES
from anomalib_cxr.models.base.module import RadiographModule, resolve_pre_processor
from anomalib_cxr.models.base.pre_processor import RoiPreProcessor
from anomalib_cxr.models.base.reproducible import drawn_from, seed_or_state
from anomalib_cxr.models.base.segmenter import LungsFirst

from .fitting import fit_atlas
from .settings import ARCHITECTURE, check_settings
from .torch_model import LungAtlasModel
from .views import View, join_views, keep_images

logger = logging.getLogger(__name__)

SIDES = ("the one on the image's left", "the one on the image's right")


class LungAtlas(LungsFirst, RadiographModule, AnomalibModule):  # type: ignore[misc]  # as anomalib's own mix
    """An atlas of healthy lungs, and nets that have learned to find lesions painted into them.

    A segmenter finds the lungs; each is warped, row by row, into one frame. There, what differs from healthy lungs is
    measured in several ways: gray values and textures outside the subspace of healthy ones, patches far from the
    healthy patches of their place, and small networks that have learned to find synthetic lesions. Each is taken
    relative to what healthy images of such an exposure score. Trained in one epoch on healthy images only; no mask is
    needed to score. For research, not a medical device.

    Args:
        image_size: Side of the square that the X-ray is resized to before the lungs are found: 128, 256 or 512.
        segmenter: Path of a segmenter of `anomalib-cxr segment train`; None trains one on the lung masks of the
            training images before the first epoch. A checkpoint keeps it.
        segmenter_size: Side of the square at which a segmenter that is trained here works.
        segmenter_steps: Batches that it is trained on.
        n_folds: Folds of the healthy images: no image is compared with what was learned from its own fold. Also the
            number of lesion nets, each trained without one fold.
        n_components: Dimensions of the subspaces of healthy gray values.
        n_textures: Dimensions of the subspace of healthy textures.
        n_dims: Dimensions of a patch's description.
        n_bank: Healthy patches that are kept for each place.
        lesion_steps: Batches that each lesion net learns from.
        max_images: Healthy images that are learned from at most; of more, a random sample.
        seed: Seed of folds, samples, networks and lesions; None for the state of torch's own random numbers.
        pre_processor: True for :class:`RoiPreProcessor`; False where images arrive in [-1, 1] at `image_size`.
        post_processor: As in anomalib; True normalizes by the validation set's minimum and maximum, and thresholds by
            F1.
        evaluator: As in anomalib; True for image AUROC on validation and for image and pixel AUROC and F1 on test.
        visualizer: As in anomalib.

    Raises:
        SettingError: If a setting is out of range.

    Example:
        >>> model = LungAtlas(n_folds=2, n_bank=8)
        >>> model.eval()(torch.rand(1, 3, 100, 80)).pred_score.shape
        torch.Size([1])
    """

    architecture = ARCHITECTURE
    model: LungAtlasModel

    def __init__(
        self,
        image_size: int = 128,
        segmenter: str | None = None,
        segmenter_size: int = 64,
        segmenter_steps: int = 400,
        n_folds: int = 4,
        n_components: int = 400,
        n_textures: int = 200,
        n_dims: int = 24,
        n_bank: int = 1024,
        lesion_steps: int = 400,
        max_images: int = 1000,
        seed: int | None = None,
        pre_processor: RoiPreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        check_settings(locals())
        super().__init__(
            pre_processor=resolve_pre_processor(pre_processor, image_size),
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self.segmenter = segmenter
        self.segmenter_steps = segmenter_steps
        self.lesion_steps = lesion_steps
        self.max_images = max_images
        self.seed = seed
        self._rng_states_to_resume = {}
        self._views: list[View] = []
        with drawn_from(seed):
            self.model = LungAtlasModel(image_size, segmenter_size, n_folds, n_components, n_textures, n_dims, n_bank)

    def configure_optimizers(self) -> None:
        """Return no optimizer: the parts are fitted, and the lesion nets have their own."""

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Return what the trainer must be given: one epoch, on one device."""
        return {**super().trainer_arguments, "max_epochs": 1, "devices": 1}

    def training_step(self, batch: ImageBatch, batch_idx: int) -> torch.Tensor:
        """Keep what the atlas is to learn from; the loss is none, and only lets Lightning count and save."""
        del batch_idx
        with torch.no_grad():
            self._views.append(self.model.see(cast("torch.Tensor", batch.image)))
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
        """Fit the atlas to what was seen in this epoch, if that has not been done."""
        if not self._views:
            return
        seed = seed_or_state(self.seed)
        view = keep_images(join_views(self._views), self.max_images, seed)
        self._views = []
        self._check(view)
        with torch.enable_grad(), torch.inference_mode(mode=False):
            fit_atlas(self.model, view, self.lesion_steps, seed)

    def _check(self, view: View) -> None:
        """Refuse too few images, and lungs that the segmenter does not find."""
        count, found = len(view.lungs), int(view.found.all(dim=1).sum())
        if count < LEAST_IMAGES:
            raise DatasetError(
                f"{count} healthy training images",
                f"at least {LEAST_IMAGES}, so that what is usual can be told",
                "add healthy images; in data.init_args, masks: predict lets those without a lung mask train, too",
            )
        if found < count / 2:
            raise DatasetError(
                f"both lungs in {found} of {count} healthy training images, as the segmenter finds them",
                "two lungs in nearly all of them",
                "look at the masks that it predicts (`anomalib-cxr segment predict`), train it longer "
                "(segmenter_steps), or give another one (segmenter)",
            )
        if found < count:
            logger.warning(
                "In %d of %d healthy training images a lung was not found; its usual place stands in.",
                count - found,
                count,
            )

    def check_exportable(self) -> None:
        """Refuse to export an atlas that has not been fitted."""
        super().check_exportable()
        self._check_fitted()

    def _check_fitted(self) -> None:
        if not self.model.calibration.fitted:
            raise SettingError(
                "a LungAtlas that has not seen healthy lungs",
                "one that was trained",
                "train it (`anomalib train`), or give its checkpoint by --ckpt_path",
            )

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> Any:
        """Score a batch, and tell in which images a lung was not found."""
        del batch_idx
        self._check_fitted()
        images = cast("torch.Tensor", batch.image)
        view = self.model.see(images)
        for number, found in enumerate(view.found.tolist()):
            if not all(found):
                missing = [side for side, is_found in zip(SIDES, found, strict=True) if not is_found]
                path = batch.image_path[number] if batch.image_path else f"image {number} of the batch"
                logger.warning("%s: lung not found: %s; its usual place was scored", path, ", ".join(missing))
        return batch.update(**self.model.judge(view, images.shape[-2:])._asdict())

    def test_step(self, batch: Any, batch_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Score a batch as in validation; anomalib's own step would not tell of lungs that are not found."""
        del args, kwargs
        return self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        """Score a batch as in validation."""
        del dataloader_idx
        return self.validation_step(batch, batch_idx)
