"""WGAN-GP on cut-out lungs by plain DDP: critic steps ahead, instance noise and segmenter, alike in all processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from anomalib_cxr import RoiImageBatch, RoiImageItem, RoiSureGanomaly
from anomalib_cxr.errors import SettingError


def make_model():
    return RoiSureGanomaly(
        image_size=32,
        network={"n_features": 4, "latent_dim": 5},
        adversary={"scheme": "wgan_gp", "n_critic": 2, "instance_noise": 0.1},
        lungs={"input_region": "lungs", "segmenter_steps": 2},
        optimizer={"lr": 1e-3},
        seed=0,
        visualizer=False,
    )


def train(folder):
    """Train in two processes, each on images of its own, and let each write down its weights."""
    draw = torch.Generator().manual_seed(1)
    images = [
        RoiImageItem(image=torch.rand(1, 32, 32, generator=draw).repeat(3, 1, 1), roi_mask=torch.eye(32))
        for _ in range(8)
    ]
    model, quiet = make_model(), {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp_fork", max_epochs=2, default_root_dir=folder,
        enable_checkpointing=False, num_sanity_val_steps=0, **quiet,
    )  # fmt: skip
    model.on_fit_end = lambda: torch.save(model.state_dict(), Path(folder) / f"{trainer.global_rank}.pt")
    trainer.fit(model, DataLoader(images, 2, collate_fn=RoiImageBatch.collate))


@pytest.mark.slow
def test_both_processes_have_the_same_weights(tmp_path):
    # Forked from a process of its own: this one may have used autograd or a GPU, after which it cannot be forked.
    done = subprocess.run(  # noqa: S603
        [sys.executable, __file__, tmp_path], timeout=300, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    start = dict(make_model().named_parameters())
    for name, weight in start.items():
        assert torch.equal(first[name], second[name]), name
        assert first[name].isfinite().all(), name
        if "segmenter" not in name:
            assert not torch.equal(first[name], weight), name
    means = [name for name in first if name.endswith("running_mean")]
    assert any(not torch.equal(first[name], second[name]) for name in means)  # they saw other images indeed
    assert first["model.segmenter.trained"]
    assert second["model.segmenter.trained"]


def test_an_ensemble_is_refused():
    model = RoiSureGanomaly(image_size=32, network={"n_features": 4}, ensemble={"n_folds": 2}, visualizer=False)
    model._trainer = SimpleNamespace(world_size=2, max_epochs=1)
    with pytest.raises(SettingError, match="n_folds = 2 in 2 processes"):
        model.on_fit_start()


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(sys.argv[1])
