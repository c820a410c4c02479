"""Training of the input check by its script, in a few steps on phantoms."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from anomalib_cxr.data.phantom.drawing import draw_phantom
from anomalib_cxr.screening.pipeline.frontal_graph import KINDS, SIDE
from anomalib_cxr.screening.pipeline.input_check import WEIGHTS, InputCheck

BENCHMARKS = Path(__file__).resolve().parents[4] / "benchmarks"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import input_check_training  # noqa: PLC0415  # a script, which finds its neighbors there

        yield input_check_training
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def batches(script):
    rng = np.random.default_rng(5)
    drawn = [draw_phantom(rng, 96) for _ in range(4)]
    images = torch.from_numpy(np.stack([phantom.image for phantom in drawn]))[:, None]
    lungs = torch.from_numpy(np.stack([phantom.lungs for phantom in drawn]))[:, None].float()
    return lambda: script.Batches(images, lungs, seed=3, n_drawn=24)


def test_a_batch(batches):
    thumbnails, kinds, lungs = batches()()
    assert (thumbnails.shape, lungs.shape) == ((128, 1, SIDE, SIDE), (128, 1, 16, 16))
    assert 0 <= thumbnails.min() <= thumbnails.max() <= 1
    assert torch.bincount(kinds).tolist() == [40, 7, 7, 6, 6, 6, 16, 16, 24]
    assert len(KINDS) == kinds.max() + 1
    assert lungs[kinds > 0].max() == 0 < lungs[kinds == 0].amax((1, 2, 3)).min()


def test_the_packaged_check_agrees_with_the_kinds(batches):
    """What it is trained to refuse it refuses, mostly, also drawn anew."""
    thumbnails, kinds, _ = batches()()
    check = InputCheck.load(WEIGHTS)
    frontal = check.probabilities_of_thumbnails(thumbnails[:, 0].numpy())[:, 0] >= 0.2
    assert frontal[kinds.numpy() == 0].mean() >= 0.85
    assert frontal[kinds.numpy() > 0].mean() <= 0.15


def test_the_seed_tells_all(script, batches):
    first, again = (script.pack(script.fit(batches(), steps=2, seed=1)) for _ in range(2))
    assert first == again != script.pack(script.fit(batches(), steps=2, seed=2))


def test_drawings_span_all_grays(script):
    for drawn in (script.draw_others(24, 64, seed=1), script.draw_lateral_chests(2, 64, seed=1)):
        assert drawn.shape[1:] == (1, 64, 64)
        assert drawn.amin((1, 2, 3)).max() < 0.02
        assert drawn.amax((1, 2, 3)).min() > 0.98
        assert len(torch.unique(drawn.flatten(1), dim=0)) == len(drawn)
