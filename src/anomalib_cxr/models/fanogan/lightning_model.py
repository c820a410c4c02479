"""Fanogan as a model of anomalib: a GAN first, then an encoder into it, in one training.

Source: T. Schlegl et al., "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks", Medical
Image Analysis 54, 2019.
"""

from __future__ import annotations

import logging
from typing import cast

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import nn
from torch.optim import Adam, Optimizer, RMSprop

from anomalib_cxr.errors import SettingError
from anomalib_cxr.functional import frozen_running_statistics, gradient_penalty
from anomalib_cxr.models.base.module import RadiographModule, resolve_pre_processor
from anomalib_cxr.models.base.pre_processor import RoiPreProcessor
from anomalib_cxr.models.base.reproducible import drawn_from
from anomalib_cxr.models.base.stepping import SteppedTraining
from anomalib_cxr.models.networks.wgan_gp import glorot_linear

from .loss import critic_loss, generator_loss, wasserstein_gap
from .settings import ARCHITECTURE, check_settings
from .torch_model import FanoganModel

logger = logging.getLogger(__name__)

GAN_TERMS = ("gap", "l_gp", "l_critic", "l_gen")
"""What is logged in the epochs of generator and critic, and is no news after them."""
Terms = dict[str, torch.Tensor]
"""Losses and what is logged beside them, scalars by name."""


class Fanogan(SteppedTraining, RadiographModule, AnomalibModule):  # type: ignore[misc]  # as anomalib's own mix
    """f-AnoGAN: learns to generate healthy X-rays, then to find the code of the nearest, and scores by what is left.

    The first `gan_epochs` train a Wasserstein GAN with gradient penalty: each batch gives `n_critic` steps of the
    critic, each with new codes, then one of the generator. In the epochs after these both are frozen, and the encoder
    learns to encode images such that the generator gives them back, in gray values and in the critic's features.
    Trained on healthy images only; no lung mask is used. For research, not a medical device.

    Validation scores in the first `gan_epochs` are those of an encoder that has not learned yet: no epoch before
    `first_scoring_epoch` is to be chosen by them.

    Args:
        image_size: Side of the square that the networks see: 32, 64 (as published) or 128.
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

    architecture = ARCHITECTURE
    remedy = "lower lr, or lr_encoder where the encoder learns"
    training_only = ("critic_head",)
    model: FanoganModel
    critic_head: nn.Module

    def __init__(
        self,
        image_size: int = 64,
        gan_epochs: int = 200,
        n_critic: int = 5,
        w_gp: float = 10.0,
        kappa: float = 1.0,
        latent_dim: int = 128,
        n_features: int = 64,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.0, 0.9),
        lr_encoder: float = 5e-5,
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
        self.latent_dim = latent_dim
        self.gan_epochs = gan_epochs
        self.n_critic = n_critic
        self.w_gp = w_gp
        self.lr = lr
        self.betas = betas
        self.lr_encoder = lr_encoder
        self.seed = seed
        self._rng_states_to_resume = {}
        with drawn_from(seed):
            self.model = FanoganModel(image_size, latent_dim, n_features, kappa)
            self.critic_head = glorot_linear(self.model.features.n_out, 1)

    @property
    def first_scoring_epoch(self) -> int:
        """Return the first epoch of the encoder."""
        return self.gan_epochs

    def critic(self, images: torch.Tensor) -> torch.Tensor:
        """Judge gray images `(B, 1, H, W)`: higher is more real, `(B,)`."""
        judged: torch.Tensor = self.critic_head(self.model.features(images)).flatten()
        return judged

    def configure_optimizers(self) -> list[Optimizer]:
        """Return Adam for the generator and for the critic, and RMSprop for the encoder."""
        critic = [*self.model.features.parameters(), *self.critic_head.parameters()]
        return [
            Adam(self.model.generator.parameters(), lr=self.lr, betas=self.betas),
            Adam(critic, lr=self.lr, betas=self.betas),
            RMSprop(self.model.encoder.parameters(), lr=self.lr_encoder),
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
        """Let generator and critic learn, or, from `gan_epochs` on, the encoder; the others are frozen."""
        in_gan_phase = self.current_epoch < self.gan_epochs
        gan = (self.model.generator, self.model.features, self.critic_head)
        for part, learns in (*((part, in_gan_phase) for part in gan), (self.model.encoder, not in_gan_phase)):
            part.train(learns).requires_grad_(learns).zero_grad()
        if self.current_epoch == self.gan_epochs:
            for name in GAN_TERMS:  # Lightning would show the last ones for ever
                self.trainer.callback_metrics.pop(name, None)
            logger.info("Epoch %d: generator and critic are frozen, the encoder learns.", self.current_epoch)

    def training_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Train on a batch what this epoch is for."""
        gray = self.model.to_gray(cast("torch.Tensor", batch.image))
        generator, critic, encoder = cast("list[LightningOptimizer]", self.optimizers())
        if self.current_epoch < self.gan_epochs:
            for _ in range(self.n_critic):
                terms = self._step_critic(critic, gray, batch_idx)
            terms |= self._step_generator(generator, len(gray), batch_idx)
        else:
            terms = self._step_encoder(encoder, gray, batch_idx)
        self.log_dict(terms, on_step=False, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=len(gray))

    def _step_critic(self, optimizer: LightningOptimizer, real: torch.Tensor, batch_idx: int) -> Terms:
        """Teach the critic to tell images `(B, 1, H, W)` from as many new generated ones, at a slope near 1."""
        with torch.no_grad(), frozen_running_statistics(self.model.generator):
            generated = self.model.generator(self._draw_codes(len(real))).to(real.dtype)
        gap = wasserstein_gap(self.critic(real), self.critic(generated))
        with torch.autocast(self.device.type, enabled=False):  # a gradient of a gradient is too fine for half precision
            l_gp = gradient_penalty(self.critic, real, generated).mean()
        terms = {"gap": gap, "l_gp": l_gp, "l_critic": critic_loss(gap, l_gp, self.w_gp)}
        self.finite_values(terms, batch_idx)
        self.take_step(optimizer, terms["l_critic"])
        return terms

    def _step_generator(self, optimizer: LightningOptimizer, n: int, batch_idx: int) -> Terms:
        """Teach the generator to make what the critic takes for real."""
        self.toggle_optimizer(optimizer)
        terms = {"l_gen": generator_loss(self.critic(self.model.generator(self._draw_codes(n))))}
        self.finite_values(terms, batch_idx)
        self.take_step(optimizer, terms["l_gen"])
        self.untoggle_optimizer(optimizer)
        return terms

    def _step_encoder(self, optimizer: LightningOptimizer, gray: torch.Tensor, batch_idx: int) -> Terms:
        """Teach the encoder codes from which the frozen generator gives the images back."""
        residual = self.model.residual(gray, self.model.paint(gray).painted)
        terms = {
            "l_image": residual.image.mean(),
            "l_features": residual.features.mean(),
            "l_enc": residual.total(self.model.kappa).mean(),
        }
        self.finite_values(terms, batch_idx)
        self.take_step(optimizer, terms["l_enc"])
        return terms

    def _draw_codes(self, n: int) -> torch.Tensor:
        """Draw codes from N(0, I), `(n, latent_dim)`, others in each process."""
        with self.drawing_apart():
            return torch.randn(n, self.latent_dim, device=self.device)
