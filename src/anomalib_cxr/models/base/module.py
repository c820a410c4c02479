"""Base class of the models: seeds, finite-value checks, checkpoints, optimizer steps, exports and anomalib's parts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch
from anomalib import LearningType
from anomalib.data import ImageBatch
from anomalib.deploy.export import CompressionType
from anomalib.metrics import AUROC, Evaluator, F1Score
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch import seed_everything
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from anomalib_cxr.data.reading.file_hashes import KnownImages
from anomalib_cxr.deploy.export import TrainingFacts, export_openvino, export_whole, without_parts
from anomalib_cxr.errors import DivergenceError, list_offenders
from anomalib_cxr.segmentation.network import LungSegmenter

from .reading import same_white
from .reproducible import random_states, restore_random_states
from .settings import as_plain, check_architecture, check_weights, setting_of
from .trainer import (
    check_precision,
    check_processes,
    check_validation,
    make_latest_relative,
    warn_without_checkpoint,
)
from .training_images import remember_training_images
from .visualizer import RadiographVisualizer

logger = logging.getLogger(__name__)

_KEPT = "the checkpoint of the last whole epoch is kept"


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


class RadiographModule(AnomalibModule):
    """Base class of the models, around a torch model that scores.

    A subclass makes its torch model as `model` and defines `training_step`. Where it optimizes manually, it calls
    :meth:`take_step`, or :meth:`accumulate_gradients` and :meth:`step`, which work in several processes too.

    Args:
        seed: Seed of a training; None for the state of torch's own random numbers. It is set when a training starts,
            because anomalib 2.7's command reads `seed_everything` and does not apply it.
        pre_processor: As in anomalib.
        post_processor: As in anomalib.
        evaluator: As in anomalib.
        visualizer: As in anomalib.

    Attributes:
        architecture: Settings, by dotted name, without which a checkpoint's weights do not fit or mean something else.
        remedy: Advice against losses that are not finite.
        sixteen_bit_white: White of 16-bit images as the model learned them, kept in its checkpoints; None for the
            reader's default.
        training_images: Images that the model was trained on, kept in its checkpoints and its exports to OpenVINO.
        training_only: Attributes with networks that scoring does without; an exported model has none of them.
    """

    architecture: ClassVar[tuple[str, ...]]
    remedy: ClassVar[str] = "lower lr"
    training_only: ClassVar[tuple[str, ...]] = ()
    model: nn.Module

    def __init__(
        self,
        seed: int | None,
        pre_processor: nn.Module | bool,
        post_processor: PostProcessor | bool,
        evaluator: Evaluator | bool,
        visualizer: Visualizer | bool,
    ) -> None:
        super().__init__(pre_processor, post_processor, evaluator, visualizer)
        self.hparams.update(as_plain(self.hparams))
        self.seed = seed
        self.sixteen_bit_white: int | None = None
        self.training_images = KnownImages()
        self._random_states: dict[str, torch.Tensor] = {}

    # Losses and checkpoints

    def finite_losses(self, terms: dict[str, torch.Tensor], batch_idx: int) -> dict[str, float]:
        """Return loss terms as the mean over processes, or stop the training before they harm the weights.

        Args:
            terms: Scalars by name.
            batch_idx: Number of the batch in its epoch.

        Returns:
            The means by name.

        Raises:
            DivergenceError: If one is not finite; it names the term, the epoch and the step.
        """
        stacked = self.trainer.strategy.reduce(torch.stack([term.detach().float() for term in terms.values()]))
        values = dict(zip(terms, stacked.tolist(), strict=True))
        broken = [name for name, term in zip(terms, stacked, strict=True) if not torch.isfinite(term)]
        if broken:
            raise DivergenceError(
                f"{', '.join(f'{name} = {values[name]}' for name in broken)} in epoch {self.current_epoch}, "
                f"step {self.trainer.fit_loop.total_batch_idx} (batch {batch_idx} of the epoch)",
                "finite losses",
                f"{self.remedy}; {_KEPT}",
            )
        return values

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep architecture, random numbers and the shape of a segmenter; refuse weights that are not finite.

        The architecture stands beside the hyperparameters, which `load_from_checkpoint` overwrites with its arguments.
        """
        broken = [name for name, weight in self.named_parameters() if not torch.isfinite(weight).all()]
        if broken:
            raise DivergenceError(
                f"weights that are not finite after epoch {self.current_epoch}: {', '.join(broken)}",
                "finite weights",
                f"lower lr; {_KEPT}",
            )
        super().on_save_checkpoint(checkpoint)
        checkpoint["architecture"] = self._own_architecture()
        checkpoint["rng_states"] = random_states(self.device)
        checkpoint["sixteen_bit_white"] = self.sixteen_bit_white
        checkpoint["training_images"] = self.training_images.text
        if (segmenter := self._segmenter()) is not None:
            checkpoint["segmenter"] = segmenter.network.settings

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another architecture, make room for a segmenter's, and remember the random numbers."""
        check_architecture(self._own_architecture(), checkpoint.get("architecture", {}))
        super().on_load_checkpoint(checkpoint)
        self._random_states = checkpoint.get("rng_states", {})
        self.sixteen_bit_white = checkpoint.get("sixteen_bit_white")
        self.training_images = KnownImages.parse(checkpoint.get("training_images", ""))
        if (segmenter := self._segmenter()) is not None:
            segmenter.replace_network(LungSegmenter(**checkpoint["segmenter"]).to(self.device))
        if "state_dict" in checkpoint:
            written = {name: weight for name, weight in checkpoint["state_dict"].items() if name.startswith("model.")}
            check_weights({f"model.{name}": weight for name, weight in self.model.state_dict().items()}, written)

    def _segmenter(self) -> Any:
        """Return the model's :class:`anomalib_cxr.models.base.segmenter.FrozenSegmenter`; None if it has none."""
        return getattr(getattr(self, "model", None), "segmenter", None)

    def _own_architecture(self) -> dict[str, Any]:
        return {name: setting_of(self.hparams, name) for name in self.architecture}

    # Trainers

    def setup(self, stage: str) -> None:
        """Refuse trainers that the model does not work with."""
        super().setup(stage)
        check_precision(self.trainer)
        make_latest_relative(self.trainer)
        if stage == "fit":
            check_validation(self.trainer)
            if not self.automatic_optimization:
                check_processes(self.trainer)

    def on_fit_end(self) -> None:
        """Warn of a training without a checkpoint."""
        super().on_fit_end()
        warn_without_checkpoint(self.trainer)

    # Random numbers

    def on_fit_start(self) -> None:
        """Seed a new training, or restore the random numbers of the one that is resumed."""
        learned_before = self.trainer.ckpt_path is not None
        self.sixteen_bit_white = same_white(self.trainer, self.sixteen_bit_white, learned_before=learned_before)
        known = self.training_images if learned_before else KnownImages()
        self.training_images = remember_training_images(self.trainer, known)
        if self.seed is not None:
            seed_everything(self.seed, workers=True)
        if self.trainer.ckpt_path is None:
            self._random_states = {}
        restore_random_states(self._random_states, self.device)

    def on_validation_start(self) -> None:
        """Refuse images that are read otherwise than those that the model learned from."""
        if self.trainer.state.fn != "fit":
            self._check_white()

    def on_test_start(self) -> None:
        """Refuse images that are read otherwise than those that the model learned from."""
        self._check_white()

    def on_predict_start(self) -> None:
        """Refuse images that are read otherwise than those that the model learned from."""
        self._check_white()

    def _check_white(self) -> None:
        same_white(self.trainer, self.sixteen_bit_white, learned_before=True)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Let the random numbers go on once a resumed training is under way."""
        del batch, batch_idx
        self._random_states = {}

    def on_train_epoch_end(self) -> None:
        """Restore the random numbers again if no batch has come yet.

        From a checkpoint that validation saved, Lightning first ends that epoch, after a seed for a loader of no use.
        """
        restore_random_states(self._random_states, self.device)

    @contextmanager
    def process_draws(self) -> Iterator[None]:
        """Draw other numbers in each process, and leave the state of all at one value, which a checkpoint holds.

        Yields:
            Nothing.
        """
        if self.trainer.world_size == 1:
            yield
            return
        common = int(torch.randint(2**62, ()))
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(common + self.trainer.global_rank)
            yield

    # Manual optimization

    def take_step(self, optimizer: LightningOptimizer, loss: torch.Tensor) -> None:
        """Take one step of one optimizer; alike in all processes.

        Args:
            optimizer: The optimizer.
            loss: A scalar, the mean over this process's share of the batch.
        """
        optimizer.zero_grad()
        self.accumulate_gradients(loss)
        self.step(optimizer)

    def accumulate_gradients(self, loss: torch.Tensor) -> None:
        """Add the gradients of a loss to those of the weights, in this process only.

        DDP averages the gradients of one backward pass through all parameters and stops at any other; here each
        optimizer has a pass of its own, so that :meth:`step` averages.

        Args:
            loss: A scalar.
        """
        wrapped = self.trainer.strategy.model
        local: AbstractContextManager[Any] = nullcontext()
        if isinstance(wrapped, DistributedDataParallel):
            local = wrapped.no_sync()
        with local:
            self.manual_backward(loss)

    def step(self, optimizer: LightningOptimizer) -> None:
        """Average the gradients of an optimizer's weights over the processes, and take its step.

        Args:
            optimizer: The optimizer; weights without gradient stay as they are.
        """
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if self.trainer.world_size > 1 and gradients:
            mean = self.trainer.strategy.reduce(parameters_to_vector(gradients), reduce_op="mean")
            vector_to_parameters(mean, gradients)
        optimizer.step()

    # Exports

    def check_exportable(self) -> None:
        """Refuse to export a model that cannot score yet; to be overridden where there are such."""

    def to_torch(self, export_root: Path | str, *args: Any, **kwargs: Any) -> Path:
        """Export to PyTorch, without networks that only training needs; see anomalib's `ExportMixin.to_torch`."""
        self.check_exportable()
        with without_parts(self, self.training_only):
            return export_whole(super().to_torch, export_root, *args, **kwargs)

    def to_onnx(self, export_root: Path | str, *args: Any, **kwargs: Any) -> Path:  # type: ignore[override]  # anomalib's
        """Export to ONNX; see anomalib's `ExportMixin.to_onnx`. The operator set is the one torch's exporter writes."""
        self.check_exportable()
        return export_whole(super().to_onnx, export_root, *args, **{"opset_version": 18, **kwargs})

    def to_openvino(self, export_root: Path | str, *args: Any, **kwargs: Any) -> Path:
        """Export to OpenVINO; see anomalib's `ExportMixin.to_openvino` and :func:`anomalib_cxr.deploy.export`."""
        exporter: Callable[..., Path] = super().to_openvino
        facts = TrainingFacts(self.sixteen_bit_white, self.training_images.text)
        return export_openvino(exporter, export_root, *args, facts=facts, **kwargs)

    def _compress_ov_model(
        self,
        model: Any,
        compression_type: CompressionType | None = None,
        datamodule: Any = None,
        metric: Any = None,
        task: Any = None,
        max_drop: float = 0.01,
    ) -> Any:
        """Quantize a converted model; anomalib's own way quantizes layers that scores are too sensitive to."""
        from anomalib_cxr.deploy.quantization import quantize  # noqa: PLC0415  # NNCF takes seconds to import

        del metric, task, max_drop
        return quantize(model, CompressionType(compression_type), datamodule)

    # anomalib's parts

    @property
    def first_scoring_epoch(self) -> int:
        """Return the first epoch whose scores mean something; no earlier one is to be chosen by validation."""
        return 0

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> Any:
        """Score a validation batch."""
        del batch_idx
        return batch.update(**self.model(batch.image)._asdict())

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log each image's probability, which anomalib's command leaves out of its figures."""
        del batch, batch_idx, dataloader_idx
        for path, probability in zip(outputs.image_path or (), outputs.pred_score, strict=False):
            logger.info("%s: anomaly probability %.4f", path, probability)

    def on_predict_end(self) -> None:
        """List the files that the data left out, after the last score and not before thousands of them."""
        loaders = self.trainer.predict_dataloaders
        for loader in loaders if isinstance(loaders, list) else [loaders]:
            if skipped := getattr(getattr(loader, "dataset", None), "skipped", {}):
                logger.warning("Left out, since they are no frontal radiographs:%s", list_offenders(skipped))

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Return arguments of the trainer: no clipping, as manual optimization demands, and no sanity check."""
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
        """Return a visualizer that shows 16-bit PNG and DICOM too."""
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
