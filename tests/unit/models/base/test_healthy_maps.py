"""Maps as deviations from healthy images, against NumPy's statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_cxr.models.base.healthy_maps import HALF, USUAL, HealthyMaps

SIZE = (6, 8)


def draw(count, seed=0):
    """Maps of healthy images: high and varying in the first column, the edge of a lung; 0 in the last one."""
    maps = torch.rand(count, 1, *SIZE, generator=torch.Generator().manual_seed(seed)) + 1
    maps[..., 0] *= 8
    maps[..., -1] = 0
    return maps


@pytest.fixture
def healthy():
    maps = HealthyMaps(SIZE)
    maps.fit([draw(40)])
    return maps


@pytest.mark.parametrize("batch", [1, 7, 40])
def test_statistics_are_those_of_all_batches(batch):
    healthy = HealthyMaps(SIZE)
    healthy.fit(draw(40).split(batch))
    values = draw(40).double().numpy()
    np.testing.assert_allclose(healthy.mean[0], values.mean(axis=0), rtol=1e-6)
    spread = values.std(axis=0, ddof=1)
    np.testing.assert_allclose(healthy.spread[0], np.maximum(spread, 0.25 * spread[spread > 0].mean()), rtol=1e-5)


def test_one_scale(healthy):
    """0 up to the usual deviation, 0.5 at as many more as the scale says, below 1 however much."""
    at = healthy.mean + torch.tensor([-3.0, 0, USUAL, USUAL + HALF, 1e4]).reshape(-1, 1, 1, 1) * healthy.spread
    found = healthy(at)
    assert (found[:3] <= 1e-6).all()
    torch.testing.assert_close(found[3], torch.full_like(found[3], 0.5))
    assert ((found[4] > 0.99) & (found[4] < 1)).all()


def test_edges_of_healthy_lungs_are_not_marked(healthy):
    """The residual is higher at the edge than in a lesion, whose place is quiet in healthy images."""
    one = draw(1, seed=1)
    one[0, 0, 3, 4] = 4
    assert one[0, 0, 3, 4] < one[..., 0].min()
    found = healthy(one)[0, 0]
    assert found.argmax() == 3 * SIZE[1] + 4
    assert (found[:, 0] < 0.1).all()
    assert found[3, 4] > 0.5


def test_places_that_are_always_zero_stay_zero(healthy):
    assert (healthy(draw(5, seed=2))[..., -1] == 0).all()


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_teach_nothing(count):
    healthy = HealthyMaps(SIZE)
    healthy.fit([draw(count)])
    healthy.learn()
    assert not healthy.fitted
    assert torch.equal(healthy(draw(3)), draw(3))


def test_processes_learn_from_all_images():
    together, mine, other = HealthyMaps(SIZE), HealthyMaps(SIZE), HealthyMaps(SIZE)
    together.fit([draw(40)])
    mine.update(draw(40)[:30])
    other.update(draw(40)[30:])
    mine.learn(lambda sums: sums + other._sums)
    torch.testing.assert_close(mine.mean, together.mean)
    torch.testing.assert_close(mine.spread, together.spread)


def test_a_state_holds_them(healthy):
    loaded = HealthyMaps(SIZE)
    loaded.load_state_dict(healthy.state_dict())
    assert torch.equal(loaded(draw(3, seed=3)), healthy(draw(3, seed=3)))


def test_each_epoch_learns_anew(healthy):
    healthy.fit([10 * draw(40)])
    torch.testing.assert_close(healthy.mean, 10 * draw(40).mean(dim=0, keepdim=True))
