"""Training in two processes, as on two GPUs."""

from __future__ import annotations

import torch


def test_ddp_on_two_cpu_processes(command, tmp_path, tiny):
    plain = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--trainer.max_epochs", 1]
    code, output = command(tmp_path, "anomalib", *tiny, *plain, timeout=240)
    assert code == 0, output
    assert "MEMBER: 2/2" in output
    (checkpoint,) = {path.resolve() for path in tmp_path.rglob("*.ckpt")}
    weights = torch.load(checkpoint, weights_only=False)["state_dict"]
    networks = {name: value for name, value in weights.items() if name.startswith(("model.", "discriminator."))}
    assert networks
    assert all(value.isfinite().all() for value in networks.values())
    (losses,) = {path.resolve() for path in tmp_path.rglob("losses.csv")}
    assert len(losses.read_text().splitlines()) == 2
