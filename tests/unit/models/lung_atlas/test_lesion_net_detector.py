"""A detector's scores are in units of those of healthy frames that its net was not trained on."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr.models.lung_atlas.lesion_net import LesionDetector, LesionInput, LesionNet
from anomalib_cxr.models.lung_atlas.parts import score_in_batches

from .frames import draw_healthy


@pytest.fixture(scope="module")
def frames():
    return draw_healthy(12, (96, 96))


@pytest.fixture(scope="module")
def prepare(frames):
    prepare = LesionInput()
    prepare.fit_unit(frames)
    prepare.fit(frames)
    return prepare


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LesionNet(2).eval()


@pytest.fixture(scope="module")
def others():
    return draw_healthy(70, (96, 96), seed=1)


@pytest.fixture(scope="module")
def detector(prepare, net, others):
    detector = LesionDetector()
    detector.replace_net(prepare, net, others)
    return detector


def test_healthy_frames_have_mean_0_and_spread_1(detector, others):
    scores = score_in_batches(detector, others).scores
    torch.testing.assert_close(scores.mean(dim=0), torch.zeros(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(scores.std(dim=0), torch.ones(2), atol=1e-3, rtol=0)


def test_scores_are_what_the_net_says(detector, prepare, net, frames):
    """Its mean in the lungs, where a pixel of the map of which half is lung counts half, and its judgment."""
    with torch.no_grad():
        output = net(prepare(frames))
        found = detector(frames)
    in_lungs = torch.zeros(96, 96)
    in_lungs[5:91, 3:45] = in_lungs[5:91, 51:93] = 1
    lung = in_lungs.reshape(48, 2, 48, 2).mean(dim=(1, 3))
    mean = (output.map[:, 0] * lung).sum(dim=(1, 2)) / lung.sum()
    raw = torch.stack([mean, output.image], dim=1)
    torch.testing.assert_close(found.scores, (raw - detector.center) / detector.spread, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found.map, 1 / (1 + (-output.map).exp()))


def test_taken_again_it_counts_anew(detector, prepare, net, others, frames):
    again = LesionDetector()
    again.replace_net(prepare, net, others + 0.1 * torch.rand(others.shape, generator=torch.Generator().manual_seed(2)))
    again.replace_net(prepare, net, others)
    assert torch.equal(score_in_batches(again, frames).scores, score_in_batches(detector, frames).scores)


def test_it_takes_copies(prepare, net, others):
    detector = LesionDetector()
    detector.replace_net(prepare, net, others[:4])
    assert detector.net.stem.weight.data_ptr() != net.stem.weight.data_ptr()
    assert torch.equal(detector.net.stem.weight, net.stem.weight)
    assert not detector.net.training


def test_some_at_a_time_is_all_at_once(detector, others):
    """70 frames are more than are scored together."""
    with torch.no_grad():
        at_once = detector(others)
    for one, other in zip(score_in_batches(detector, others), at_once, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_alike_frames_give_no_division_by_zero(prepare, net, frames):
    detector = LesionDetector()
    detector.replace_net(prepare, net, frames[:1].repeat(3, 1, 1, 1))
    assert score_in_batches(detector, frames).scores.isfinite().all()


def test_it_travels_with_the_weights(detector, frames):
    other = LesionDetector()
    other.load_state_dict(detector.state_dict())
    assert torch.equal(score_in_batches(other, frames).scores, score_in_batches(detector, frames).scores)
