"""Training in two processes, as on two GPUs."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "ddp.py"


@pytest.mark.parametrize("synced", ["false", "true"])
def test_ddp_on_two_cpu_processes(command, tmp_path, tiny, synced):
    spread = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--trainer.sync_batchnorm", synced]
    code, output = command(tmp_path, "anomalib", *tiny, *spread, "--trainer.max_epochs", 1, timeout=240)
    assert code == 0, output
    assert "MEMBER: 2/2" in output
    (checkpoint,) = {path.resolve() for path in tmp_path.rglob("*.ckpt")}
    weights = torch.load(checkpoint, weights_only=False)["state_dict"]
    networks = {name: value for name, value in weights.items() if name.startswith(("model.", "discriminator."))}
    assert networks
    assert all(value.isfinite().all() for value in networks.values())
    (losses,) = {path.resolve() for path in tmp_path.rglob("losses.csv")}
    assert len(losses.read_text().splitlines()) == 2


def test_two_processes_train_as_one_with_the_double_batch(command, tmp_path):
    settings = {"image_size": 32, "n_features": 4, "batch_size": 8, "steps": 4, "repetitions": 1}
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    words += ["--precisions", "[64-true]", "--reconstructions", "[sure]", "--ways", "[synchronized, not synchronized]"]
    code, output = command(tmp_path, sys.executable, BENCHMARK, "--output", tmp_path, *words, timeout=540)
    assert code == 0, output
    apart = pd.read_csv(tmp_path / "ddp.csv").set_index("way")
    assert (apart.loc["synchronized", ["any_loss", "first_gradients", "last_weights"]] < 1e-8).all(), apart
    assert apart.loc["not synchronized", "any_loss"] > 1e-5, apart
