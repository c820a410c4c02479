"""Trainings in this process, for the tests of each model."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from anomalib_cxr import RoiImageBatch, RoiSureGanomaly

from .xrays import LUNGS, SIDE, Films, Xrays, grouped


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks of this size only lose by threads, and lose minutes where other processes hold the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def xrays():
    return Xrays


@pytest.fixture(scope="session")
def films():
    return Films


@pytest.fixture(scope="session")
def lungs():
    return LUNGS


@pytest.fixture(scope="session")
def make_tiny():
    """Make a model of a size that trains in a moment."""

    def make(kind=RoiSureGanomaly, **settings):
        tiny = {"network__n_features": 4, "network__latent_dim": 5, "lungs__segmenter_steps": 2}
        return kind(image_size=SIDE, visualizer=False, **grouped({**tiny, **settings}))

    return make


@pytest.fixture(scope="session")
def loader():
    def make(images, batch_size=4, **settings):
        return DataLoader(images, batch_size, collate_fn=RoiImageBatch.collate, **settings)

    return make


@pytest.fixture
def fit(tmp_path, loader):
    """Train a model for some epochs in batches of four, and return the trainer."""

    def run(model, epochs, images=None, *, val=None, ckpt_path=None, shuffle=False, **arguments):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        saving = any("Checkpoint" in type(each).__name__ for each in arguments.get("callbacks", ()))
        trainer = Trainer(**{
            "accelerator": "cpu", "devices": 1, "max_epochs": epochs, "default_root_dir": tmp_path, **quiet,
            "enable_checkpointing": saving, "num_sanity_val_steps": 0, **arguments,
        })  # fmt: skip
        trainer.fit(model, loader(images or Xrays(), shuffle=shuffle), val and loader(val), ckpt_path=ckpt_path)
        return trainer

    return run


@pytest.fixture(scope="session")
def assert_same():
    """Compare tensors by name, exactly unless a tolerance is given."""

    def compare(found, expected, **tolerance):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(
                found[name],
                value,
                **{"rtol": 0, "atol": 0, "equal_nan": True, **tolerance},
                msg=lambda text, name=name: f"{name}: {text}",
            )

    return compare
