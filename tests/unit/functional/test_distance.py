"""Distances against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_cxr.functional import euclidean_distance, mean_squared_distance


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
