"""RoiSureGanomaly as a model of anomalib: training, checkpoints, and what surrounds the networks.

Source: B. Wang, "Anomaly Detection in Chest X-Ray Screening based on Adversarial Screening", MSc dissertation,
University of Birmingham, 2022.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from anomalib import LearningType
from anomalib.data import ImageBatch
from anomalib.metrics import AUROC, Evaluator, F1Score
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import nn
from torch.func import functional_call
from torch.optim import Adam, Optimizer

from anomalib_cxr.errors import DivergenceError, SettingError
from anomalib_cxr.functional import paint_region
from anomalib_cxr.models.components import (
    Discriminator,
    Judgement,
    RadiographVisualizer,
    ReproducibleTraining,
    RoiPreProcessor,
    WholeExport,
    drawn_from,
    initialise_dcgan,
)

from .loss import (
    GeneratorLoss,
    Reconstruction,
    ReconstructionLoss,
    discriminator_loss,
    feature_matching,
    latent_agreement,
)
from .settings import ARCHITECTURE, Target, check_architecture, check_settings
from .torch_model import RoiSureGanomalyModel

logger = logging.getLogger(__name__)

REINITIALISE_BELOW = 1e-5
"""Loss under which the discriminator has won and is started again, as the dissertation and GANomaly's own code do."""


