"""Trainings of several optimizers, each of which takes steps of its own."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins import TorchSyncBatchNorm
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from anomalib_cxr.errors import SettingError

from .batch_norm_sync import CpuBatchNormSync


class SteppedTraining(LightningModule):
    """Takes several backward passes a batch, each through some of the parameters only, in one process or many.

    DDP averages the gradients of one pass through all parameters and stops at any other. So its own averaging is left
    out here, and each step averages the gradients of what it steps.
    """

    def setup(self, stage: str) -> None:
        """Let `trainer.sync_batchnorm` work on CPUs too, such that a trial run there is the run on GPUs."""
        super().setup(stage)
        strategy = self.trainer.strategy
        asked = isinstance(getattr(strategy, "_layer_sync", None), TorchSyncBatchNorm)
        if asked and strategy.root_device.type == "cpu":
            strategy._layer_sync = CpuBatchNormSync()  # type: ignore[attr-defined]  # noqa: SLF001

    def on_fit_start(self) -> None:
        """Refuse ways to train in several processes that do not keep whole networks in each of them."""
        strategy = self.trainer.strategy
        if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
            raise SettingError(
                f"trainer.strategy {type(strategy).__name__}",
                "one device, or ddp",
                "set trainer.strategy: ddp, or trainer.devices: 1",
            )
        super().on_fit_start()

    def take_step(self, optimizer: LightningOptimizer, loss: torch.Tensor) -> None:
        """Take one step of one optimizer; alike in all processes.

        Args:
            optimizer: The optimizer, of parameters that all have a part in the loss.
            loss: A scalar, the mean over this process's share of the batch.
        """
        optimizer.zero_grad()
        with self._without_ddps_averaging():
            self.manual_backward(loss)
        if self.trainer.world_size > 1:
            gradients = [weight.grad for group in optimizer.param_groups for weight in group["params"]]
            mean = self.trainer.strategy.reduce(parameters_to_vector(gradients), reduce_op="mean")
            vector_to_parameters(mean, gradients)
        optimizer.step()

    def _without_ddps_averaging(self) -> AbstractContextManager[Any]:
        wrapped = self.trainer.strategy.model
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()
