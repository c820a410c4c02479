"""Trainers that the models work with: their checks, and the results folder that anomalib makes for them."""

from __future__ import annotations

import logging
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from anomalib_cxr.errors import SettingError
from anomalib_cxr.utils.files import make_link_relative

logger = logging.getLogger(__name__)

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
"""Precisions in which the weights are of single precision, as images and statistics of healthy ones are."""


def check_precision(trainer: Trainer) -> None:
    """Refuse precisions in which the weights are of another type than the images, which anomalib leaves in float32.

    Args:
        trainer: The trainer.

    Raises:
        SettingError: If the trainer's precision is one of them.
    """
    if trainer.precision not in PRECISIONS:
        raise SettingError(
            f"trainer.precision = {trainer.precision}",
            f"one of {', '.join(PRECISIONS)}: weights in single precision, as images are",
            "set trainer.precision: 32-true, or on a GPU bf16-mixed",
        )


def check_validation(trainer: Trainer) -> None:
    """Refuse a training without a validation, after which alone a checkpoint is written, and warn of one that is late.

    Args:
        trainer: The trainer, at the start of a training.

    Raises:
        SettingError: If the first validation would come after the last epoch.
    """
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    if every is None or epochs is None or epochs == -1 or epochs % every == 0:
        return
    found = f"trainer.check_val_every_n_epoch = {every} and trainer.max_epochs = {epochs}"
    if every > epochs:
        raise SettingError(
            found,
            "a validation within the training, after which its checkpoint is written",
            f"set trainer.check_val_every_n_epoch to 1, or to another number up to {epochs}",
        )
    logger.warning(
        "%s: no checkpoint will have the last %d epochs, which end without validation.", found, epochs % every
    )


def check_processes(trainer: Trainer) -> None:
    """Refuse strategies that split networks, and synchronized batch normalization on CPUs, which torch does not have.

    Args:
        trainer: The trainer.

    Raises:
        SettingError: If the trainer asks for either.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
        raise SettingError(
            f"trainer.strategy {type(strategy).__name__}",
            "one device, or ddp",
            "set trainer.strategy: ddp, or trainer.devices: 1",
        )
    # There is no public name; without it, torch itself refuses the layers, with less to go by.
    if getattr(strategy, "_layer_sync", None) is not None and strategy.root_device.type == "cpu":
        raise SettingError(
            "trainer.sync_batchnorm = True on CPUs",
            "GPUs: torch synchronizes batch normalization on them only",
            "set trainer.sync_batchnorm: false, or trainer.accelerator: gpu",
        )


def make_latest_relative(trainer: Trainer) -> None:
    """Let `latest` beside the results folder lead there from wherever both are moved; anomalib links absolute paths.

    Args:
        trainer: The trainer, at its start.
    """
    if trainer.is_global_zero:
        make_link_relative(Path(trainer.default_root_dir).parent / "latest")


def warn_without_checkpoint(trainer: Trainer) -> None:
    """Warn at the end of a training that should have written checkpoints, and has written none.

    Args:
        trainer: The trainer.
    """
    saving = [
        callback
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, ModelCheckpoint) and callback.save_top_k != 0
    ]
    if (
        saving
        and not getattr(trainer, "fast_dev_run", False)  # set by Lightning, not declared
        and not any(callback.best_model_path or callback.last_model_path for callback in saving)
    ):
        logger.warning(
            "No checkpoint was written: the training ended at step %d before its first validation, after which one is. "
            "Train for longer, or validate earlier (trainer.val_check_interval, trainer.check_val_every_n_epoch).",
            trainer.global_step,
        )
