"""Patterns that are no X-rays."""

from __future__ import annotations

import numpy as np
import torch

from anomalib_cxr.screening.pipeline.input_check import draw_patterns


def test_span_from_black_to_white():
    drawn = draw_patterns(40, 24, seed=3)
    assert (drawn.shape, drawn.dtype) == ((40, 1, 24, 24), torch.float32)
    np.testing.assert_allclose(drawn.amin((1, 2, 3)), 0)
    np.testing.assert_allclose(drawn.amax((1, 2, 3)), 1, atol=1e-3)


def test_no_two_alike_and_the_seed_tells_all():
    drawn, again, other = (draw_patterns(40, 24, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, other)
    assert len(torch.unique(drawn.flatten(1), dim=0)) == 40


def test_kinds_differ_in_their_grain():
    """Neighbors agree in clouds and hardly at all in noise."""
    drawn = draw_patterns(80, 32, seed=0)[:, 0].numpy()
    agree = [np.corrcoef(image[:, 1:].ravel(), image[:, :-1].ravel())[0, 1] for image in drawn]
    noise, clouds = np.median(agree[::4]), np.median(agree[1::4])
    assert abs(noise) < 0.1
    assert clouds > 0.7
