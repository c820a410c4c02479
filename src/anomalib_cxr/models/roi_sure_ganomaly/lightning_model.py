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
from anomalib_cxr.functional import Distance, paint_region
from anomalib_cxr.models.components import (
    Discriminator,
    Judgement,
    LungsFirst,
    RadiographModule,
    RoiPreProcessor,
    SteppedTraining,
    drawn_from,
    initialise_dcgan,
    lung_masks,
    resolve_pre_processor,
)

from .adversary import AdversaryName, choose_adversary, instance_noise_level
from .loss import RISKS, GeneratorLoss, Reconstruction, ReconstructionLoss, latent_agreement
from .settings import ARCHITECTURE, ARCHITECTURE_BEFORE, Channels, InputRegion, Target, check_settings
from .torch_model import GeneratorName, Painting, RoiSureGanomalyModel

logger = logging.getLogger(__name__)


class RoiSureGanomaly(LungsFirst, SteppedTraining, RadiographModule, AnomalibModule):  # type: ignore[misc]  # as anomalib's own mix
    """Learns to paint healthy lungs, and scores by how far two encoders disagree about what was painted.

    An encoder-decoder sees the full X-ray and paints only its lungs; a second encoder reads the painting. Adversarial
    feature matching makes the painting look real, Stein's unbiased risk estimate (SURE) makes it close to the CLEAN
    lungs. Trained on healthy images only; no mask is needed to score. For research, not a medical device.

    With `target: image` and `reconstruction: l1` it is GANomaly; `generator`, `adversary` and `input_region` make
    others of its relatives. All these choices are independent of each other.

    Args:
        image_size: Side of the square that the network sees: 32, 64, 128, 256 or 512.
        reconstruction: `sure`, `pg_sure` (for Poisson-Gaussian noise), `l2` (the dissertation's Oracle) or `l1`.
        target: What is painted: `lungs` (training images need lung masks) or the whole `image` that is seen.
        input_region: What the network sees: the whole `image`, or the `lungs` that a segmenter cuts out.
        segmenter: Path of a segmenter of `anomalib-cxr segment train`, for `input_region: lungs`; None trains one on
            the lung masks of the training images before the first epoch. A checkpoint keeps it.
        segmenter_steps: Batches that it is trained on.
        generator: Network that paints: `dcgan`, or `residual_unet` with skip connections.
        adversary: `feature_matching`, or `wgan_gp`: a Wasserstein critic with gradient penalty.
        distance: Distance of codes and features, in losses and score: `euclidean`, or `mean_squared` as GANomaly has.
        n_channels: Channels of the networks: 1, or 3 copies of the grey one as GANomaly's original settings have it.
        sigma: Standard deviation of the noise that `sure` assumes, in the scale of [-1, 1]; not known of real X-rays.
            For `pg_sure` that of the noise in black.
        gain: Growth of the noise's variance with the intensity above black that `pg_sure` assumes, in the same scale.
        tau: Length of the finite difference of `sure` and `pg_sure`, in the scale of [-1, 1].
        w_adv: Weight of the adversary's term.
        w_enc: Weight of the agreement of the codes.
        w_rec: Weight of the reconstruction.
        w_gp: Weight of the gradient penalty of `wgan_gp`.
        n_critic: Steps of the critic of `wgan_gp` for each of the generator.
        instance_noise: Standard deviation of the noise that is added to what the discriminator sees, in the scale of
            [-1, 1]; it falls in a line to 0 in the last epoch.
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
    architecture_before = ARCHITECTURE_BEFORE
    remedy = "lower lr, or sigma and gain where reconstruction is sure or pg_sure"
    training_only = ("discriminator",)
    model: RoiSureGanomalyModel
    discriminator: nn.Module

    def __init__(
        self,
        image_size: int = 256,
        reconstruction: Reconstruction = "sure",
        target: Target = "lungs",
        input_region: InputRegion = "image",
        segmenter: str | None = None,
        segmenter_steps: int = 300,
        generator: GeneratorName = "dcgan",
        adversary: AdversaryName = "feature_matching",
        distance: Distance = "euclidean",
        n_channels: Channels = 1,
        sigma: float = 0.05,
        gain: float = 0.002,
        tau: float = 0.01,
        w_adv: float = 1.0,
        w_enc: float = 1.0,
        w_rec: float = 50.0,
        w_gp: float = 10.0,
        n_critic: int = 5,
        instance_noise: float = 0.0,
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
        self.segmenter = segmenter
        self.segmenter_steps = segmenter_steps
        self.distance = distance
        self.instance_noise = instance_noise
        self.lr = lr
        self.betas = (float(betas[0]), float(betas[1]))  # Adam refuses 0 beside 0.9
        self.seed = seed
        self._rng_states_to_resume = {}
        self.adversary = choose_adversary(adversary, distance=distance, n_critic=n_critic, w_gp=w_gp)
        with drawn_from(seed):
            self.model = RoiSureGanomalyModel(
                image_size,
                latent_dim,
                n_features,
                max_features,
                generator=generator,
                distance=distance,
                n_channels=n_channels,
                whole_image=target == "image",
                lungs_only=input_region == "lungs",
            )
            self.discriminator = Discriminator(
                image_size, n_features, max_features, n_channels, self.adversary.norm
            ).apply(initialise_dcgan)
        self.reconstruction_loss = ReconstructionLoss(reconstruction, sigma, tau, gain)
        self.generator_loss = GeneratorLoss(w_adv, w_enc, w_rec)

    def configure_optimizers(self) -> list[Optimizer]:
        """Return Adam for the generator (painter and second encoder) and for the discriminator."""
        learning = [
            [weight for weight in part.parameters() if weight.requires_grad]
            for part in (self.model, self.discriminator)
        ]
        return [Adam(weights, lr=self.lr, betas=self.betas) for weights in learning]

    def on_fit_start(self) -> None:
        """Refuse instance noise in a training whose last epoch is not known."""
        if self.instance_noise and (self.trainer.max_epochs or 0) < 1:
            raise SettingError(
                f"instance_noise = {self.instance_noise} and trainer.max_epochs = {self.trainer.max_epochs}",
                "a number of epochs, over which the noise falls to 0",
                "set trainer.max_epochs, or instance_noise: 0",
            )
        super().on_fit_start()

    def training_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Update the generator, then the discriminator, from one pass over the networks.

        The discriminator learns from the painting that the generator was updated by, so both gradients can be taken
        in one backward pass over disjoint parameters; Lightning's DDP then reduces once, and needs no search for
        unused parameters. Where the adversary asks for more steps of the discriminator, they come first, from the same
        painting.
        """
        image, region = self.model.see(cast("torch.Tensor", batch.image))
        mask = self._target_mask(batch, region)
        with self._precision_of_reconstruction():
            painting = self.model.paint(image)
            l_rec, divergence = self.reconstruction_loss(image, mask, painting.painted, self.model.painter)
        real = paint_region(image, mask).expand_as(painting.painted)
        self._step_discriminator_ahead(real, painting, batch_idx)
        real, painted = self._with_instance_noise(real), self._with_instance_noise(painting.painted)

        l_dc, judged_real = self.adversary.duel(self.discriminator, real, painted.detach())
        l_adv = self.adversary.generator_term(judged_real, self._judge_with_frozen_weights(painted))
        l_enc = latent_agreement(painting, self.distance)
        l_gen = self.generator_loss(l_adv, l_enc, l_rec)
        terms = {"l_adv": l_adv, "l_enc": l_enc, "l_rec": l_rec, "l_gen": l_gen, "l_dc": l_dc}
        if divergence is not None:
            terms["divergence"] = divergence
        values = self.finite_values(terms, batch_idx)

        self._step(l_gen + l_dc)
        if self.adversary.reinitialise_below is not None and values["l_dc"] < self.adversary.reinitialise_below:
            self._reinitialise_discriminator(values["l_dc"])
        self.log_dict(terms, on_step=False, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=len(image))

    def _target_mask(self, batch: ImageBatch, region: torch.Tensor | None) -> torch.Tensor | None:
        """Return where there is something to paint, `(B, 1, H, W)`, or None where that is the whole image."""
        if self.target == "image":
            return region
        mask = lung_masks(batch, "target = 'lungs'")
        return mask if region is None else mask * region

    def _step_discriminator_ahead(self, real: torch.Tensor, painting: Painting, batch_idx: int) -> None:
        """Take those steps of the discriminator that have no step of the generator beside them."""
        _, optimizer = cast("list[LightningOptimizer]", self.optimizers())
        painted = painting.painted.detach()
        for _ in range(self.adversary.n_critic - 1):
            loss = self.adversary.duel(
                self.discriminator, self._with_instance_noise(real), self._with_instance_noise(painted)
            ).loss
            self.finite_values({"l_dc": loss}, batch_idx)
            self.take_step(optimizer, loss)

    def _with_instance_noise(self, regions: torch.Tensor) -> torch.Tensor:
        """Add the noise of this epoch to what the discriminator is to see."""
        if not self.instance_noise:
            return regions
        level = instance_noise_level(self.instance_noise, self.current_epoch, cast("int", self.trainer.max_epochs))
        return regions + level * torch.randn_like(regions)

    def _precision_of_reconstruction(self) -> AbstractContextManager[Any]:
        """Full precision for the risk estimate, which differences two passes; the trainer's own precision otherwise."""
        if self.reconstruction_loss.reconstruction in RISKS:
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

    def _reinitialise_discriminator(self, loss: float) -> None:
        """Start the discriminator again, alike in all processes."""
        logger.info("Discriminator's loss at %g in epoch %d: it starts again.", loss, self.current_epoch)
        self.discriminator.apply(initialise_dcgan)
        self.discriminator.load_state_dict(self.trainer.strategy.broadcast(self.discriminator.state_dict()))
