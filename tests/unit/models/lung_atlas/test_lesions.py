"""A finder's scores are counted by what healthy frames score that its net has not seen."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr.models.lung_atlas.lesion_net import LesionFinder, LesionNet, LesionView

from .frames import draw_healthy


@pytest.fixture(scope="module")
def frames():
    return draw_healthy(12, (96, 96))


@pytest.fixture(scope="module")
def view(frames):
    view = LesionView()
    view.fit_unit(frames)
    view.fit(frames)
    return view


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LesionNet(2).eval()


@pytest.fixture(scope="module")
def others():
    return draw_healthy(70, (96, 96), seed=1)


@pytest.fixture(scope="module")
def finder(view, net, others):
    finder = LesionFinder()
    finder.take(view, net, others)
    return finder


def test_healthy_frames_have_mean_0_and_spread_1(finder, others):
    scores = finder.score_all(others).scores
    torch.testing.assert_close(scores.mean(dim=0), torch.zeros(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(scores.std(dim=0), torch.ones(2), atol=1e-3, rtol=0)


def test_scores_are_what_the_net_says(finder, view, net, frames):
    """Its mean in the lungs, where a pixel of the map of which half is lung counts half, and its judgment."""
    with torch.no_grad():
        answer = net(view(frames))
        found = finder(frames)
    in_lungs = torch.zeros(96, 96)
    in_lungs[5:91, 3:45] = in_lungs[5:91, 51:93] = 1
    lung = in_lungs.reshape(48, 2, 48, 2).mean(dim=(1, 3))
    mean = (answer.places[:, 0] * lung).sum(dim=(1, 2)) / lung.sum()
    raw = torch.stack([mean, answer.image], dim=1)
    torch.testing.assert_close(found.scores, (raw - finder.usual) / finder.spread, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found.places, 1 / (1 + (-answer.places).exp()))


def test_taken_again_it_counts_anew(finder, view, net, others, frames):
    again = LesionFinder()
    again.take(view, net, others + 0.1 * torch.rand(others.shape, generator=torch.Generator().manual_seed(2)))
    again.take(view, net, others)
    assert torch.equal(again.score_all(frames).scores, finder.score_all(frames).scores)


def test_it_takes_copies(view, net, others):
    finder = LesionFinder()
    finder.take(view, net, others[:4])
    assert finder.net.stem.weight.data_ptr() != net.stem.weight.data_ptr()
    assert torch.equal(finder.net.stem.weight, net.stem.weight)
    assert not finder.net.training


def test_some_at_a_time_is_all_at_once(finder, others):
    """70 frames are more than are scored together."""
    with torch.no_grad():
        at_once = finder(others)
    for one, other in zip(finder.score_all(others), at_once, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_alike_frames_give_no_division_by_zero(view, net, frames):
    finder = LesionFinder()
    finder.take(view, net, frames[:1].repeat(3, 1, 1, 1))
    assert finder.score_all(frames).scores.isfinite().all()


def test_it_travels_with_the_weights(finder, frames):
    other = LesionFinder()
    other.load_state_dict(finder.state_dict())
    assert torch.equal(other.score_all(frames).scores, finder.score_all(frames).scores)
