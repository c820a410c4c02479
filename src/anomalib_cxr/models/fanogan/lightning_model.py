"""Fanogan as a model of anomalib: a GAN first, then an encoder into it, in one training.

Source: T. Schlegl et al., "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks", Medical
Image Analysis 54, 2019.
"""

from __future__ import annotations

import logging
from typing import Literal, cast

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.post_processing import PostProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.core.optimizer import LightningOptimizer
from timm.optim.rmsprop_tf import RMSpropTF
from torch import nn
from torch.optim import Adam, Optimizer

from anomalib_cxr.errors import SettingError
from anomalib_cxr.functional import frozen_running_statistics, gradient_penalty
from anomalib_cxr.models.base.module import RadiographModule, to_gray
from anomalib_cxr.models.base.pre_processor import RoiPreProcessor, resolve_pre_processor
from anomalib_cxr.models.base.reproducible import seeded
from anomalib_cxr.models.base.settings import PLACE
from anomalib_cxr.models.networks.wgan_gp import glorot_linear
from anomalib_cxr.utils.settings import Betas, NonNegativeFloat, PositiveFloat, PositiveInt, check_settings

from .loss import critic_loss, generator_loss, wasserstein_gap
from .torch_model import FanoganModel

logger = logging.getLogger(__name__)

GAN_TERMS = ("gap", "l_gp", "l_critic", "l_gen")
"""Terms that are logged in the epochs of generator and critic, and are out of date after them."""
Terms = dict[str, torch.Tensor]
"""Losses and other logged scalars by name."""


