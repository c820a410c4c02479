"""OpenVINO's mark of precision."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import openvino
import pytest
from openvino import opset13 as op

from anomalib_cxr.deploy.openvino_precision import is_marked_precise, mark_precise, types_unmarked


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
    assert not is_marked_precise(graph)
    for _ in range(2):
        mark_precise(graph)
        assert is_marked_precise(graph)
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
    everything = types_unmarked(graph)
    assert {"Add", "ReLU", "Const", "Parameter", "Result"} <= everything
    mark_precise(graph, {"ReLU"})
    assert is_marked_precise(graph)
    assert types_unmarked(graph) == {"ReLU"}
    mark_precise(graph)
    assert types_unmarked(graph) == set()
