"""Trainings that can be repeated, and resumed as if they had not been stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule, seed_everything


@contextmanager
def drawn_from(seed: int | None) -> Iterator[None]:
    """Draw random numbers from a seed, and leave the state of those outside as it was.

    Args:
        seed: The seed; None draws from the state outside.

    Example:
        >>> with drawn_from(1):
        ...     first = torch.rand(2)
        >>> with drawn_from(1):
        ...     bool(torch.equal(first, torch.rand(2)))
        True
    """
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def seed_or_state(seed: int | None) -> int:
    """Return a seed, or one that the state of torch's random numbers gives where there is none.

    Example:
        >>> seed_or_state(3)
        3
    """
    return torch.initial_seed() % 2**31 if seed is None else seed


class ReproducibleTraining(LightningModule):
    """Seeds a training, and keeps the state of the random numbers in its checkpoints.

    anomalib 2.7's command reads `seed_everything` and does not apply it; a model seeds its own training instead. The
    seed is set when a training starts, not when a model is made.
    """

    seed: int | None
    _rng_states_to_resume: dict[str, torch.Tensor]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state of the random numbers."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["rng_states"] = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            checkpoint["rng_states"]["cuda"] = torch.cuda.get_rng_state(self.device)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember the state of the random numbers."""
        super().on_load_checkpoint(checkpoint)
        self._rng_states_to_resume = checkpoint.get("rng_states", {})

    def on_fit_start(self) -> None:
        """Seed a new training, or go on with the random numbers of the one that is resumed."""
        if self.seed is not None:
            seed_everything(self.seed, workers=True)
        if self.trainer.ckpt_path is None:
            self._rng_states_to_resume = {}
        self._resume_random_numbers()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Let the random numbers go their way once a resumed training is under way."""
        del batch, batch_idx
        self._rng_states_to_resume = {}

    def on_train_epoch_end(self) -> None:
        """Resume the random numbers again if no batch has come yet.

        From a checkpoint that validation saved, Lightning first ends that epoch, after a seed for a loader of no use.
        """
        self._resume_random_numbers()

    @contextmanager
    def drawing_apart(self) -> Iterator[None]:
        """Draw others in each process, and leave the random numbers of all at one state, which a checkpoint holds."""
        if self.trainer.world_size == 1:
            yield
            return
        common = int(torch.randint(2**62, ()))
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(common + self.trainer.global_rank)
            yield

    def _resume_random_numbers(self) -> None:
        """Set the state of the random numbers that a checkpoint holds, if one is to be resumed."""
        if "cpu" in self._rng_states_to_resume:
            torch.set_rng_state(self._rng_states_to_resume["cpu"].cpu())
        if "cuda" in self._rng_states_to_resume and self.device.type == "cuda":
            torch.cuda.set_rng_state(self._rng_states_to_resume["cuda"].cpu(), self.device)
