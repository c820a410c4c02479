"""Tiny X-rays and trainings in this process, for the tests of each model."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Dataset

from anomalib_cxr import RoiImageBatch, RoiImageItem

SIDE = 32


class Xrays(Dataset):
    """Random images, of which the first `n_sick` are sick; from look `broken_after` on they are not finite."""

    def __init__(self, n=8, n_sick=0, *, augment=False, broken_after=None):
        self.images = torch.rand(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3)).expand(-1, 3, -1, -1)
        self.n_sick, self.augment, self.broken_after, self.looks = n_sick, augment, broken_after, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index] * (0.5 + 0.5 * torch.rand(1) if self.augment else 1)
        self.looks += 1
        if self.broken_after is not None and self.looks > self.broken_after:
            image = image * float("nan")
        return RoiImageItem(image=image, gt_label=torch.tensor(index < self.n_sick))


@pytest.fixture(scope="session")
def xrays():
    return Xrays


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