class Fanogan(RadiographModule):
    """f-AnoGAN: a generator of healthy X-rays and an encoder into it; scores by the reconstruction error.

    The first `gan_epochs` train a Wasserstein GAN with gradient penalty: each batch gives `n_critic` steps of the
    critic, each with new codes, then one of the generator. In the epochs after these both are frozen, and the encoder
    learns to encode images such that the generator gives them back, in gray values and in the critic's features.
    Trained on healthy images only; no lung mask is used. For research, not a medical device.

    Validation scores in the first `gan_epochs` are those of an encoder that has not learned yet: no epoch before
    `first_scoring_epoch` is to be chosen by them.

    Args:
        image_size: Side of the square input of the networks: 32, 64 (as published) or 128.
        gan_epochs: Epochs of generator and critic; those up to `trainer.max_epochs` are the encoder's.
        n_critic: Steps of the critic for each of the generator.
        w_gp: Weight of the gradient penalty.
        kappa: Weight of the critic's features beside the gray values, in the encoder's loss and in the score.
        latent_dim: Length of the codes.
        n_features: Channels at full resolution; up to 8 times as many at 4 x 4.
        lr: Learning rate of Adam, for generator and critic.
        betas: Adam's averaging coefficients.
        lr_encoder: Learning rate of RMSprop, for the encoder.
        seed: Seed of weights, order of the images and codes; None for the state of torch's own random numbers.
        pre_processor: True for :class:`RoiPreProcessor`; False where images arrive in [-1, 1] at `image_size`.
        post_processor: As in anomalib; True normalizes by the validation set's minimum and maximum, and thresholds by
            F1.
        evaluator: As in anomalib; True for image AUROC on validation and for image and pixel AUROC and F1 on test.
        visualizer: As in anomalib.

    Raises:
        SettingError: If a setting is out of range.

    Example:
        >>> model = Fanogan(image_size=32, n_features=4, latent_dim=10)
        >>> model.eval()(torch.rand(1, 3, 100, 80)).pred_score.shape
        torch.Size([1])
    """

    architecture = ("image_size", "latent_dim", "n_features", "kappa")
    remedy = "lower lr, or lr_encoder where the encoder learns"
    training_only = ("critic_head",)
    model: FanoganModel
    critic_head: nn.Module

    def __init__(
        self,
        image_size: Literal[32, 64, 128] = 64,
        gan_epochs: PositiveInt = 200,
        n_critic: PositiveInt = 5,
        w_gp: PositiveFloat = 10.0,
        kappa: NonNegativeFloat = 1.0,
        latent_dim: PositiveInt = 128,
        n_features: PositiveInt = 64,
        lr: PositiveFloat = 1e-4,
        betas: Betas = (0.0, 0.9),
        lr_encoder: PositiveFloat = 5e-5,
        seed: int | None = None,
        pre_processor: RoiPreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        check_settings(Fanogan.__init__, locals(), PLACE)
        super().__init__(seed, resolve_pre_processor(pre_processor, image_size), post_processor, evaluator, visualizer)
        self.automatic_optimization = False
        self.latent_dim = latent_dim
        self.gan_epochs = gan_epochs
        self.n_critic = n_critic
        self.w_gp = w_gp
        self.lr = lr
        self.betas = betas
        self.lr_encoder = lr_encoder
        with seeded(seed):
            self.model = FanoganModel(image_size, latent_dim, n_features, kappa)
            self.critic_head = glorot_linear(self.model.features.n_out, 1)

    @property
    def first_scoring_epoch(self) -> int:
        """Return the first epoch of the encoder."""
        return self.gan_epochs

    def critic(self, images: torch.Tensor) -> torch.Tensor:
        """Return the critic's values of images.

        Args:
            images: Gray images in [-1, 1], `(B, 1, H, W)`.

        Returns:
            One value per image, `(B,)`; higher is more real.
        """
        values: torch.Tensor = self.critic_head(self.model.features(images)).flatten()
        return values

    def configure_optimizers(self) -> list[Optimizer]:
        """Return Adam for the generator and for the critic, and RMSprop as TensorFlow 1 has it for the encoder.

        Its average of squared gradients starts at 1 and decays by 0.9; PyTorch's starts at 0 and decays by 0.99.
        """
        critic = [*self.model.features.parameters(), *self.critic_head.parameters()]
        return [
            Adam(self.model.generator.parameters(), lr=self.lr, betas=self.betas),
            Adam(critic, lr=self.lr, betas=self.betas),
            RMSpropTF(self.model.encoder.parameters(), lr=self.lr_encoder, alpha=0.9, eps=1e-10),
        ]

    def on_fit_start(self) -> None:
        """Refuse a training that would end before the encoder's first epoch."""
        epochs = self.trainer.max_epochs
        if epochs is not None and 0 <= epochs <= self.gan_epochs:
            raise SettingError(
                f"trainer.max_epochs = {epochs} and gan_epochs = {self.gan_epochs}",
                "more epochs than gan_epochs, because the encoder learns in those after them",
                "raise trainer.max_epochs, or lower model.init_args.gan_epochs",
            )
        super().on_fit_start()

    def on_train_epoch_start(self) -> None:
        """Train generator and critic, or, from `gan_epochs` on, the encoder; freeze the others."""
        in_gan_phase = self.current_epoch < self.gan_epochs
        gan = (self.model.generator, self.model.features, self.critic_head)
        for part, learns in (*((part, in_gan_phase) for part in gan), (self.model.encoder, not in_gan_phase)):
            part.train(learns).requires_grad_(learns).zero_grad()
        if self.current_epoch == self.gan_epochs:
            for name in GAN_TERMS:  # Lightning would show the last ones until the end
                self.trainer.callback_metrics.pop(name, None)
            logger.info("Epoch %d: generator and critic are frozen, the encoder learns.", self.current_epoch)

    def training_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Train generator and critic, or the encoder, on a batch."""
        gray = to_gray(cast("torch.Tensor", batch.image))
        generator, critic, encoder = cast("list[LightningOptimizer]", self.optimizers())
        if self.current_epoch < self.gan_epochs:
            for _ in range(self.n_critic):
                terms = self._step_critic(critic, gray, batch_idx)
            terms |= self._step_generator(generator, len(gray), batch_idx)
        else:
            terms = self._step_encoder(encoder, gray, batch_idx)
        self.log_dict(terms, on_step=False, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=len(gray))

    def _step_critic(self, optimizer: LightningOptimizer, real: torch.Tensor, batch_idx: int) -> Terms:
        """Train the critic on images `(B, 1, H, W)` and as many new generated ones, at a slope near 1."""
        with torch.no_grad(), frozen_running_statistics(self.model.generator):
            generated = self.model.generator(self._draw_codes(len(real))).to(real.dtype)
        gap = wasserstein_gap(self.critic(real), self.critic(generated))
        with torch.autocast(self.device.type, enabled=False):  # a gradient of a gradient is too fine for half precision
            l_gp = gradient_penalty(self.critic, real, generated).mean()
        terms = {"gap": gap, "l_gp": l_gp, "l_critic": critic_loss(gap, l_gp, self.w_gp)}
        self.finite_losses(terms, batch_idx)
        self.take_step(optimizer, terms["l_critic"])
        return terms

    def _step_generator(self, optimizer: LightningOptimizer, n: int, batch_idx: int) -> Terms:
        """Train the generator against the critic."""
        self.toggle_optimizer(optimizer)
        terms = {"l_gen": generator_loss(self.critic(self.model.generator(self._draw_codes(n))))}
        self.finite_losses(terms, batch_idx)
        self.take_step(optimizer, terms["l_gen"])
        self.untoggle_optimizer(optimizer)
        return terms

    def _step_encoder(self, optimizer: LightningOptimizer, gray: torch.Tensor, batch_idx: int) -> Terms:
        """Train the encoder to reconstruct images by the frozen generator."""
        residual = self.model.residual(gray, self.model.reconstruct(gray))
        terms = {
            "l_image": residual.image.mean(),
            "l_features": residual.features.mean(),
            "l_enc": residual.total(self.model.kappa).mean(),
        }
        self.finite_losses(terms, batch_idx)
        self.take_step(optimizer, terms["l_enc"])
        return terms

    def _draw_codes(self, n: int) -> torch.Tensor:
        """Draw codes from N(0, I), `(n, latent_dim)`, others in each process."""
        with self.process_draws():
            return torch.randn(n, self.latent_dim, device=self.device)
