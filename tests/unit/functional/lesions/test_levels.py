"""Gray values that lesions are measured in."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from anomalib_cxr.functional.lesions import gray_levels
from anomalib_cxr.functional.lesions.drawing import sample_opacities, soften_edges


@pytest.mark.parametrize("size", [(96, 96), (40, 64)])
def test_levels_are_quantiles_of_each_image(chest, generator, size):
    lungs, inside = chest(size)
    lungs = lungs * torch.rand(lungs.shape, generator=generator)
    levels = gray_levels(lungs, inside)
    for image, lung, tissue, contrast in zip(lungs, inside, *levels, strict=True):
        values, within = (each[0, ::3, ::3].numpy() for each in (image, lung > 0.5))
        assert tissue.item() == pytest.approx(np.quantile(values, 0.97), abs=1e-5)
        low, high = np.quantile(values[within], [0.1, 0.9])
        assert contrast.item() == pytest.approx(high - low + 0.02, abs=1e-5)


def test_without_lungs_the_whole_frame_counts(chest):
    lungs, inside = chest()
    found, expected = gray_levels(lungs, 0 * inside), gray_levels(lungs, torch.ones_like(inside))
    assert all(map(torch.equal, found, expected))


def test_opacities_are_uniform_in_their_logarithm(generator):
    drawn = sample_opacities(torch.zeros(500, 1, 1, 1), generator).log().flatten()
    assert kstest(drawn, "uniform", (math.log(0.12), math.log(0.9 / 0.12))).pvalue > 1e-3


def test_the_edge_of_the_lungs_is_softened_over_an_equal_share_of_the_height():
    for height in (64, 128):
        inside = torch.zeros(1, 1, height, height)
        inside[..., height // 2 :, :] = 1
        profile = soften_edges(inside)[0, 0, :, height // 2]
        rising = ((profile > 0) & (profile < 1))[: height * 3 // 4]
        assert rising.sum() / height == pytest.approx(1 / 16)
