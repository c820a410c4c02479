"""Conversion of the segmenter to OpenVINO, against torch, and interrupted."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.segmentation.conversion import CompiledSegmenter, export_segmenter
from anomalib_cxr.segmentation.deployed import ExportedSegmenter
from anomalib_cxr.segmentation.network import load_segmenter


@pytest.fixture(scope="module")
def segmenter(segmenter_path):
    return load_segmenter(segmenter_path)


def test_compiled_one_is_that_of_torch_at_any_size(segmenter, shenzhen_files):
    compiled = CompiledSegmenter(segmenter)
    with torch.inference_mode():
        for path in sorted((shenzhen_files / "CXR_png").iterdir())[:5]:
            image = 2 * read_radiograph(path)[None] - 1
            torch.testing.assert_close(compiled(image), segmenter(image), atol=1e-4, rtol=0)


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
