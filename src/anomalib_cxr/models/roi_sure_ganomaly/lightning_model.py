"""RoiSureGanomaly as a model of anomalib: training, checkpoints, and what surrounds the networks.

Source: B. Wang, "Anomaly Detection in Chest X-Ray Screening based on Adversarial Screening", MSc dissertation,
University of Birmingham, 2022.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import nn
from torch.func import functional_call
from torch.optim import Adam, Optimizer

from anomalib_cxr.errors import SettingError
from anomalib_cxr.functional import paint_region
from anomalib_cxr.models.components import (
    Discriminator,
    Judgement,
    RadiographModule,
    RoiPreProcessor,
    drawn_from,
    initialise_dcgan,
    resolve_pre_processor,
)

from .loss import (
    GeneratorLoss,
    Reconstruction,
    ReconstructionLoss,
    discriminator_loss,
    feature_matching,
    latent_agreement,
)
from .settings import ARCHITECTURE, Target, check_settings
from .torch_model import RoiSureGanomalyModel

logger = logging.getLogger(__name__)

REINITIALISE_BELOW = 1e-5
"""Loss under which the discriminator has won and is started again, as the dissertation and GANomaly's own code do."""


class RoiSureGanomaly(RadiographModule, AnomalibModule):  # type: ignore[misc]  # as anomalib's own mix
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

    architecture = ARCHITECTURE
    remedy = "lower lr, or sigma where reconstruction is sure"
    training_only = ("discriminator",)
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
            pre_processor=resolve_pre_processor(pre_processor, image_size),
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
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
        values = self.finite_values(terms, batch_idx)

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
