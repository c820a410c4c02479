"""Trainings that stop at a value that is not finite, and checkpoints that fit the model that takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule

from anomalib_cxr.errors import DivergenceError

from .settings import check_architecture

_KEPT = "the checkpoint of the last whole epoch is kept"


class GuardedTraining(LightningModule):
    """Refuses losses and weights that are not finite, and weights of another architecture.

    A subclass names in `architecture` the settings without which a checkpoint's weights do not fit or mean something
    else, in `architecture_before` what checkpoints hold that were written before one of these settings was there, and
    in `remedy` what helps against losses that are not finite.
    """

    architecture: ClassVar[tuple[str, ...]]
    architecture_before: ClassVar[Mapping[str, Any]] = {}
    remedy: ClassVar[str] = "lower lr"

    def finite_values(self, terms: dict[str, torch.Tensor], batch_idx: int) -> dict[str, float]:
        """Return loss terms as the mean over processes, or stop the training before they harm the weights.

        Args:
            terms: Scalars by name.
            batch_idx: Number of the batch in its epoch.

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
        """Keep the architecture, and refuse to keep weights that are not finite.

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
        checkpoint["architecture"] = {name: self.hparams[name] for name in self.architecture}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another architecture."""
        held = {**self.architecture_before, **checkpoint.get("architecture", {})}
        check_architecture(self.architecture, self.hparams, held)
        super().on_load_checkpoint(checkpoint)
