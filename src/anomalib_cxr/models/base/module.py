"""What surrounds the networks of each model here: pre- and post-processing, metrics, pictures, guards and exports."""

from __future__ import annotations

import logging
from typing import Any

import torch
from anomalib import LearningType
from anomalib.data import ImageBatch
from anomalib.metrics import AUROC, Evaluator, F1Score
from anomalib.post_processing import PostProcessor
from torch import nn

from anomalib_cxr.deploy.export import WholeExport
from anomalib_cxr.errors import SettingError

from .guarded import GuardedTraining
from .pre_processor import RoiPreProcessor
from .reproducible import ReproducibleTraining
from .visualizer import RadiographVisualizer

logger = logging.getLogger(__name__)


def to_gray(images: torch.Tensor) -> torch.Tensor:
    """Return the one gray channel behind the three that anomalib carries.

    Args:
        images: X-rays, their channels alike, `(B, C, H, W)`.

    Returns:
        The gray channel, `(B, 1, H, W)`.

    Example:
        >>> to_gray(torch.ones(2, 3, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """
    return images.mean(dim=1, keepdim=True)


def resolve_pre_processor(given: nn.Module | bool, image_size: int) -> nn.Module | bool:
    """Return the pre-processor of a model, or refuse one of another size, or one that leaves the lung masks behind.

    Args:
        given: What the model was given: True for :class:`RoiPreProcessor`, False for none.
        image_size: Side of the square that the network sees.

    Raises:
        SettingError: If it does not prepare images as the model needs them.
    """
    if given is True:
        return RoiPreProcessor(image_size)
    if given is False or (isinstance(given, RoiPreProcessor) and given.image_size == image_size):
        return given
    size = f" of image_size {given.image_size}" if isinstance(given, RoiPreProcessor) else ""
    raise SettingError(
        f"pre_processor {type(given).__name__}{size}",
        f"RoiPreProcessor of image_size {image_size}, which takes the lung masks along",
        "leave pre_processor out, and choose the size by image_size",
    )


class RadiographModule(WholeExport, GuardedTraining, ReproducibleTraining):  # type: ignore[misc]  # as anomalib's own mix
    """What each model has beside its networks and its training; to be mixed into a subclass of `AnomalibModule`.

    It is none itself, because anomalib finds models by name only among the direct subclasses.
    """

    model: nn.Module

    @property
    def first_scoring_epoch(self) -> int:
        """Return the first epoch whose scores mean something; no earlier one is to be chosen by validation."""
        return 0

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> Any:
        """Score a validation batch."""
        del batch_idx
        return batch.update(**self.model(batch.image)._asdict())

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Tell each image's probability, which anomalib's command leaves out of its pictures."""
        del batch, batch_idx, dataloader_idx
        for path, probability in zip(outputs.image_path or (), outputs.pred_score, strict=False):
            logger.info("%s: anomaly probability %.4f", path, probability)

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Return what the trainer must be given: no clipping, as manual optimization demands, and no sanity check."""
        return {"gradient_clip_val": 0, "num_sanity_val_steps": 0}

    @property
    def learning_type(self) -> LearningType:
        """Return that it learns from normal images only."""
        return LearningType.ONE_CLASS

    def configure_post_processor(self) -> PostProcessor:
        """Return anomalib's post-processor, which never takes the image's threshold for pixels.

        Image scores and map are of different scales: one threshold for both would black out each map.
        """
        return PostProcessor(enable_threshold_matching=False)

    @classmethod
    def configure_visualizer(cls) -> RadiographVisualizer:
        """Return pictures that show 16-bit PNG and DICOM too."""
        return RadiographVisualizer()

    @staticmethod
    def configure_evaluator() -> Evaluator:
        """Return image AUROC on validation, and image and pixel AUROC and F1 on test."""
        return Evaluator(
            val_metrics=[AUROC(fields=["pred_score", "gt_label"], prefix="val_image_")],
            test_metrics=[
                AUROC(fields=["pred_score", "gt_label"], prefix="image_"),
                F1Score(fields=["pred_label", "gt_label"], prefix="image_"),
                AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_", strict=False),
                F1Score(fields=["pred_mask", "gt_mask"], prefix="pixel_", strict=False),
            ],
        )
