"""Patch distances against scikit-learn's neighbors on patches cut by a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from anomalib_cxr.models.lung_atlas.neighbors import PatchNeighbors
from anomalib_cxr.models.lung_atlas.parts import locally

from .frames import draw_healthy

N_HEALTHY, ROWS, COLUMNS = 8, 9, 10
N_CANDIDATES = N_HEALTHY * 49
PLACES = [(row, column) for row in range(ROWS) for column in range(COLUMNS)]


def corner(row, column):
    """Return the first pixel of a place's patch; five columns of places are in each lung, 40 pixels wide."""
    lung, column = divmod(column, COLUMNS // 2)
    return 3 + 6 * row, 40 * lung + 3 + 6 * column


def cut(frames, y, x):
    return frames[:, 0, y : y + 10, x : x + 10].reshape(len(frames), 100)


def candidates(frames, row, column):
    y, x = corner(row, column)
    return np.concatenate([cut(frames, y + down, x + across) for down in range(-3, 4) for across in range(-3, 4)])


def naive_distances(healthy, frames, times=1):
    """Return the mean distance of each patch to its three nearest, of candidates that are there so many times."""
    healthy, frames = healthy.double().numpy(), frames.double().numpy()
    distances = np.zeros((len(frames), ROWS, COLUMNS))
    for row, column in PLACES:
        bank = np.tile(candidates(healthy, row, column), (times, 1))
        nearest = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(bank)
        distances[:, row, column] = nearest.kneighbors(cut(frames, *corner(row, column)))[0].mean(axis=1)
    return distances


def fitted(frames, n_dims=100, n_bank=N_CANDIDATES, normalize=torch.clone):
    part = PatchNeighbors(normalize, n_dims, n_bank)
    part.fit(frames)
    return part


@pytest.fixture(scope="module")
def frames():
    return draw_healthy(N_HEALTHY)


@pytest.fixture(scope="module")
def others():
    return draw_healthy(3, seed=1)


@pytest.mark.parametrize("times", [1, 2])
def test_all_patches_in_all_dimensions_are_scikit_learns_neighbors(times, frames, others):
    """A bank for more patches than there are holds them several times."""
    found = fitted(frames, n_bank=times * N_CANDIDATES)(others)
    expected = naive_distances(frames, others, times)
    assert found.map.shape == (3, 1, ROWS, COLUMNS)
    np.testing.assert_allclose(found.map[:, 0].numpy(), expected, atol=2e-3)
    worst = np.sort(expected.reshape(3, -1), axis=1)[:, -30:].mean(axis=1)
    np.testing.assert_allclose(found.score.numpy(), np.log(worst + 1e-6), atol=2e-3)


def test_a_frame_of_the_bank_is_near_it(frames, others):
    """Its own patch is at distance 0, and two others are near."""
    part = fitted(frames)
    assert part(frames).score.max() < part(others).score.min()


def test_frames_are_normalized_first(frames, others):
    found = fitted(frames, normalize=locally)(others)
    expected = fitted(locally(frames))(locally(others))
    torch.testing.assert_close(found.map, expected.map)


def test_fewer_dimensions_see_a_part_of_the_distance(frames, others):
    """The part is most of it: the leading directions are those in which patches differ."""
    part = fitted(frames, n_dims=12)
    assert (part(others).map <= fitted(frames)(others).map + 1e-3).all()
    basis = part.basis.flatten(1).numpy()
    np.testing.assert_allclose(basis @ basis.T, np.eye(12), atol=1e-5)
    patches = np.concatenate([cut(frames.numpy(), *corner(*place)) for place in PLACES])
    away = patches - patches.mean(axis=0)
    assert 0.9 < ((away @ basis.T) ** 2).sum() / (away**2).sum() <= 1


def test_the_bank_is_a_sample_of_the_place_and_around_it(frames):
    part = fitted(frames, n_bank=8)
    basis = part.basis.flatten(1).numpy()
    for place, (row, column) in enumerate(PLACES):
        of_place = candidates(frames.numpy(), row, column) @ basis.T
        to_bank = np.linalg.norm(part.bank[place].numpy()[:, None] - of_place, axis=2)
        assert to_bank.min(axis=1).max() < 1e-3
        assert len(set(to_bank.argmin(axis=1))) == 8
    assert torch.equal(fitted(frames, n_bank=8).bank, part.bank)


@pytest.mark.parametrize("place", [(0, 0), (8, 4), (2, 5), (8, 9), (5, 1)])
def test_a_lesion_in_one_patch_is_highest_at_its_place(place, frames, others):
    sick = others.clone()
    y, x = corner(*place)
    sick[..., y : y + 10, x : x + 10] += 0.5
    part = fitted(frames, n_dims=24, n_bank=32)
    assert [divmod(int(each.argmax()), COLUMNS) for each in part(sick).map] == [place] * 3
    assert (part(sick).score > part(others).score).all()
