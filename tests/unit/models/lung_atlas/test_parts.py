"""Normalized frames against SciPy and NumPy, and the worst places against a sort."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from anomalib_cxr.models.lung_atlas.parts import AtlasPart, by_lungs, locally, worst_of

from .frames import draw_healthy

HALVES = (slice(0, 40), slice(40, 80))


def test_locally_each_lung_by_itself():
    frames = draw_healthy(2)
    expected = np.zeros((2, 64, 80))
    for picture, out in zip(frames[:, 0].double().numpy(), expected, strict=True):
        for half in HALVES:
            away = picture[:, half] - gaussian_filter(picture[:, half], 8)
            out[:, half] = away / (np.sqrt(gaussian_filter(away**2, 8)) + 0.02)
    np.testing.assert_allclose(locally(frames)[:, 0].numpy(), expected, atol=1e-4)


def test_by_both_lungs():
    frames = draw_healthy(2)
    expected = np.zeros((2, 64, 80))
    for picture, out in zip(frames[:, 0].double().numpy(), expected, strict=True):
        lungs = np.concatenate([picture[3:61, 2:38], picture[3:61, 42:78]])  # without the margins, 6 of 112 each
        normal = (picture - lungs.mean()) / (lungs.std() + 0.01)
        for half in HALVES:
            out[:, half] = gaussian_filter(normal[:, half], 1)
    np.testing.assert_allclose(by_lungs(frames)[:, 0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("normalize", [locally, by_lungs])
def test_what_is_beside_one_lung_does_not_reach_the_other(normalize):
    frames, bright = draw_healthy(1), draw_healthy(1)
    bright[..., 38:40] = 1  # in the margin
    assert torch.equal(normalize(bright)[..., 40:], normalize(frames)[..., 40:])


@pytest.mark.parametrize(("count", "n_worst"), [(90, 30), (80, 27), (2, 1), (1, 1)])
def test_the_worst_third(count, n_worst):
    places = torch.rand(4, count, generator=torch.Generator().manual_seed(0))
    expected = np.log(np.sort(places.numpy(), axis=1)[:, -n_worst:].mean(axis=1) + 1e-6)
    np.testing.assert_allclose(worst_of(places).numpy(), expected, rtol=1e-5)


def test_healthy_to_the_last_place_is_a_finite_score():
    assert worst_of(torch.zeros(1, 9)).isfinite().all()


def test_a_part_without_fit_is_none():
    with pytest.raises(TypeError, match="abstract"):
        AtlasPart()
