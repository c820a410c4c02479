"""RoiSureGanomaly as a model of anomalib: settings, optimizers, the training step, and checkpoints.

Source: B. Wang, "Anomaly Detection in Chest X-Ray Screening based on Adversarial Screening", MSc dissertation,
University of Birmingham, 2022.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.post_processing import PostProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.optim import Adam, Optimizer

from anomalib_cxr.errors import SettingError
from anomalib_cxr.functional import Distance, apply_roi
from anomalib_cxr.models.base.module import RadiographModule, to_gray
from anomalib_cxr.models.base.post_processor import FixedMapPostProcessor
from anomalib_cxr.models.base.pre_processor import RoiPreProcessor, resolve_pre_processor
from anomalib_cxr.models.base.reproducible import seeded
from anomalib_cxr.models.base.segmenter import LungMasks, prepare_segmenter
from anomalib_cxr.models.base.settings import PLACE, as_group
from anomalib_cxr.models.networks.dcgan import Discriminator, initialize_dcgan
from anomalib_cxr.utils.settings import check_settings

from .adversarial import adversarial_losses, choose_scheme, instance_noise_level
from .loss import RISKS, TERMS, GeneratorLoss, ReconstructionLoss, latent_agreement
from .lung_frame import LIKELY, Inputs
from .scores import FitHealthyScores, folds_of
from .settings import (
    ARCHITECTURE,
    AdversarySettings,
    EnsembleSettings,
    ImageSize,
    LossWeights,
    LungSettings,
    NetworkSettings,
    OptimizerSettings,
    ReconstructionTerm,
    ScoreName,
    SureSettings,
    Target,
    find_conflicts,
)
from .torch_model import Reconstruction, RoiSureGanomalyModel

logger = logging.getLogger(__name__)

FRAMED = 2
"""Side of the X-rays from which an aligned input is taken, in sides of the input: lungs fill half of an X-ray or more,
so that the input is not blurred."""
Losses = dict[str, torch.Tensor]
"""Scalars by name."""


class RoiSureGanomaly(RadiographModule):
    """Learns to reconstruct healthy lungs, and scores by the disagreement of two encoders about the reconstruction.

    An encoder-decoder takes the full X-ray and reconstructs only its lungs; a second encoder encodes the
    reconstruction. Adversarial feature matching makes the reconstruction look real, Stein's unbiased risk estimate
    (SURE) makes it close to the CLEAN lungs. Trained on healthy images only; no mask is needed to score. For research,
    not a medical device.

    With `target: image` and `reconstruction: l1` it is GANomaly; other settings make others of its relatives. They are
    independent of each other. Each group of settings may be given as a mapping, too.

    Args:
        image_size: Side of the square input of the networks: 32, 64, 128, 256 or 512.
        reconstruction: `sure`, `pg_sure` (for Poisson-Gaussian noise), `l2` (the dissertation's Oracle) or `l1`.
        target: Region to reconstruct: `lungs`, found by the segmenter of the package in training images without lung
            masks, or the whole input `image`.
        score: `latent`, the distance of the two codes; `residual`, the logarithm of the mean squared difference between
            input and reconstruction, in the lungs of an input aligned by `rows`, else where lungs were reconstructed,
            or segmented; `mahalanobis`, the logarithmic distance of the first code from those of the training images.
        distance: Distance of codes and features, in losses and score: `euclidean`, or `mean_squared` as GANomaly has.
        network: Generator, encoders and discriminator.
        lungs: Crop, alignment and normalization of the input by the lungs.
        sure: Noise model of the risk estimates.
        adversary: Adversarial training.
        weights: Weights of the generator's loss.
        optimizer: Adam, for generator and discriminator.
        ensemble: Ensemble over folds of the training images, and exposure adjustment.
        seed: Seed of weights, order of the images and probes; None for the state of torch's own random numbers.
        pre_processor: True for :class:`RoiPreProcessor`; False where images arrive in [-1, 1] at `image_size`.
        post_processor: As in anomalib; True normalizes scores by the validation set's minimum and maximum, and
            thresholds them by F1; maps have a fixed scale.
        evaluator: As in anomalib; True for image AUROC on validation and for image and pixel AUROC and F1 on test.
        visualizer: As in anomalib.

    Raises:
        SettingError: If a setting is out of range.

    Example:
        >>> model = RoiSureGanomaly(image_size=64, network=NetworkSettings(n_features=8, latent_dim=10))
        >>> model.eval()(torch.rand(1, 3, 100, 80)).pred_score.shape
        torch.Size([1])
    """

    architecture = ARCHITECTURE
    remedy = "lower optimizer.lr, or sure.sigma and sure.gain where reconstruction is sure or pg_sure"
    training_only = ("discriminators",)
    model: RoiSureGanomalyModel

    def __init__(
        self,
        image_size: ImageSize = 256,
        reconstruction: ReconstructionTerm = "sure",
        target: Target = "lungs",
        score: ScoreName = "latent",
        distance: Distance = "euclidean",
        network: NetworkSettings = NetworkSettings(),
        lungs: LungSettings = LungSettings(),
        sure: SureSettings = SureSettings(),
        adversary: AdversarySettings = AdversarySettings(),
        weights: LossWeights = LossWeights(),
        optimizer: OptimizerSettings = OptimizerSettings(),
        ensemble: EnsembleSettings = EnsembleSettings(),
        seed: int | None = None,
        pre_processor: RoiPreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        network = as_group(NetworkSettings, network)
        lungs = as_group(LungSettings, lungs)
        sure = as_group(SureSettings, sure)
        adversary = as_group(AdversarySettings, adversary)
        weights = as_group(LossWeights, weights)
        optimizer = as_group(OptimizerSettings, optimizer)
        ensemble = as_group(EnsembleSettings, ensemble)
        conflicts = find_conflicts(network, lungs, adversary, optimizer, ensemble)
        check_settings(RoiSureGanomaly.__init__, locals(), PLACE, conflicts)
        side = image_size if lungs.alignment == "none" else FRAMED * image_size
        super().__init__(seed, resolve_pre_processor(pre_processor, side), post_processor, evaluator, visualizer)
        self.automatic_optimization = False
        self.target = target
        self.distance = distance
        self.lungs = lungs
        self.adversary = adversary
        self.optimizer = optimizer
        self.n_folds = ensemble.n_folds
        self.lung_masks = LungMasks()
        self.scheme = choose_scheme(adversary, distance)
        self.reconstruction_loss = ReconstructionLoss(reconstruction, sure.sigma, sure.tau, sure.gain)
        self.generator_loss = GeneratorLoss(weights)
        with seeded(seed):
            self.model = RoiSureGanomalyModel(
                image_size,
                network,
                lungs,
                ensemble,
                distance=distance,
                whole_image=target == "image",
                score=score,
            )
            self.discriminators = nn.ModuleList(
                Discriminator(
                    image_size, network.n_features, network.max_features, network.n_channels, self.scheme.norm
                ).apply(initialize_dcgan)
                for _ in range(ensemble.n_folds)
            )
        # Networks without weight in the loss are not trained: distributed training is not to wait for their gradients.
        self.discriminators.requires_grad_(weights.adversarial > 0)
        for reconstructor in self.model.networks:
            reconstructor.encoder.requires_grad_(weights.latent > 0)

    # Before the training

    def configure_post_processor(self) -> PostProcessor:
        """Return a post-processor that leaves the maps on their fixed scale."""
        return FixedMapPostProcessor()

    def configure_optimizers(self) -> list[Optimizer]:
        """Return Adam for each generator, with its second encoder, and for its discriminator, in turn."""
        betas = (float(self.optimizer.betas[0]), float(self.optimizer.betas[1]))  # Adam refuses 0 beside 0.9
        parts = [part for pair in zip(self.model.networks, self.discriminators, strict=True) for part in pair]
        return [Adam(part.parameters(), lr=self.optimizer.lr, betas=betas, fused=True) for part in parts]

    def configure_callbacks(self) -> list[Callback]:
        """Return anomalib's callbacks, and one that fits statistics of healthy images where a score needs them."""
        callbacks = super().configure_callbacks()
        fitting = [FitHealthyScores()] if self.model.learns_healthy else []
        return [*(callbacks if isinstance(callbacks, Sequence) else [callbacks]), *fitting]

    def on_fit_start(self) -> None:
        """Refuse settings that do not go with the trainer, seed the training, and get the segmenter ready.

        An ensemble trains in one process: a process whose share of a batch holds images of one fold only has nothing
        for that fold's network, and the others would wait for it.
        """
        if self.n_folds > 1 and self.trainer.world_size > 1:
            raise SettingError(
                f"ensemble.n_folds = {self.n_folds} in {self.trainer.world_size} processes",
                "one process, or no ensemble",
                "set trainer.devices: 1 and trainer.num_nodes: 1, or ensemble.n_folds: 1",
            )
        if self.adversary.instance_noise and (self.trainer.max_epochs or 0) < 1:
            raise SettingError(
                f"adversary.instance_noise = {self.adversary.instance_noise} and trainer.max_epochs = "
                f"{self.trainer.max_epochs}",
                "a number of epochs, over which the noise falls to 0",
                "set trainer.max_epochs, or adversary.instance_noise: 0",
            )
        super().on_fit_start()
        if self.model.segmenter is not None:
            prepare_segmenter(self, self.model.segmenter, self.lungs.segmenter, self.lungs.segmenter_steps)

    # The training step

    def training_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Update generator, then discriminator, of each network of the ensemble by the images outside its fold."""
        inputs = self.model.preprocess(cast("torch.Tensor", batch.image))
        mask = self._target_mask(batch, inputs)
        folds = folds_of(batch.image_path, self.n_folds) if self.n_folds > 1 else None
        optimizers = cast("list[LightningOptimizer]", self.optimizers())
        # The last batches of an epoch that make a step may be fewer.
        first = batch_idx - batch_idx % self.optimizer.accumulate_grad_batches
        together = min(self.optimizer.accumulate_grad_batches, self.trainer.num_training_batches - first)
        if batch_idx == first:
            for optimizer in optimizers:
                optimizer.zero_grad()

        losses: dict[int, Losses] = {}
        means: dict[int, dict[str, float]] = {}  # over processes
        for number in range(self.n_folds):
            chosen = slice(None) if folds is None else (folds != number).to(self.device)
            image = inputs.image[chosen]  # (B, 1, H, W), without the images of its own fold
            if len(image):
                with self.process_draws():
                    region = None if mask is None else mask[chosen]
                    losses[number], means[number] = self._losses(number, image, region, batch_idx)
                self.accumulate_gradients(losses[number]["l_gen"] / together)
                if "l_dc" in losses[number]:
                    self.accumulate_gradients(losses[number]["l_dc"] / together)
        if batch_idx == first + together - 1:
            for optimizer in optimizers:  # each generator's before its discriminator's
                self.step(optimizer)
            for number, mean in means.items():
                self._reinitialize(number, mean.get("l_dc"))
        terms = {name: torch.stack([each[name] for each in losses.values()]).mean() for name in losses[min(losses)]}
        self.log_dict(terms, on_step=False, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=len(inputs.image))

    def _target_mask(self, batch: ImageBatch, inputs: Inputs) -> torch.Tensor | None:
        """Return the region to reconstruct, `(B, 1, H, W)`, or None where that is the whole input."""
        if self.target == "image":
            return inputs.region
        mask = self.lung_masks.of(batch, to_gray(cast("torch.Tensor", batch.image)))
        if inputs.frame.place is not None:
            mask = (inputs.frame.of(mask) > LIKELY).to(mask.dtype)
        return mask if inputs.region is None else mask * inputs.region

    def _losses(
        self, number: int, image: torch.Tensor, mask: torch.Tensor | None, batch_idx: int
    ) -> tuple[Losses, dict[str, float]]:
        """Return the loss terms of one network of the ensemble and its discriminator, and their means over processes.

        Args:
            number: Number of the network.
            image: Input, `(B, 1, H, W)`.
            mask: Region to reconstruct, `(B, 1, H, W)`; None for all of it.
            batch_idx: Number of the batch in its epoch.
        """
        reconstructor = self.model.networks[number]
        with self._precision_of_reconstruction():
            reconstruction = reconstructor(image)
            l_rec, divergence = self.reconstruction_loss(image, mask, reconstruction.image, reconstructor.generator)
        l_enc = latent_agreement(reconstruction, self.distance)
        if not self.generator_loss.weights.latent:
            l_enc = l_enc.detach()  # logged, but nothing learns from it
        l_adv, l_dc = None, None
        if self.generator_loss.weights.adversarial:
            real = apply_roi(image, mask).expand_as(reconstruction.image)
            l_adv, l_dc = self._adversarial_losses(number, real, reconstruction, batch_idx)
        l_gen = self.generator_loss(torch.zeros_like(l_rec) if l_adv is None else l_adv, l_enc, l_rec)
        terms = {"l_adv": l_adv, "l_enc": l_enc, "l_rec": l_rec, "l_gen": l_gen, "l_dc": l_dc, "divergence": divergence}
        losses = {name: term for name, term in terms.items() if term is not None}
        means = self.finite_losses(losses, batch_idx)
        losses |= self.generator_loss.shares({name: losses[name] for name in TERMS if name in losses})
        return losses, means

    def _adversarial_losses(
        self, number: int, real: torch.Tensor, reconstruction: Reconstruction, batch_idx: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return adversarial term and discriminator's loss, after the steps that the discriminator is ahead."""
        discriminator, generated = self.discriminators[number], reconstruction.image
        optimizer = cast("list[LightningOptimizer]", self.optimizers())[2 * number + 1]
        for _ in range(self.scheme.n_critic - 1):
            noisy = self._with_instance_noise(real), self._with_instance_noise(generated.detach())
            loss, _ = self.scheme.discriminator_loss(discriminator, *noisy)
            self.finite_losses({"l_dc": loss}, batch_idx)
            self.take_step(optimizer, loss)
            optimizer.zero_grad()  # the step beside the generator's accumulates its gradients anew
        real, generated = self._with_instance_noise(real), self._with_instance_noise(generated)
        return adversarial_losses(self.scheme, discriminator, real, generated)

    def _with_instance_noise(self, regions: torch.Tensor) -> torch.Tensor:
        """Add the noise of this epoch to the discriminator's input."""
        if not self.adversary.instance_noise:
            return regions
        n_epochs = cast("int", self.trainer.max_epochs)
        level = instance_noise_level(self.adversary.instance_noise, self.current_epoch, n_epochs)
        return regions + level * torch.randn_like(regions)

    def _precision_of_reconstruction(self) -> AbstractContextManager[Any]:
        """Full precision for the risk estimate, which differences two passes; the trainer's own precision otherwise."""
        if self.reconstruction_loss.term in RISKS:
            return torch.autocast(self.device.type, enabled=False)
        return nullcontext()

    def _reinitialize(self, number: int, loss: float | None) -> None:
        """Initialize a discriminator again, alike in all processes, where the scheme asks for it."""
        below = self.scheme.reinitialize_below
        if loss is None or below is None or loss >= below:
            return
        logger.info("Discriminator's loss at %g in epoch %d: it is initialized again.", loss, self.current_epoch)
        discriminator = self.discriminators[number].apply(initialize_dcgan)
        discriminator.load_state_dict(self.trainer.strategy.broadcast(discriminator.state_dict()))

    # Maps

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> Any:
        """Score a validation batch; in a training, count the residuals of healthy images.

        The maps of this validation are still deviations from the healthy images of the one before.
        """
        del batch_idx
        scored, residuals = self.model.score_with_residuals(cast("torch.Tensor", batch.image))
        if self.trainer.state.fn == TrainerFn.FITTING:
            healthy = residuals if batch.gt_label is None else residuals[~batch.gt_label.bool()]
            self.model.healthy_maps.update(healthy)
        return batch.update(**scored._asdict())

    def on_validation_epoch_end(self) -> None:
        """Learn the usual map of healthy validation images, before a checkpoint is written."""
        super().on_validation_epoch_end()
        self.model.healthy_maps.learn(lambda sums: self.trainer.strategy.reduce(sums, reduce_op="sum"))

    def check_exportable(self) -> None:
        """Refuse to export a model that cannot score."""
        self.model.check_fitted()
