"""Input of a lesion net, against NumPy's quantiles, and the residual beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_cxr.models.lung_atlas.lesion_net import LesionInput

from .frames import draw_healthy

N_FRAMES = 9


def in_lungs_of(frames):
    """Return the pixels of frames in the lungs, every third pixel each way, `(N, count)`."""
    in_lungs = np.zeros((96, 96), dtype=bool)
    in_lungs[5:91, 3:45] = in_lungs[5:91, 51:93] = True  # without the margins, 6 of 112 each
    thinned = np.zeros_like(in_lungs)
    thinned[::3, ::3] = in_lungs[::3, ::3]
    return frames[:, 0].numpy()[:, thinned]


@pytest.fixture(scope="module")
def frames():
    return draw_healthy(N_FRAMES, (96, 96))


@pytest.fixture(scope="module")
def prepare(frames):
    prepare = LesionInput(n_components=20)
    prepare.fit_unit(frames)
    prepare.fit(frames)
    return prepare


def test_the_unit_is_the_usual_spread_of_the_lungs(prepare, frames):
    low, high = np.quantile(in_lungs_of(frames), (0.1, 0.9), axis=1)
    assert prepare.unit.item() == pytest.approx(np.median(high - low) + 0.02, abs=2e-3)


def test_gray_values_count_from_the_median_in_units(prepare, frames):
    median = np.median(in_lungs_of(frames), axis=1)[:, None, None, None]
    expected = ((frames.numpy() - median) / prepare.unit.item()).clip(-3, 3)
    np.testing.assert_allclose(prepare.normalize(frames).numpy(), expected, atol=0.01)


def test_what_is_outside_the_lungs_does_not_move_the_median(prepare, frames):
    bright = frames.clone()
    bright[..., :5, :] = bright[..., 45:51] = 1
    assert torch.equal(prepare.normalize(bright)[..., 5:45, :45], prepare.normalize(frames)[..., 5:45, :45])


def test_a_hazy_lung_is_not_stretched(prepare, frames):
    """Half the contrast stays half."""
    torch.testing.assert_close(
        prepare.normalize(0.5 * frames + 0.3), 0.5 * prepare.normalize(frames), atol=1e-5, rtol=0
    )


def test_is_bounded(prepare, frames):
    extreme = frames.clone()
    extreme[..., :30, :30], extreme[..., 60:, 60:] = 5, -5
    seen = prepare.normalize(extreme)
    assert (seen.min().item(), seen.max().item()) == (-3, 3)
    assert (seen[..., :30, :30] == 3).all()


def test_the_medians_of_others_may_be_taken(prepare, frames):
    brighter = prepare.normalize(frames + 0.05, like=frames)
    torch.testing.assert_close(brighter, prepare.normalize(frames) + 0.05 / prepare.unit, atol=1e-5, rtol=0)


def test_frames_in_the_subspace_leave_no_residual(prepare, frames):
    """Nine frames differ in eight directions, of twenty that there may be."""
    assert prepare.residual(prepare.normalize(frames)).abs().max() < 1e-3
    assert prepare.residual(prepare.normalize(draw_healthy(3, (96, 96), seed=1))).abs().mean() > 0.05


def test_a_blot_stays_in_the_residual(prepare, frames):
    sick = frames.clone()
    sick[..., 20:32, 60:72] += 0.2
    residual = prepare.residual(prepare.normalize(sick))[:, 0]
    assert residual.shape == (N_FRAMES, 96, 96)
    in_blot = residual[:, 20:32, 60:72].mean(dim=(1, 2))
    assert (in_blot > 5 * residual.abs().mean(dim=(1, 2))).all()


def test_both_are_seen_beside_each_other(prepare, frames):
    seen, normalized = prepare(frames), prepare.normalize(frames)
    assert torch.equal(seen[:, :1], normalized)
    assert torch.equal(seen[:, 1:], prepare.residual(normalized))


def test_it_travels_with_the_weights(prepare):
    other, frames = LesionInput(n_components=20), draw_healthy(2, (96, 96), seed=1)
    other.load_state_dict(prepare.state_dict())
    assert torch.equal(other(frames), prepare(frames))
