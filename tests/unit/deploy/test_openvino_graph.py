"""Marks against lower precision, matrices that are stored once, and files that are replaced whole."""

from __future__ import annotations

from xml.etree import ElementTree as ET  # reads only what a test has just written

import numpy as np
import openvino
import pytest
import torch
from anomalib.deploy.export import CompressionType
from openvino import opset13 as op
from torch import nn

from anomalib_cxr.deploy import openvino_graph
from anomalib_cxr.deploy.openvino_graph import (
    finalize_graph,
    find_segmenter,
    mark_precise,
    reduces_to,
    unmarked_types,
)
from anomalib_cxr.deploy.quantization import quantize
from anomalib_cxr.models.base.pre_processor import RoiPreProcessor


def save(folder, result, parameter):
    path = folder / "model.xml"
    openvino.save_model(openvino.Model([result], [parameter]), path, compress_to_fp16=False)
    return path


@pytest.fixture
def graph(tmp_path):
    """A model of three operations: y = relu(x + 1)."""
    given = op.parameter([2], np.float32)
    network = openvino.Model([op.relu(op.add(given, op.constant(np.ones(2, np.float32))))], [given])
    openvino.save_model(network, tmp_path / "model.xml", compress_to_fp16=False)
    return tmp_path / "model.xml"


def marks(graph):
    layers = ET.parse(graph).getroot().iter("layer")  # noqa: S314  # written by this test
    return [[mark.get("name") for mark in layer.iter("attribute")].count("precise") for layer in layers]


def test_each_operation_is_marked_once(graph):
    assert set(marks(graph)) == {0}
    for _ in range(2):
        mark_precise(graph)
        assert set(marks(graph)) == {1}
        assert len(marks(graph)) >= 4


def test_the_model_computes_as_before(graph):
    mark_precise(graph)
    network = openvino.Core().compile_model(graph, "CPU")
    assert network(np.array([-3, 2], np.float32))[0].tolist() == [0, 3]


def test_openvino_reads_the_mark(graph):
    def told():
        (addition,) = [each for each in openvino.Core().read_model(graph).get_ops() if each.get_type_name() == "Add"]
        return set(addition.get_rt_info())

    before = told()
    mark_precise(graph)
    (found,) = told() - before
    assert "Precision" in found  # OpenVINO's own name of the attribute is DisablePrecisionConversion


def test_types_can_be_left_to_the_machine(graph):
    assert {"Add", "ReLU", "Const", "Parameter", "Result"} <= unmarked_types(graph)
    mark_precise(graph, {"ReLU"})
    assert unmarked_types(graph) == {"ReLU"}
    mark_precise(graph)
    assert unmarked_types(graph) == set()


