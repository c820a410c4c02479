"""Distances against NumPy, and the gradient penalty against critics whose gradient is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from anomalib_cxr.functional import euclidean_distance, gradient_penalty, mean_squared_distance


def _images(seed: int, count: int = 4) -> torch.Tensor:
    return torch.randn(count, 1, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_linear_critic_has_the_same_slope_everywhere() -> None:
    weights = _images(0, count=1)
    penalty = gradient_penalty(lambda x: (weights * x).flatten(1).sum(1), _images(1), _images(2))
    expected = (weights.square().sum().sqrt() - 1) ** 2
    torch.testing.assert_close(penalty, expected.expand(4))


def test_critic_of_slope_one_is_not_punished() -> None:
    weights = nn.functional.normalize(_images(0, count=1).flatten(), dim=0)
    penalty = gradient_penalty(lambda x: x.flatten(1) @ weights[:, None], _images(1), _images(2))
    torch.testing.assert_close(penalty, torch.zeros(4, dtype=torch.float64))


def test_points_lie_between_the_pair_one_for_each() -> None:
    """D(x) = ||x||^2 / 2 has the gradient x, so that the penalty tells where it was taken."""
    real, fake = torch.full((64, 1, 1, 1), 3.0), torch.ones(64, 1, 1, 1)
    penalty = gradient_penalty(
        lambda x: x.square().flatten(1).sum(1) / 2, real, fake, generator=torch.Generator().manual_seed(0)
    )
    points = penalty.sqrt() + 1
    assert ((points >= 1) & (points <= 3)).all()
    assert points.mean().item() == pytest.approx(2, abs=0.3)
    assert len(points.unique()) == 64


def test_gradient_reaches_the_critic_and_not_the_generator() -> None:
    critic = nn.Linear(9, 1, bias=False).double()
    fake = _images(2).requires_grad_()
    gradient_penalty(lambda x: critic(x.flatten(1)), _images(1), fake).mean().backward()
    norm = critic.weight.norm()
    # d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w|
    torch.testing.assert_close(critic.weight.grad, (2 * (norm - 1) * critic.weight / norm).detach())
    assert fake.grad is None


def test_generator_repeats_the_points() -> None:
    def square(x: torch.Tensor) -> torch.Tensor:
        return x.square().flatten(1).sum(1)

    first, second, third = (
        gradient_penalty(square, _images(1), _images(2), generator=torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


@pytest.mark.parametrize("shape", [(1, 5, 1, 1), (3, 100, 1, 1), (2, 8, 4, 4)])
def test_is_the_norm_of_each_pair(shape):
    first, second = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    expected = [
        np.sqrt(((one - other).astype(np.float64) ** 2).sum()) for one, other in zip(first, second, strict=True)
    ]
    found = euclidean_distance(torch.from_numpy(first), torch.from_numpy(second))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 5, 1, 1), (3, 100, 1, 1), (2, 8, 4, 4)])
def test_is_the_mean_of_the_squares_of_each_pair(shape):
    first, second = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    expected = [np.mean((one - other).astype(np.float64) ** 2) for one, other in zip(first, second, strict=True)]
    found = mean_squared_distance(torch.from_numpy(first), torch.from_numpy(second))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_equal_codes_have_a_gradient_that_is_finite():
    code = torch.ones(1, 4, 1, 1, requires_grad=True)
    euclidean_distance(code, torch.ones(1, 4, 1, 1)).sum().backward()
    assert torch.equal(code.grad, torch.zeros(1, 4, 1, 1))
