"""The combined score against NumPy: near the greater of two deviations, and 0 by 1 on healthy images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_cxr.models.lung_atlas.combination import HANDICAP, SHARPNESS, WEIGHTS, Combination


@pytest.fixture(scope="module")
def deviations():
    """Deviations of healthy images that have something in common."""
    draw = torch.Generator().manual_seed(0)
    return torch.randn(300, 5, generator=draw) + torch.randn(300, 1, generator=draw)


@pytest.fixture(scope="module")
def combination(deviations):
    combination = Combination()
    combination.fit(deviations)
    return combination


def test_healthy_images_score_0_by_1(combination, deviations):
    scores = combination(deviations)
    assert scores.mean().item() == pytest.approx(0, abs=1e-5)
    assert scores.std().item() == pytest.approx(1, abs=1e-5)


def test_is_the_logarithm_of_a_sum_of_exponentials(combination, deviations):
    values = deviations.double().numpy()
    whole = values @ WEIGHTS
    whole = whole / whole.std(ddof=1)
    expected = np.log(np.exp(SHARPNESS * whole) + np.exp(SHARPNESS * (values[:, 1] - HANDICAP))) / SHARPNESS
    expected = (expected - expected.mean()) / expected.std(ddof=1)
    np.testing.assert_allclose(combination(deviations).numpy(), expected, atol=1e-4)


def test_either_deviation_is_enough_and_neither_dilutes_the_other(combination):
    healthy, spots, whole, both = torch.zeros(4, 5)
    spots[1], whole[[0, 2, 3, 4]], both[:] = 6, 6, 6
    scores = combination(torch.stack([healthy, spots, whole, both]))
    assert (scores[1:] > scores[0] + 3).all()
    low = spots.clone()
    low[[0, 2, 3, 4]] = -6
    assert combination(low[None])[0].item() == pytest.approx(scores[1].item(), abs=0.01)


def test_far_from_healthy_it_is_finite(combination):
    extreme = torch.tensor([1e6, -1e6]).reshape(2, 1).expand(2, 5)
    assert combination(extreme).isfinite().all()


def test_scores_that_never_vary_are_finite():
    combination = Combination()
    combination.fit(torch.zeros(10, 5))
    assert combination(torch.zeros(2, 5)).isfinite().all()
