"""Batch normalization over the batches of all processes, where torch's own does not run: on CPUs."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.plugins import TorchSyncBatchNorm
from torch import distributed, nn
from torch.autograd import Function


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization by mean and variance over all processes; torch's `SyncBatchNorm` takes no CPU tensor.

    In one process, and in evaluation, it is `nn.BatchNorm2d`.

    Example:
        >>> images = torch.rand(2, 3, 4, 4)
        >>> torch.equal(SyncedBatchNorm2d(3)(images), nn.BatchNorm2d(3)(images))
        True
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # the name that torch has
        """Normalize the share of this process, `(B, C, H, W)`, which may differ in size from that of another."""
        if not (self.training and distributed.is_available() and distributed.is_initialized()):
            return super().forward(input)
        count = sum_over_processes(input.new_tensor(input[:, 0].numel()))
        mean = sum_over_processes(input.sum((0, 2, 3))) / count  # (C,)
        centerd = input - mean[:, None, None]
        variance = sum_over_processes(centerd.square().sum((0, 2, 3))) / count  # two passes: nothing cancels
        if self.track_running_stats:
            self._remember(mean.detach(), (variance * count / (count - 1)).detach())
        scale = self.weight * (variance + self.eps).rsqrt()
        return centerd * scale[:, None, None] + self.bias[:, None, None]

    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Move the running statistics towards those of a batch, `(C,)` each; the variance is the unbiased one."""
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            raise TypeError("found a batch normalization without running statistics, expected torch's default settings")
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class CpuBatchNormSync(TorchSyncBatchNorm):
    """What `trainer.sync_batchnorm` does on CPUs; a plugin of Lightning.

    Example:
        >>> network = CpuBatchNormSync().apply(nn.Sequential(nn.BatchNorm2d(3)))
        >>> type(network[0]).__name__, type(CpuBatchNormSync().revert(network)[0]).__name__
        ('SyncedBatchNorm2d', 'BatchNorm2d')
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Synchronize each layer; it stays the same object, with the same weights, as torch's lazy layers do."""
        for layer in model.modules():
            if type(layer) is nn.BatchNorm2d:
                layer.__class__ = SyncedBatchNorm2d
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Let each layer be for itself again."""
        for layer in model.modules():
            if type(layer) is SyncedBatchNorm2d:
                layer.__class__ = nn.BatchNorm2d  # type: ignore[assignment]
        return model


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all processes, the same in each; gradients flow to all of them."""
    total: torch.Tensor = _Sum.apply(values)
    return total


class _Sum(Function):
    """Each process's loss depends on every share: the gradient of the sum is the sum of their gradients.

    torch 2.14 calls its own one, `torch.distributed.nn.functional.all_reduce`, deprecated.
    """

    @staticmethod
    def forward(values: torch.Tensor) -> torch.Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        """Keep nothing: the sum is linear."""

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        del ctx
        return sum_over_processes(gradient)
