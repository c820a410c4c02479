"""The segmenter as it is loaded from its exported graph, against the one in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_cxr.data.reading.downsampling import downsample
from anomalib_cxr.data.reading.intensities import read_intensities
from anomalib_cxr.data.reading.radiograph import read_mask
from anomalib_cxr.segmentation.conversion import export_segmenter
from anomalib_cxr.segmentation.deployed import SEGMENTER_GRAPH, ExportedSegmenter
from anomalib_cxr.segmentation.network import load_segmenter

SIZE = (32, 32)
"""Of the segmenter of the tests."""


@pytest.fixture(scope="module")
def segmenter(segmenter_path):
    return load_segmenter(segmenter_path)


@pytest.fixture(scope="module")
def exported(segmenter, tmp_path_factory):
    graph = tmp_path_factory.mktemp("exported") / SEGMENTER_GRAPH
    export_segmenter(segmenter, graph)
    return ExportedSegmenter(graph)


@pytest.fixture(scope="module")
def images(shenzhen_files):
    return sorted((shenzhen_files / "CXR_png").iterdir())[:5]


def test_probability_is_that_of_torch(segmenter, exported, images):
    small = np.stack([downsample(read_intensities(path), SIZE) for path in images])
    with torch.inference_mode():
        expected = segmenter(2 * torch.from_numpy(small)[:, None] - 1)[:, 0].numpy()
    probability = exported(small)
    assert (probability.shape, probability.dtype) == ((5, 32, 32), np.float32)
    np.testing.assert_allclose(probability, expected, atol=1e-4)


def test_lungs_are_segmented(exported, images, shenzhen_files):
    for path in images:
        lungs = exported(downsample(read_intensities(path), SIZE)[None])[0] > 0.5
        mask = read_mask(shenzhen_files / "masks" / f"{path.stem}_mask.png")
        truth = downsample(mask.float().numpy(), SIZE) > 0.5
        assert 2 * (lungs & truth).sum() / (lungs.sum() + truth.sum()) > 0.8
