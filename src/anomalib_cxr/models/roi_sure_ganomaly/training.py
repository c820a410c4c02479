"""How a member and its discriminator are trained against each other."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import nn

from anomalib_cxr.functional import Distance, apply_roi
from anomalib_cxr.models.base.guarded import GuardedTraining
from anomalib_cxr.models.base.stepping import SteppedTraining
from anomalib_cxr.models.networks.dcgan import initialize_dcgan

from .adversary import Adversary, instance_noise_level
from .loss import RISKS, GeneratorLoss, ReconstructionLoss, latent_agreement
from .members import Member, Painting
from .torch_model import RoiSureGanomalyModel

logger = logging.getLogger(__name__)


class Contest(NamedTuple):
    """A member, its opponent, and what moves both."""

    member: Member
    discriminator: nn.Module
    optimizers: tuple[LightningOptimizer, LightningOptimizer]
    """Of the member as generator, and of the discriminator."""


class ContestTraining(SteppedTraining, GuardedTraining):
    """Steps of the contests of all members, each of which is independent of the others."""

    model: RoiSureGanomalyModel
    discriminator: nn.Module
    other_discriminators: nn.ModuleList | None
    adversary: Adversary
    reconstruction_loss: ReconstructionLoss
    generator_loss: GeneratorLoss
    distance: Distance
    instance_noise: float
    accumulate_grad_batches: int

    @property
    def discriminators(self) -> list[nn.Module]:
        """Return the discriminator of each member."""
        return [self.discriminator, *(self.other_discriminators or ())]

    def contests(self) -> list[Contest]:
        """Return the contest of each member."""
        optimizers = cast("list[LightningOptimizer]", self.optimizers())
        pairs = zip(optimizers[::2], optimizers[1::2], strict=True)
        return [Contest(*each) for each in zip(self.model.members, self.discriminators, pairs, strict=True)]

    def losses_of(
        self, contest: Contest, image: torch.Tensor, mask: torch.Tensor | None, batch_idx: int
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Return the loss terms of a contest from one pass over its networks, and their finite values.

        The discriminator learns from the painting that the generator is updated by, and judges it once for both. Both
        gradients are taken in one backward pass, over disjoint parameters; Lightning's DDP then reduces once, and needs
        no search for unused parameters. Where the adversary asks for more steps of the discriminator, they come first,
        from the same painting.

        Args:
            contest: The contest.
            image: What the networks see, `(B, 1, H, W)`.
            mask: What of it is to be painted, `(B, 1, H, W)`; None for all.
            batch_idx: Number of the batch in its epoch.
        """
        with self._precision_of_reconstruction():
            painting = contest.member.paint(image)
            l_rec, divergence = self.reconstruction_loss(image, mask, painting.painted, contest.member.painter)
        l_enc = latent_agreement(painting, self.distance)
        if not self.generator_loss.w_enc:
            l_enc = l_enc.detach()  # told, but nothing learns from it
        l_adv, l_dc = None, None
        if self.generator_loss.w_adv:
            l_adv, l_dc = self._duel(contest, apply_roi(image, mask), painting, batch_idx)
        l_gen = self.generator_loss(torch.zeros_like(l_rec) if l_adv is None else l_adv, l_enc, l_rec)
        all_terms = {
            "l_adv": l_adv,
            "l_enc": l_enc,
            "l_rec": l_rec,
            "l_gen": l_gen,
            "l_dc": l_dc,
            "divergence": divergence,
        }
        terms = {name: term for name, term in all_terms.items() if term is not None}
        return terms, self.finite_values(terms, batch_idx)

    def _duel(
        self, contest: Contest, region: torch.Tensor, painting: Painting, batch_idx: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the generator's and the discriminator's loss, after the steps that the latter is ahead."""
        real = region.expand_as(painting.painted)
        self._step_discriminator_ahead(contest, real, painting, batch_idx)
        real, painted = self._with_instance_noise(real), self._with_instance_noise(painting.painted)
        l_dc, judged_real, judged_painted = self.adversary.duel(contest.discriminator, real, painted)
        return self.adversary.generator_term(judged_real, judged_painted), l_dc

    def step_all(self, loss: torch.Tensor, batch_idx: int) -> bool:
        """Take one step of all optimizers, each generator's before its discriminator's, or save its gradients up.

        An optimizer whose weights have no part in the loss leaves them as they are.

        Args:
            loss: Sum over contests, of this batch.
            batch_idx: Number of the batch in its epoch.

        Returns:
            Whether the step was taken.
        """
        first = batch_idx - batch_idx % self.accumulate_grad_batches
        # The last ones of an epoch may be fewer.
        together = min(self.accumulate_grad_batches, self.trainer.num_training_batches - first)
        optimizers = [optimizer for contest in self.contests() for optimizer in contest.optimizers]
        if batch_idx == first:
            for optimizer in optimizers:
                optimizer.zero_grad()
        last = batch_idx == first + together - 1
        with nullcontext() if last else self._without_ddps_averaging():
            self.manual_backward(loss / together)
        for optimizer in optimizers if last else ():
            optimizer.step()
        return last

    def restart_winner(self, contest: Contest, loss: float | None) -> None:
        """Start a discriminator that has won again, alike in all processes, where the adversary has it so."""
        if loss is None or self.adversary.reinitialize_below is None or loss >= self.adversary.reinitialize_below:
            return
        logger.info("Discriminator's loss at %g in epoch %d: it starts again.", loss, self.current_epoch)
        contest.discriminator.apply(initialize_dcgan)
        contest.discriminator.load_state_dict(self.trainer.strategy.broadcast(contest.discriminator.state_dict()))

    def _step_discriminator_ahead(
        self, contest: Contest, real: torch.Tensor, painting: Painting, batch_idx: int
    ) -> None:
        """Take those steps of the discriminator that have no step of the generator beside them."""
        _, optimizer = contest.optimizers
        painted = painting.painted.detach()
        for _ in range(self.adversary.n_critic - 1):
            loss = self.adversary.duel(
                contest.discriminator, self._with_instance_noise(real), self._with_instance_noise(painted)
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
