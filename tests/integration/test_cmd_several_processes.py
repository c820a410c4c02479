"""Training in two processes, as on two GPUs."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.slow


def test_ddp_on_two_cpu_processes(command, tmp_path, tiny):
    spread = ["--trainer.devices", 2, "--trainer.strategy", "ddp"]
    code, output = command(tmp_path, "anomalib", *tiny, *spread, "--trainer.max_epochs", 1, timeout=240)
    assert code == 0, output
    assert "MEMBER: 2/2" in output
    (checkpoint,) = {path.resolve() for path in tmp_path.rglob("*.ckpt")}
    weights = torch.load(checkpoint, weights_only=False)["state_dict"]
    networks = {name: value for name, value in weights.items() if name.startswith(("model.", "discriminators."))}
    assert networks
    assert all(value.isfinite().all() for value in networks.values())
    (losses,) = {path.resolve() for path in tmp_path.rglob("losses.csv")}
    assert len(losses.read_text().splitlines()) == 2


def test_synchronized_batch_normalization_is_refused_on_cpus(command, tmp_path, tiny):
    spread = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--trainer.sync_batchnorm", "true"]
    code, output = command(tmp_path, "anomalib", *tiny, *spread, "--trainer.max_epochs", 1, timeout=240)
    assert code != 0
    assert "trainer.sync_batchnorm = True on CPUs" in output
