"""The exported segmenter, against the one in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.segmentation.deployed import LungFinder, export_segmenter
from anomalib_cxr.segmentation.network import load_segmenter


@pytest.fixture(scope="module")
def segmenter(segmenter_path):
    return load_segmenter(segmenter_path)


def test_finds_what_the_segmenter_finds(segmenter, finder, images, stack):
    batch = torch.from_numpy(stack(images[:5]))
    reduced = torch.stack([finder.reduce(image) for image in batch])
    with torch.inference_mode():
        expected = segmenter(2 * reduced - 1)[:, 0].numpy()
    found = finder(reduced)
    assert (found.shape, found.dtype) == ((5, 32, 32), np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_finds_lungs(finder, images, phantoms):
    for path in images[:10]:
        found = finder(finder.reduce(read_radiograph(path))[None])[0] > 0.5
        truth = finder.reduce(read_mask(phantoms / "masks" / path.name)[None].float())[0].numpy() > 0.5
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8


@pytest.mark.parametrize("size", [(64, 64), (200, 90), (16, 31)])
def test_reduces_any_size(finder, size):
    reduced = finder.reduce(torch.rand(1, *size))
    assert reduced.shape == (1, 32, 32)
    assert 0 <= reduced.min() <= reduced.max() <= 1


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
    assert LungFinder(graph).side == 32
