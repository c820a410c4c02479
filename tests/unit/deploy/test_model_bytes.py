"""What is loaded is what was read and hashed, whatever happens to the files."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import openvino
import pytest
from openvino import opset13 as op

from anomalib_cxr.deploy.model_bytes import ModelBytes
from anomalib_cxr.deploy.runtime import hash_of_model

MATRIX = np.arange(16, dtype=np.float32).reshape(4, 4)


@pytest.fixture
def graph(tmp_path):
    """A product by a matrix, which is in the file of weights."""
    given = op.parameter([1, 4], np.float32)
    network = openvino.Model([op.matmul(given, op.constant(MATRIX), False, False)], [given], "product")
    openvino.save_model(network, tmp_path / "model.xml", compress_to_fp16=False)
    return tmp_path / "model.xml"


def test_the_hash_is_that_of_the_files(graph):
    content = ModelBytes.read(graph)
    weights = graph.with_suffix(".bin").read_bytes()
    assert content == (graph.read_bytes(), weights)
    assert content.sha256 == sha256(graph.read_bytes() + weights).hexdigest() == hash_of_model(graph)


def test_files_that_are_exchanged_or_go_away_change_nothing(graph):
    content = ModelBytes.read(graph)
    graph.with_suffix(".bin").write_bytes(np.ones_like(MATRIX).tobytes())
    graph.unlink()
    row = np.float32([[1, 2, 3, 4]])
    found = openvino.Core().compile_model(content.load(), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(row)[0]
    np.testing.assert_allclose(found, row @ MATRIX)
