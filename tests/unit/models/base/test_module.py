"""Steps and random numbers of several processes, and trainers that the steps do not work with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader

from anomalib_cxr.models.base.module import RadiographModule

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


class TwoSteps(RadiographModule):
    """Steps `first` twice and `second` once a batch, each through the other, which then has no part in the step."""

    architecture = ()

    def __init__(self):
        super().__init__(None, *[False] * 4)
        torch.manual_seed(0)
        self.automatic_optimization = False
        self.first, self.second, self.idle = (nn.Linear(3, 3) for _ in range(3))

    def configure_optimizers(self):
        return [torch.optim.SGD(network.parameters(), 0.1) for network in (self.first, self.second)]

    def training_step(self, batch, _):
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


@pytest.mark.slow
def test_two_processes_step_as_one_that_sees_both_halves(tmp_path):
    # Forked from a process of its own: this one may have used autograd or a GPU, after which it cannot be forked.
    subprocess.run([sys.executable, __file__, tmp_path], check=True, timeout=300)  # noqa: S603
    together = torch.load(tmp_path / "together.pt", weights_only=True)
    alone = train(tmp_path, 8, devices=1)
    start = TwoSteps().state_dict()
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, msg=name)
        assert torch.equal(value, start[name]) == name.startswith("idle")


def test_two_processes_accumulate_as_one_that_sees_all_halves():
    """Gradients of several passes are averaged once, by the step."""
    model, weight = TwoSteps(), torch.ones(3)
    model.first.weight.grad = torch.ones(3, 3)
    halves = SimpleNamespace(reduce=lambda mine, **_: (mine + 3 * torch.ones_like(mine)) / 2)
    model._trainer = SimpleNamespace(world_size=2, strategy=halves)
    optimizer = torch.optim.SGD([model.first.weight, torch.nn.Parameter(weight)], 1.0)
    before = model.first.weight.detach().clone()
    model.step(optimizer)
    torch.testing.assert_close(model.first.weight, before - 2)
    assert torch.equal(optimizer.param_groups[0]["params"][1], weight)  # which has no gradient


def drawn(rank, processes, draws=100):
    """Return draws of a process of its own, and the next ones."""
    model = TwoSteps()
    model._trainer = SimpleNamespace(world_size=processes, global_rank=rank)
    torch.manual_seed(0)
    with model.process_draws():
        own = torch.rand(draws)
    return own, torch.rand(draws)


class TestProcessDraws:
    def test_each_process_draws_its_own_and_all_go_on_alike(self):
        (first, then), (second, then_too) = drawn(0, 2), drawn(1, 2)
        assert not torch.isclose(first, second).any()
        assert torch.equal(then, then_too)
        assert not torch.isclose(first, then).any()

    @pytest.mark.parametrize("rank", [0, 1])
    def test_the_next_draws_are_others(self, rank):
        model = TwoSteps()
        model._trainer = SimpleNamespace(world_size=2, global_rank=rank)
        times = []
        for _ in range(2):
            with model.process_draws():
                times.append(torch.rand(100))
        assert not torch.isclose(*times).any()

    def test_one_process_draws_as_if_there_were_none(self):
        torch.manual_seed(0)
        plain = torch.rand(100), torch.rand(100)
        for found, expected in zip(drawn(0, 1), plain, strict=True):
            assert torch.equal(found, expected)


if __name__ == "__main__":
    torch.save(train(sys.argv[1], 4, devices=2, strategy="ddp_fork"), Path(sys.argv[1]) / "together.pt")
