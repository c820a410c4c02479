"""Loss terms against values by hand."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr.models.fanogan.loss import Residual, critic_loss, generator_loss, wasserstein_gap

REAL, GENERATED = torch.tensor([3.0, 5.0]), torch.tensor([1.0, -2.0, 4.0])


def test_gap():
    assert wasserstein_gap(REAL, GENERATED).item() == 3.0


@pytest.mark.parametrize(("w_gp", "expected"), [(10.0, -0.5), (1.0, -2.75)])
def test_critic(w_gp, expected):
    assert critic_loss(wasserstein_gap(REAL, GENERATED), torch.tensor(0.25), w_gp).item() == expected


def test_generator():
    assert generator_loss(GENERATED).item() == -1.0


def test_a_critic_raises_real_values_and_lowers_generated_ones_and_a_generator_raises_its_own():
    real, generated = REAL.clone().requires_grad_(), GENERATED.clone().requires_grad_()
    critic_loss(wasserstein_gap(real, generated), torch.tensor(0.0), 10.0).backward()
    torch.testing.assert_close(real.grad, torch.full((2,), -0.5))
    torch.testing.assert_close(generated.grad, torch.full((3,), 1 / 3))
    generated.grad = None
    generator_loss(generated).backward()
    torch.testing.assert_close(generated.grad, torch.full((3,), -1 / 3))


@pytest.mark.parametrize(("kappa", "expected"), [(0.0, [1.0, 2.0]), (1.0, [4.0, 7.0]), (0.5, [2.5, 4.5])])
def test_total(kappa, expected):
    residual = Residual(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0]))
    assert residual.total(kappa).tolist() == expected
