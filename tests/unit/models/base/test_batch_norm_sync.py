"""Batch normalization over two processes against torch's own over both shares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from anomalib_cxr.functional.sure import frozen_running_statistics
from anomalib_cxr.models.base.batch_norm_sync import CpuBatchNormSync, SyncedBatchNorm2d
from anomalib_cxr.models.networks.dcgan import initialize_dcgan

SHARES = (slice(0, 3), slice(3, 8))  # of different sizes


def images():
    return torch.randn(8, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 7


def learn(share, network):
    """Two passes in training, of which the second is forgotten, and one in evaluation; what they leave behind."""
    seen = images()[share].requires_grad_()
    with frozen_running_statistics(network):
        network(seen)
    painted = network(seen)
    painted.pow(3).sum().backward()
    scored = network.eval()(seen)
    left = {"painted": painted, "scored": scored, "slope": seen.grad, **network.state_dict()}
    return {name: value.detach() for name, value in left.items()} | {"weight_slope": network[0].weight.grad}


def normalization():
    network = nn.Sequential(nn.BatchNorm2d(4)).double()
    nn.init.uniform_(network[0].weight, 0.5, 1.5, generator=torch.Generator().manual_seed(1))
    return network


def work(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(learn(SHARES[rank], CpuBatchNormSync().apply(normalization())), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_normalize_as_one_that_sees_both_shares(tmp_path):
    # Forked from a process of its own: this one may have used autograd or a GPU, after which it cannot be forked.
    subprocess.run([sys.executable, __file__, tmp_path], check=True, timeout=300)  # noqa: S603
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    alone = learn(slice(None), normalization())
    for name in ("painted", "scored", "slope"):
        torch.testing.assert_close(torch.cat([share[name] for share in shares]), alone[name], msg=name)
    for name in ("0.running_mean", "0.running_var", "0.num_batches_tracked"):
        for share in shares:
            torch.testing.assert_close(share[name], alone[name], msg=name)
    torch.testing.assert_close(shares[0]["weight_slope"] + shares[1]["weight_slope"], alone["weight_slope"])


def test_a_plugin_of_lightning_converts_and_reverts():
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm1d(3)))
    layers = list(network.modules())
    CpuBatchNormSync().apply(network)
    assert [type(layer) for layer in network.modules()].count(SyncedBatchNorm2d) == 2
    CpuBatchNormSync().revert(network)
    assert [type(layer) for layer in network.modules()].count(nn.BatchNorm2d) == 2
    assert all(now is before for now, before in zip(network.modules(), layers, strict=True))


@pytest.mark.parametrize("layer", [nn.SyncBatchNorm(3), SyncedBatchNorm2d(3)])
def test_a_discriminator_that_starts_again_does_so_with_synchronized_layers(layer):
    nn.init.constant_(layer.weight, 5.0)
    nn.init.constant_(layer.bias, 5.0)
    initialize_dcgan(layer)
    assert (layer.weight - 1).abs().max() < 0.2
    assert not layer.bias.any()


if __name__ == "__main__":
    multiprocessing.start_processes(work, args=(Path(sys.argv[1]),), nprocs=2, start_method="fork")
