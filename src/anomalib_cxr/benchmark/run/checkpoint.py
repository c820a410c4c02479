"""Checkpoints of the runs of a benchmark, so that a training of hours goes on where it was interrupted."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from anomalib_cxr.models.base.reproducible import random_states, restore_random_states
from anomalib_cxr.utils.files import atomic_path

CHECKPOINT, SETTINGS, LOG = "training.ckpt", "settings.json", "log.txt"
"""Names of the checkpoint, of the settings of its run, and of its log, in the temporary folder of the run."""
INTERVAL = 300.0
"""Seconds from the start or from one checkpoint to the next, at least: short trainings are not slowed down."""


class TrainingCheckpoint(Checkpoint):
    """Callback that saves the training after an epoch, with the states of all callbacks, which Lightning calls before.

    Args:
        path: File of the checkpoint, which is replaced as a whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seconds_before = 0.0
        self._started = self._saved = time.perf_counter()
        self._device = torch.device("cpu")
        self._random_states: dict[str, torch.Tensor] = {}

    @property
    def seconds(self) -> float:
        """Seconds of the training so far, those before an interruption included."""
        return self._seconds_before + time.perf_counter() - self._started

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far, and the random numbers, which anomalib's models do not keep."""
        return {"seconds": self.seconds, "random_states": random_states(self._device)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state."""
        self._seconds_before = state_dict["seconds"]
        self._random_states = state_dict["random_states"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the random numbers of a training that is resumed, before Lightning draws the first batch."""
        del trainer
        self._device = pl_module.device
        restore_random_states(self._random_states, self._device)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the training, unless it is too early or this was the last epoch."""
        del pl_module
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        if not is_last and time.perf_counter() - self._saved >= INTERVAL:
            with atomic_path(self.path) as unfinished:
                trainer.save_checkpoint(unfinished)
            self._saved = time.perf_counter()


def open_partial(partial: Path, settings: Mapping[str, Any]) -> None:
    """Prepare the temporary folder of a run: with a checkpoint of the same settings if there is one, else empty.

    Args:
        partial: The folder.
        settings: Settings of the run.
    """
    text = json.dumps(settings, default=str, sort_keys=True)
    written = partial / SETTINGS
    if not (partial / CHECKPOINT).exists() or not written.exists() or written.read_text(encoding="utf-8") != text:
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, exist_ok=True)
    for left_over in partial.iterdir():  # of a process that was killed
        if left_over.is_dir():
            shutil.rmtree(left_over)
        elif left_over.name not in {CHECKPOINT, LOG}:
            left_over.unlink()
    written.write_text(text, encoding="utf-8")


def close_partial(partial: Path) -> None:
    """Remove what only a training under way needs from the temporary folder of a run that has ended.

    Args:
        partial: The folder.
    """
    for name in (CHECKPOINT, SETTINGS):
        (partial / name).unlink(missing_ok=True)


def discard_partial(partial: Path) -> None:
    """Remove the temporary folder of a run that was interrupted, unless it has a checkpoint.

    Args:
        partial: The folder.
    """
    if not (partial / CHECKPOINT).exists():
        shutil.rmtree(partial, ignore_errors=True)
