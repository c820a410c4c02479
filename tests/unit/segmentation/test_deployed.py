"""The exported segmenter, against the one in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.segmentation.deployed import SEGMENTER_GRAPH, CompiledSegmenter, ExportedSegmenter, export_segmenter
from anomalib_cxr.segmentation.network import load_segmenter


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
    small = torch.stack([exported.downsample(read_radiograph(path)) for path in images])
    with torch.inference_mode():
        expected = segmenter(2 * small - 1)[:, 0].numpy()
    probability = exported(small)
    assert (probability.shape, probability.dtype) == ((5, 32, 32), np.float32)
    np.testing.assert_allclose(probability, expected, atol=1e-4)


def test_compiled_one_is_that_of_torch_at_any_size(segmenter, images):
    compiled = CompiledSegmenter(segmenter)
    with torch.inference_mode():
        for path in images:
            image = 2 * read_radiograph(path)[None] - 1
            torch.testing.assert_close(compiled(image), segmenter(image), atol=1e-4, rtol=0)


def test_lungs_are_segmented(exported, images, shenzhen_files):
    for path in images:
        lungs = exported(exported.downsample(read_radiograph(path))[None])[0] > 0.5
        mask = read_mask(shenzhen_files / "masks" / f"{path.stem}_mask.png")
        truth = exported.downsample(mask[None].float())[0].numpy() > 0.5
        assert 2 * (lungs & truth).sum() / (lungs.sum() + truth.sum()) > 0.8


@pytest.mark.parametrize("size", [(64, 64), (200, 90), (16, 31)])
def test_any_size_is_downsampled(exported, size):
    small = exported.downsample(torch.rand(1, *size))
    assert small.shape == (1, 32, 32)
    assert 0 <= small.min() <= small.max() <= 1


def test_an_interrupted_export_leaves_the_former(segmenter, tmp_path, monkeypatch):
    graph = tmp_path / "lungs.xml"
    export_segmenter(segmenter, graph)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert {path.name for path in files} == {"lungs.xml", "lungs.bin"}

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openvino.save_model", fail)
    with pytest.raises(OSError, match="No space left"):
        export_segmenter(segmenter, graph)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files
    assert ExportedSegmenter(graph).side == 32
