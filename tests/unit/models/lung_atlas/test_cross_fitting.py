"""A part that remembers what it was fitted to: no frame is scored by a part that has seen its fold."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr.models.lung_atlas.cross_fitting import cross_fit, draw_folds, score_all
from anomalib_cxr.models.lung_atlas.parts import AtlasPart, Finding


class Spy(AtlasPart):
    """Scores a frame by its own gray value, and says at which of its places whether it was fitted to it."""

    grid = (1, 1)

    def __init__(self):
        super().__init__()
        self.seen = torch.zeros(0)
        self.sizes = []

    def fit(self, frames):
        self.seen = frames.flatten()

    def forward(self, frames):
        self.sizes.append(len(frames))
        return Finding(frames.flatten(), torch.isin(frames, self.seen).to(frames.dtype))


@pytest.fixture
def frames():
    """Frames of one pixel, each of its own value."""
    return torch.arange(150.0).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("n_folds", [2, 4])
def test_no_frame_is_scored_by_a_part_that_has_seen_it(frames, n_folds):
    part = Spy()
    found = cross_fit(part, frames, draw_folds(150, n_folds, seed=0))
    assert not found.places.any()
    assert torch.equal(found.score, frames.flatten())  # in their order
    assert torch.equal(part.seen, frames.flatten())
    assert part.sizes == []  # it has scored none; copies of it have


def test_frames_are_scored_some_at_a_time(frames):
    part = Spy()
    part.fit(frames[:100])
    found = score_all(part, frames)
    assert part.sizes == [64, 64, 22]
    assert torch.equal(found.score, frames.flatten())
    assert found.places.sum() == 100


def test_scores_have_no_gradient(frames):
    assert not cross_fit(Spy(), frames.clone().requires_grad_(), draw_folds(150, 2, seed=0)).score.requires_grad


class TestFolds:
    @pytest.mark.parametrize(("count", "n_folds"), [(150, 4), (61, 3), (8, 8)])
    def test_are_of_nearly_the_same_size(self, count, n_folds):
        sizes = draw_folds(count, n_folds, seed=3).bincount()
        assert len(sizes) == n_folds
        assert sizes.sum() == count
        assert sizes.max() - sizes.min() <= 1

    def test_depend_on_the_seed_alone(self):
        torch.manual_seed(0)
        first = draw_folds(60, 4, seed=1)
        torch.manual_seed(1)
        assert torch.equal(draw_folds(60, 4, seed=1), first)
        assert not torch.equal(draw_folds(60, 4, seed=2), first)
        assert not torch.equal(first, torch.arange(60) % 4)
