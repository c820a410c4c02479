"""Random numbers of several processes: apart where they should be, and at one state for the checkpoint."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from anomalib_cxr.models.base.reproducible import ReproducibleTraining


def drawn(rank, processes, draws=100):
    """What a process draws apart from the others, and what it draws next."""
    model = ReproducibleTraining()
    model._trainer = SimpleNamespace(world_size=processes, global_rank=rank)
    torch.manual_seed(0)
    with model.drawing_apart():
        apart = torch.rand(draws)
    return apart, torch.rand(draws)


def test_each_process_draws_its_own_and_all_go_on_alike():
    (first, then), (second, then_too) = drawn(0, 2), drawn(1, 2)
    assert not torch.isclose(first, second).any()
    assert torch.equal(then, then_too)
    assert not torch.isclose(first, then).any()


@pytest.mark.parametrize("rank", [0, 1])
def test_the_next_time_it_draws_others(rank):
    model = ReproducibleTraining()
    model._trainer = SimpleNamespace(world_size=2, global_rank=rank)
    times = []
    for _ in range(2):
        with model.drawing_apart():
            times.append(torch.rand(100))
    assert not torch.isclose(*times).any()


def test_one_process_draws_as_if_there_were_none():
    torch.manual_seed(0)
    plain = torch.rand(100), torch.rand(100)
    for found, expected in zip(drawn(0, 1), plain, strict=True):
        assert torch.equal(found, expected)