class TestTransposed:
    """A matrix by whose transpose something is multiplied, too."""

    @pytest.fixture
    def projection(self, tmp_path):
        """What a subspace does: to its coordinates, and back."""
        directions = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
        values = op.parameter([-1, 200], np.float32)
        coordinates = op.matmul(values, op.constant(directions), transpose_a=False, transpose_b=False)
        back = op.matmul(coordinates, op.constant(directions.T.copy()), transpose_a=False, transpose_b=False)
        return directions, save(tmp_path, back, values)

    def test_is_kept_once(self, projection):
        directions, path = projection
        before = path.with_suffix(".bin").stat().st_size
        finalize_graph(path)
        assert before - path.with_suffix(".bin").stat().st_size == pytest.approx(directions.nbytes, abs=100)

    def test_gives_the_same_products(self, projection):
        directions, path = projection
        finalize_graph(path)
        values = np.random.default_rng(1).normal(size=(4, 200)).astype(np.float32)
        (found,) = openvino.Core().compile_model(path, "CPU")([values]).values()
        np.testing.assert_allclose(found, values @ directions @ directions.T, rtol=1e-4, atol=1e-4)

    def test_of_two_other_matrices_both_are_kept(self, tmp_path):
        one, other = (np.random.default_rng(seed).normal(size=(20, 20)).astype(np.float32) for seed in (0, 1))
        values = op.parameter([-1, 20], np.float32)
        first = op.matmul(values, op.constant(one), transpose_a=False, transpose_b=False)
        path = save(tmp_path, op.matmul(first, op.constant(other), transpose_a=False, transpose_b=False), values)
        finalize_graph(path)
        given = np.eye(20, dtype=np.float32)
        (found,) = openvino.Core().compile_model(path, "CPU")([given]).values()
        np.testing.assert_allclose(found, one @ other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("half_weights", [False, True])
def test_weights_in_half_precision_exempt_convolutions(tmp_path, half_weights):
    image = op.parameter([1, 1, 4, 4], np.float32)
    kernel = op.constant(np.random.default_rng(0).normal(size=(64, 1, 3, 3)).astype(np.float32))
    path = save(tmp_path, op.relu(op.convolution(image, kernel, [1, 1], [0, 0], [0, 0], [1, 1])), image)
    finalize_graph(path, half_weights=half_weights)
    assert unmarked_types(path) == ({"Convolution"} if half_weights else set())
    assert path.with_suffix(".bin").stat().st_size == 64 * 9 * (2 if half_weights else 4)


@pytest.mark.parametrize("failing", ["mark_precise", "share_transposed"])
def test_a_failure_leaves_the_files_as_they_were(graph, monkeypatch, failing):
    def fail(*_):
        raise OSError(28, "No space left")

    before = {file.name: file.read_bytes() for file in graph.parent.iterdir()}
    monkeypatch.setattr(openvino_graph, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        finalize_graph(graph)
    assert {file.name: file.read_bytes() for file in graph.parent.iterdir()} == before


class TestReduction:
    @pytest.mark.parametrize(
        ("first", "expected"),
        [
            (RoiPreProcessor(32), True),
            (nn.Upsample((32, 32), mode="bilinear"), False),  # without antialiasing
            (nn.Sequential(RoiPreProcessor(32), nn.AvgPool2d(3, 1, 1)), True),
            (nn.Sequential(nn.AvgPool2d(3, 1, 1), RoiPreProcessor(32)), False),
        ],
        ids=["antialiased", "not antialiased", "smoothed afterwards", "smoothed before"],
    )
    def test_is_found_where_images_may_be_reduced_before(self, first, expected):
        network = openvino.convert_model(first.eval(), example_input=torch.rand(1, 3, 48, 40))
        assert reduces_to(network, 32) is expected


def test_a_segmenter_is_found_by_its_weights():
    drawn = nn.Conv2d(1, 1, 3, padding=1)
    with torch.no_grad():
        drawn.weight.copy_(torch.arange(9.0).reshape(1, 1, 3, 3))
    one, same, other = (
        openvino.convert_model(nn.Sequential(*layers), example_input=torch.rand(1, 1, 8, 8), input=[1, 1, 8, 8])
        for layers in (
            (drawn, nn.Sigmoid()),
            (drawn, nn.Sigmoid(), nn.Conv2d(1, 2, 1)),
            (drawn, nn.Conv2d(1, 1, 1), nn.Sigmoid()),
        )
    )
    weights = [find_segmenter(network, 8)[1] for network in (one, same, other)]
    assert weights[0] == weights[1] != weights[2]
    assert find_segmenter(one, 16) is None


@pytest.mark.parametrize("compression", ["INT8", "FP16"])
def test_a_compressed_segmenter_is_known_by_the_weights_before(tmp_path, compression):
    """Else the lungs would be segmented twice: by the model, and by the same network beside it."""
    drawn = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Sigmoid())
    network = openvino.convert_model(drawn, example_input=torch.rand(1, 1, 8, 8), input=[1, 1, 8, 8])
    network.output(0).get_tensor().set_names({"anomaly_map"})
    weights = find_segmenter(network, 8)[1]
    graph = tmp_path / "model.xml"
    openvino.save_model(quantize(network, CompressionType.INT8) if compression == "INT8" else network, graph, False)
    finalize_graph(graph, half_weights=compression == "FP16")
    compressed = openvino.Core().read_model(graph)
    assert find_segmenter(compressed, 8)[1] == weights
    assert {str(op.data.dtype) for op in compressed.get_ops() if op.get_type_name() == "Constant"} & {"int8", "float16"}
