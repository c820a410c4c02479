"""Scores against NumPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from anomalib_cxr.models.roi_sure_ganomaly.scores import HealthyCodes, log_mean_square


def test_log_mean_square_in_the_region():
    draw = np.random.default_rng(0)
    residual, region = draw.normal(size=(3, 1, 6, 5)), draw.random((3, 1, 6, 5)) > 0.5
    expected = [np.log((each[where] ** 2).mean()) for each, where in zip(residual, region, strict=True)]
    found = log_mean_square(torch.from_numpy(residual), torch.from_numpy(region).double())
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_an_empty_region_counts_as_all():
    residual = torch.full((1, 1, 4, 4), 3.0)
    assert log_mean_square(residual, torch.zeros_like(residual)).exp().item() == pytest.approx(9)


class TestHealthyCodes:
    @pytest.fixture
    def healthy(self):
        draw = torch.Generator().manual_seed(0)
        return torch.randn(70, 30, generator=draw) @ torch.randn(30, 30, generator=draw) + 2

    def test_is_scikit_learns_shrunk_mahalanobis_distance(self, healthy):
        codes, others = HealthyCodes(30), healthy[:5] * 1.5 - 1
        codes.fit(healthy)
        oracle = LedoitWolf().fit(healthy.double().numpy())
        expected = np.log(oracle.mahalanobis(others.double().numpy()) / 30)
        assert codes(others).tolist() == pytest.approx(expected.tolist(), abs=1e-3)

    def test_a_direction_in_which_healthy_ones_hardly_vary_counts_more(self):
        healthy = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([10.0, 0.5])
        codes = HealthyCodes(2)
        codes.fit(healthy)
        wide, narrow = codes(torch.tensor([[5.0, 0.0], [0.0, 5.0]]))
        assert narrow > wide + 1

    def test_travels_with_the_weights(self, healthy):
        codes, other = HealthyCodes(30), HealthyCodes(30)
        codes.fit(healthy)
        other.load_state_dict(codes.state_dict())
        assert torch.equal(other(healthy), codes(healthy))
