"""Steps of several optimizers, in two processes against one that sees the whole batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.utils.data import DataLoader

from anomalib_cxr.errors import SettingError
from anomalib_cxr.models.base.stepping import SteppedTraining

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


class TwoSteps(SteppedTraining, LightningModule):
    """Steps `first` twice and `second` once a batch, each through the other, which then has no part in the step."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = False
        self.first, self.second, self.idle = (nn.Linear(3, 3) for _ in range(3))

    def configure_optimizers(self):
        return [torch.optim.SGD(network.parameters(), 0.1) for network in (self.first, self.second)]

    def training_step(self, batch):
        first, second = self.optimizers()
        for _ in range(2):
            self.take_step(first, self.second(self.first(batch)).square().mean())
        self.take_step(second, self.second(self.first(batch).detach()).square().mean())


def train(folder, batch_size, **arguments):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    model = TwoSteps()
    trainer = Trainer(accelerator="cpu", max_epochs=1, default_root_dir=folder, **quiet, **arguments)
    trainer.fit(model, DataLoader(torch.randn(8, 3, generator=torch.Generator().manual_seed(1)), batch_size))
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def test_two_processes_step_as_one_that_sees_both_halves(tmp_path):
    # Forked from a process of its own: this one may have used autograd or a GPU, after which it cannot be forked.
    subprocess.run([sys.executable, __file__, tmp_path], check=True, timeout=300)  # noqa: S603
    together = torch.load(tmp_path / "together.pt", weights_only=True)
    alone = train(tmp_path, 8, devices=1)
    start = TwoSteps().state_dict()
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, msg=name)
        assert torch.equal(value, start[name]) == name.startswith("idle")


def test_other_ways_to_split_a_model_are_refused():
    model = TwoSteps()
    model._trainer = SimpleNamespace(strategy=FSDPStrategy())
    with pytest.raises(SettingError, match=r"trainer.strategy FSDPStrategy\n  expected: one device, or ddp\n"):
        model.on_fit_start()


if __name__ == "__main__":
    torch.save(train(sys.argv[1], 4, devices=2, strategy="ddp_fork"), Path(sys.argv[1]) / "together.pt")
