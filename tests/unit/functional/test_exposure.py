"""The exposure against NumPy's percentiles and means."""

from __future__ import annotations

import numpy as np
import torch

from anomalib_cxr.functional.exposure import exposure_covariates


def make_frames(count=5):
    frames = torch.rand(count, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[10:50, 8:28] = inside[10:50, 36:56] = True
    outside = torch.zeros(64, 64, dtype=torch.bool)
    outside[:, :4] = outside[:, 60:] = True
    frames[..., inside] *= 0.4
    return frames, inside, outside


def test_is_what_numpy_gives():
    """Up to a neighbor in the order of the pixels, which differ by 0.001 or so."""
    frames, inside, outside = make_frames()
    pictures, lungs, around = frames[:, 0].numpy(), inside.numpy(), outside.numpy()
    expected = np.log([
        [np.percentile(each, 90) - np.median(each[lungs]) + 0.05, each[around].mean(), each[lungs].mean()]
        for each in pictures
    ])  # fmt: skip
    np.testing.assert_allclose(exposure_covariates(frames, inside, outside).numpy(), expected, atol=0.005)


def test_more_light_moves_all_three():
    frames, inside, outside = make_frames()
    moved = exposure_covariates(frames * 0.5, inside, outside) - exposure_covariates(frames, inside, outside)
    assert (moved[:, 1:] + np.log(2)).abs().max() < 0.002
    assert (moved[:, 0] < -0.5).all()


def test_a_lesion_in_one_lung_hardly_moves_the_gap():
    frames, inside, outside = make_frames()
    sick = frames.clone()
    sick[..., 12:22, 10:20] = 0.9
    moved = exposure_covariates(sick, inside, outside) - exposure_covariates(frames, inside, outside)
    assert moved[:, 0].abs().max() < 0.06
    assert (moved[:, 1] == 0).all()


def test_a_black_picture_and_empty_regions_are_finite():
    frames, inside, outside = make_frames()
    assert exposure_covariates(torch.zeros_like(frames), inside, outside).isfinite().all()
    assert exposure_covariates(frames, torch.zeros_like(inside), outside).isfinite().all()
