"""Both phases of f-AnoGAN in two processes, by the command."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_plain_ddp_on_two_cpu_processes(command, tmp_path, side_by_side_root):
    code, output = command(
        *(tmp_path, "anomalib", "train", "--config", CONFIGS / "data" / "montgomery_shenzhen.yaml"),
        *("--config", CONFIGS / "model" / "fanogan.yaml", "--data.init_args.root", side_by_side_root),
        *("--data.init_args.num_workers", 0, "--data.init_args.train_batch_size", 4),
        *("--model.init_args.image_size", 32, "--model.init_args.n_features", 4, "--model.init_args.gan_epochs", 1),
        *("--trainer.max_epochs", 2, "--trainer.accelerator", "cpu"),
        *("--trainer.strategy", "ddp", "--trainer.devices", 2),
        timeout=240,
    )
    assert code == 0, output
    assert "MEMBER: 2/2" in output
    (checkpoint,) = {path.resolve() for path in tmp_path.rglob("*.ckpt")}
    state = torch.load(checkpoint, weights_only=False)
    assert all(value.isfinite().all() for name, value in state["state_dict"].items() if name.startswith("model."))
    assert all(optimizer["state"] for optimizer in state["optimizer_states"])  # each has taken steps
    (losses,) = {path.resolve() for path in tmp_path.rglob("losses.csv")}
    table = pd.read_csv(losses)
    assert table[["gap", "l_gp", "l_critic", "l_gen"]].notna().all(axis=1).tolist() == [True, False]
    assert table[["l_image", "l_features", "l_enc"]].notna().all(axis=1).tolist() == [False, True]
