"""The subspace against scikit-learn's principal components."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from anomalib_cxr.models.lung_atlas.subspace import HealthySubspace


def draw(count, n_values=40, seed=0):
    """Draw images whose values vary by less and less."""
    draw = torch.Generator().manual_seed(seed)
    return 3 + torch.randn(count, n_values, generator=draw) * torch.linspace(2, 0.1, n_values)


def fitted(images, n_components):
    subspace = HealthySubspace(images.shape[1], n_components)
    subspace.fit(images)
    return subspace


@pytest.mark.parametrize(("count", "n_components"), [(25, 7), (25, 24), (200, 7), (41, 40), (40, 12)])
def test_leaves_what_scikit_learn_leaves(count, n_components):
    """With fewer images than values and with more."""
    images, others = draw(count), draw(9, seed=1)
    pca = PCA(n_components, svd_solver="full").fit(images.double().numpy())
    expected = others.numpy() - pca.inverse_transform(pca.transform(others.double().numpy()))
    subspace = fitted(images, n_components)
    np.testing.assert_allclose(subspace.residual(others).numpy(), expected, atol=1e-4)
    products = (subspace.components.T.double().numpy() * pca.components_).sum(axis=1)
    np.testing.assert_allclose(np.abs(products), 1, atol=1e-4)  # the same directions in the same order


@pytest.mark.parametrize("count", [200, 500])
def test_a_few_directions_of_many_leave_little_more_than_the_best(count):
    """Found at random, of images and values in hundreds."""
    images, others = draw(count, 300), draw(50, 300, seed=1)
    pca = PCA(30, svd_solver="full").fit(images.double().numpy())
    best = others.numpy() - pca.inverse_transform(pca.transform(others.double().numpy()))
    subspace = fitted(images, 30)
    assert subspace.residual(others).square().sum().item() == pytest.approx((best**2).sum(), rel=0.02)
    torch.testing.assert_close(subspace.components.T @ subspace.components, torch.eye(30), atol=1e-4, rtol=0)


def test_directions_found_at_random_are_the_same_each_time():
    images = draw(200, 300)
    torch.manual_seed(1)
    first = fitted(images, 30)
    torch.manual_seed(2)
    assert torch.equal(fitted(images, 30).components, first.components)


def test_fewer_images_than_components_span_all_they_differ_in():
    images, others = draw(5), draw(9, seed=1)
    subspace = fitted(images, 20)
    assert subspace.residual(images).abs().max() < 1e-4
    assert torch.equal(subspace.components[:, 4:], torch.zeros(40, 16))
    assert subspace.residual(others).abs().mean() > 0.3


def test_an_image_that_comes_twice_adds_no_direction():
    images, others = draw(6), draw(9, seed=1)
    once, thrice = fitted(images, 20), fitted(images.repeat(3, 1), 20)
    torch.testing.assert_close(thrice.residual(others), once.residual(others), atol=1e-4, rtol=0)
    assert (thrice.components.norm(dim=0) > 0.5).sum() == 5


def test_one_image_is_its_own_subspace():
    image = draw(1)
    torch.testing.assert_close(fitted(image, 3).residual(image + 1), torch.ones(1, 40))


def test_fitted_again_it_forgets():
    again = fitted(draw(30), 20)
    again.fit(draw(5, seed=2))
    new = fitted(draw(5, seed=2), 20)
    assert torch.equal(again.components, new.components)
    assert torch.equal(again.mean, new.mean)