class RoiSureGanomaly(WholeExport, ReproducibleTraining, AnomalibModule):  # type: ignore[misc]  # as anomalib's own mix
    """Learns to paint healthy lungs, and scores by how far two encoders disagree about what was painted.

    An encoder-decoder sees the full X-ray and paints only its lungs; a second encoder reads the painting. Adversarial
    feature matching makes the painting look real, Stein's unbiased risk estimate (SURE) makes it close to the CLEAN
    lungs. Trained on healthy images only; no mask is needed to score. For research, not a medical device.

    With `target: image` and `reconstruction: l1` it is GANomaly as its paper has it.

    Args:
        image_size: Side of the square that the network sees: 32, 64, 128, 256 or 512.
        reconstruction: `sure`, `l2` (the dissertation's Oracle) or `l1`.
        target: What is painted: `lungs` (training images need lung masks) or the whole `image`.
        sigma: Standard deviation of the noise that `sure` assumes, in the scale of [-1, 1]; not known of real X-rays.
        tau: Length of the finite difference of `sure`, in the scale of [-1, 1].
        w_adv: Weight of feature matching.
        w_enc: Weight of the agreement of the codes.
        w_rec: Weight of the reconstruction.
        latent_dim: Length of the codes.
        n_features: Channels after the first convolution; doubled by each further one.
        max_features: Cap on the channels; None for none.
        lr: Learning rate of Adam, for generator and discriminator.
        betas: Adam's averaging coefficients.
        seed: Seed of weights, order of the images and probes; None for the state of torch's own random numbers.
        pre_processor: True for :class:`RoiPreProcessor`; False where images arrive in [-1, 1] at `image_size`.
        post_processor: As in anomalib; True normalises by the validation set's minimum and maximum, and thresholds by
            F1.
        evaluator: As in anomalib; True for image AUROC on validation and for image and pixel AUROC and F1 on test.
        visualizer: As in anomalib.

    Raises:
        SettingError: If a setting is out of range.

    Example:
        >>> model = RoiSureGanomaly(image_size=64, n_features=8, latent_dim=10)
        >>> model.eval()(torch.rand(1, 3, 100, 80)).pred_score.shape
        torch.Size([1])
    """

    model: RoiSureGanomalyModel
    discriminator: nn.Module

    def __init__(
        self,
        image_size: int = 256,
        reconstruction: Reconstruction = "sure",
        target: Target = "lungs",
        sigma: float = 0.05,
        tau: float = 0.01,
        w_adv: float = 1.0,
        w_enc: float = 1.0,
        w_rec: float = 50.0,
        latent_dim: int = 100,
        n_features: int = 64,
        max_features: int | None = None,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        seed: int | None = None,
        pre_processor: RoiPreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        check_settings(locals())
        super().__init__(
            pre_processor=RoiPreProcessor(image_size) if pre_processor is True else pre_processor,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self._check_pre_processor(image_size)
        self.automatic_optimization = False
        self.target = target
        self.lr = lr
        self.betas = betas
        self.seed = seed
        self._rng_states_to_resume = {}
        with drawn_from(seed):
            self.model = RoiSureGanomalyModel(
                image_size, latent_dim, n_features, max_features, whole_image=target == "image"
            )
            self.discriminator = Discriminator(image_size, n_features, max_features).apply(initialise_dcgan)
        self.reconstruction_loss = ReconstructionLoss(reconstruction, sigma, tau)
        self.generator_loss = GeneratorLoss(w_adv, w_enc, w_rec)

    def _check_pre_processor(self, image_size: int) -> None:
        """Refuse a pre-processor that would give images of another size, or leave the lung masks behind."""
        given = self.pre_processor
        if given is None or (isinstance(given, RoiPreProcessor) and given.image_size == image_size):
            return
        size = f" of image_size {given.image_size}" if isinstance(given, RoiPreProcessor) else ""
        raise SettingError(
            f"pre_processor {type(given).__name__}{size}",
            f"RoiPreProcessor of image_size {image_size}, which takes the lung masks along",
            "leave pre_processor out, and choose the size by image_size",
        )

    def configure_optimizers(self) -> list[Optimizer]:
        """Return Adam for the generator (painter and second encoder) and for the discriminator."""
        return [Adam(part.parameters(), lr=self.lr, betas=self.betas) for part in (self.model, self.discriminator)]

    def training_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Update the generator, then the discriminator, from one pass over the networks.

        The discriminator learns from the painting that the generator was updated by, so both gradients can be taken
        in one backward pass over disjoint parameters; Lightning's DDP then reduces once, and needs no search for
        unused parameters.
        """
        image, mask = self.model.to_grey(cast("torch.Tensor", batch.image)), self._mask(batch)
        with self._precision_of_reconstruction():
            painting = self.model.paint(image)
            l_rec, divergence = self.reconstruction_loss(image, mask, painting.painted, self.model.painter)
        real: Judgement = self.discriminator(paint_region(image, mask))
        fake: Judgement = self.discriminator(painting.painted.detach())

        l_adv = feature_matching(real.features.detach(), self._judge_with_frozen_weights(painting.painted).features)
        l_enc = latent_agreement(painting)
        l_gen = self.generator_loss(l_adv, l_enc, l_rec)
        l_dc = discriminator_loss(real.logits, fake.logits)
        terms = {"l_adv": l_adv, "l_enc": l_enc, "l_rec": l_rec, "l_gen": l_gen, "l_dc": l_dc}
        if divergence is not None:
            terms["divergence"] = divergence
        values = self._finite_values(terms, batch_idx)

        self._step(l_gen + l_dc)
        if values["l_dc"] < REINITIALISE_BELOW:
            self._reinitialise_discriminator()
        self.log_dict(terms, on_step=False, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=len(image))

    def _mask(self, batch: ImageBatch) -> torch.Tensor | None:
        """Return the lung masks `(B, 1, H, W)` as numbers, or None where the whole image is the target."""
        if self.target == "image":
            return None
        masks: torch.Tensor | None = getattr(batch, "roi_mask", None)
        if masks is None:
            raise SettingError(
                "target = 'lungs' and training images without lung masks",
                "batches with roi_mask, as anomalib_cxr.MontgomeryShenzhen and anomalib_cxr.ChestPhantom yield them",
                "train on one of these data modules, or set target: image",
            )
        return masks.unsqueeze(1).to(torch.float32)

    def _precision_of_reconstruction(self) -> AbstractContextManager[Any]:
        """Full precision for the risk estimate, which differences two passes; the trainer's own precision otherwise."""
        if self.reconstruction_loss.reconstruction == "sure":
            return torch.autocast(self.device.type, enabled=False)
        return nullcontext()

    def _judge_with_frozen_weights(self, painted: torch.Tensor) -> Judgement:
        """Judge a painting such that the gradient reaches the painter but not the discriminator."""
        frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        judgement: Judgement = functional_call(self.discriminator, frozen, (painted,))
        return judgement

    def _finite_values(self, terms: dict[str, torch.Tensor], batch_idx: int) -> dict[str, float]:
        """Return the terms as the mean over processes, or stop the training before it harms the weights."""
        stacked = self.trainer.strategy.reduce(torch.stack([term.detach().float() for term in terms.values()]))
        values = dict(zip(terms, stacked.tolist(), strict=True))
        broken = [name for name, term in zip(terms, stacked, strict=True) if not torch.isfinite(term)]
        if broken:
            raise DivergenceError(
                f"{', '.join(f'{name} = {values[name]}' for name in broken)} in epoch {self.current_epoch}, "
                f"step {self.global_step // 2} (batch {batch_idx} of the epoch)",
                "finite losses",
                "lower lr, or sigma where reconstruction is sure; the checkpoint of the last whole epoch is kept",
            )
        return values

    def _step(self, loss: torch.Tensor) -> None:
        """Take one step of both optimisers."""
        optimizers = cast("list[LightningOptimizer]", self.optimizers())
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()

    def _reinitialise_discriminator(self) -> None:
        """Start the discriminator again, alike in all processes."""
        logger.info(
            "Discriminator's loss under %g in epoch %d: it starts again.", REINITIALISE_BELOW, self.current_epoch
        )
        self.discriminator.apply(initialise_dcgan)
        self.discriminator.load_state_dict(self.trainer.strategy.broadcast(self.discriminator.state_dict()))

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
        """Return what the trainer must be given: no clipping, as manual optimisation demands, and no sanity check."""
        return {"gradient_clip_val": 0, "num_sanity_val_steps": 0}

    @property
    def learning_type(self) -> LearningType:
        """Return that it learns from normal images only."""
        return LearningType.ONE_CLASS

    def configure_post_processor(self) -> PostProcessor:
        """Return anomalib's post-processor, which never takes the image's threshold for pixels.

        The image score is a distance of codes and the map a difference of grey values: one threshold for both would
        black out each map.
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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the architecture, and refuse to keep weights that are not finite.

        The architecture stands beside the hyperparameters, which `load_from_checkpoint` overwrites with its arguments.
        """
        broken = [name for name, weight in self.named_parameters() if not torch.isfinite(weight).all()]
        if broken:
            raise DivergenceError(
                f"weights that are not finite after epoch {self.current_epoch}: {', '.join(broken)}",
                "finite weights",
                "lower lr; the checkpoint of the last whole epoch is kept",
            )
        super().on_save_checkpoint(checkpoint)
        checkpoint["architecture"] = {name: self.hparams[name] for name in ARCHITECTURE}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another architecture."""
        check_architecture(self.hparams, checkpoint.get("architecture", {}))
        super().on_load_checkpoint(checkpoint)

    def to_torch(self, export_root: Path | str, *args: Any, **kwargs: Any) -> Path:
        """Export to PyTorch, without the discriminator."""
        discriminator, self.discriminator = self.discriminator, nn.Identity()
        try:
            return super().to_torch(export_root, *args, **kwargs)
        finally:
            self.discriminator = discriminator
