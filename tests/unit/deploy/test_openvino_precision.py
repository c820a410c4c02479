"""Rewritten OpenVINO models compute the same, in float32 throughout, and are whole or as they were."""

from __future__ import annotations

from xml.etree import ElementTree as ET  # reads only what a test has just written

import numpy as np
import openvino
import pytest
from openvino import opset13 as op

from anomalib_cxr.deploy import openvino_precision as float32
from anomalib_cxr.deploy.openvino_precision import keep_float32

VALUES = np.array([[3.0, -2.5, 1e-4], [0.0, 7.25, -1e4]], dtype=np.float32)
DIVISORS = np.array([[-4.0, 1e-20, 3e-5], [2.0, -1e-20, 1e20]], dtype=np.float32)


def parameter(shape, name, kind=np.float32):
    node = op.parameter(shape, kind)
    node.set_friendly_name(name)
    return node


def save(folder, results, parameters):
    """Write a model whose results carry the names of what they come from."""
    for result in results:
        result.output(0).set_names({result.get_friendly_name()})
    path = folder / "model.xml"
    openvino.save_model(openvino.Model(results, parameters), path, compress_to_fp16=False)
    return path


@pytest.fixture
def arithmetic(tmp_path):
    """A difference, a quotient, axes that come and go, and whole numbers, of any number of rows."""
    left, right, count = parameter([-1, 3], "left"), parameter([-1, 3], "right"), parameter([1], "count", np.int64)
    results = {
        "difference": op.subtract(left, right),
        "quotient": op.divide(left, right),
        "reached": op.subtract(op.unsqueeze(left, [1]), op.constant(np.float32([[1.0], [2.0]]))),
        "squeezed": op.squeeze(op.unsqueeze(op.multiply(left, right), [0]), [0]),
        "whole": op.divide(op.subtract(count, op.constant(np.int64([1]))), op.constant(np.int64([2]))),
    }
    for name, node in results.items():
        node.set_friendly_name(name)
    return save(tmp_path, list(results.values()), [left, right, count])


def run(path, *inputs):
    """Return what a model says, by the names of its results, computed in the precision that the model asks for."""
    compiled = openvino.Core().compile_model(path, "CPU")
    found = compiled(inputs)
    return {next(iter(output.get_names())): found[output] for output in compiled.outputs}


def layers(path):
    return list(ET.parse(path).getroot().iter("layer"))  # noqa: S314


def marks(layer):
    return {mark.get("name") for mark in layer.iterfind("rt_info/attribute")}


class TestResults:
    @pytest.fixture
    def found(self, arithmetic):
        keep_float32(arithmetic)
        return run(arithmetic, VALUES, DIVISORS, np.int64([8]))

    def test_differences(self, found):
        np.testing.assert_allclose(found["difference"], VALUES - DIVISORS, rtol=1e-6)

    def test_quotients_by_negative_and_tiny_divisors(self, found):
        np.testing.assert_allclose(found["quotient"], VALUES.astype(np.float64) / DIVISORS, rtol=2e-5)

    def test_axes(self, found):
        np.testing.assert_allclose(found["reached"], VALUES[:, None] - np.float32([[1.0], [2.0]]), rtol=1e-6)
        np.testing.assert_allclose(found["squeezed"], VALUES * DIVISORS, rtol=1e-6)

    def test_whole_numbers_stay_whole(self, found):
        assert found["whole"].dtype == np.int64
        assert found["whole"].tolist() == [3]  # 7 / 2

    def test_no_division_where_there_is_nothing_to_divide(self, arithmetic):
        before = run(arithmetic, VALUES, DIVISORS, np.int64([8]))
        keep_float32(arithmetic)
        after = run(arithmetic, VALUES[:0], DIVISORS[:0], np.int64([8]))
        assert {name: value.shape[1:] for name, value in after.items()} == {
            name: value.shape[1:] for name, value in before.items()
        }


class TestGraph:
    def test_each_layer_is_marked_once(self, arithmetic):
        assert not any(map(marks, layers(arithmetic)))
        for _ in range(2):
            keep_float32(arithmetic)
            assert layers(arithmetic)
            for layer in layers(arithmetic):
                assert len(layer.findall("rt_info")) == 1
                assert [mark.get("name") for mark in layer.iterfind("rt_info/attribute")].count("precise") == 1

    def test_nothing_is_left_that_openvino_would_rewrite(self, arithmetic):
        keep_float32(arithmetic)
        rewritten = {"Subtract", "Divide", "Unsqueeze", "Squeeze"}
        kept = [layer for layer in layers(arithmetic) if layer.get("type") in rewritten]
        assert {port.get("precision") for layer in kept for port in layer.iterfind("output/port")} <= {"I64"}

    def test_inputs_and_results_keep_their_names(self, arithmetic):
        before = openvino.Core().read_model(arithmetic)
        keep_float32(arithmetic)
        after = openvino.Core().read_model(arithmetic)
        assert [each.get_names() for each in after.outputs] == [each.get_names() for each in before.outputs]
        names = [[each.get_friendly_name() for each in model.get_parameters()] for model in (before, after)]
        assert names[0] == names[1] == ["left", "right", "count"]

    def test_more_than_one_open_side_keeps_its_axes(self, tmp_path):
        values = parameter([-1, -1], "values")
        path = save(tmp_path, [op.unsqueeze(values, [1])], [values])
        keep_float32(path)
        (found,) = openvino.Core().compile_model(path, "CPU")([VALUES]).values()
        np.testing.assert_array_equal(found, VALUES[:, None])


class TestTransposed:
    """A matrix by whose transpose something is multiplied, too."""

    @pytest.fixture
    def projection(self, tmp_path):
        """What a subspace does: to its coordinates, and back."""
        directions = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
        values = parameter([-1, 200], "values")
        coordinates = op.matmul(values, op.constant(directions), transpose_a=False, transpose_b=False)
        back = op.matmul(coordinates, op.constant(directions.T.copy()), transpose_a=False, transpose_b=False)
        return directions, save(tmp_path, [back], [values])

    def test_is_kept_once(self, projection):
        directions, path = projection
        before = path.with_suffix(".bin").stat().st_size
        keep_float32(path)
        assert before - path.with_suffix(".bin").stat().st_size == pytest.approx(directions.nbytes, abs=100)

    def test_gives_the_same_products(self, projection):
        directions, path = projection
        keep_float32(path)
        values = np.random.default_rng(1).normal(size=(4, 200)).astype(np.float32)
        (found,) = openvino.Core().compile_model(path, "CPU")([values]).values()
        np.testing.assert_allclose(found, values @ directions @ directions.T, rtol=1e-4, atol=1e-4)

    def test_of_two_other_matrices_both_are_kept(self, tmp_path):
        one, other = (np.random.default_rng(seed).normal(size=(20, 20)).astype(np.float32) for seed in (0, 1))
        values = parameter([-1, 20], "values")
        first = op.matmul(values, op.constant(one), transpose_a=False, transpose_b=False)
        path = save(tmp_path, [op.matmul(first, op.constant(other), transpose_a=False, transpose_b=False)], [values])
        keep_float32(path)
        given = np.eye(20, dtype=np.float32)
        (found,) = openvino.Core().compile_model(path, "CPU")([given]).values()
        np.testing.assert_allclose(found, one @ other, rtol=1e-4, atol=1e-4)


class TestFailure:
    @pytest.mark.parametrize("failing", ["mark_precise", "_replace"])
    def test_the_file_is_as_it_was(self, arithmetic, monkeypatch, failing):
        def fail(*_):
            raise OSError(28, "No space left")

        before = {file.name: file.read_bytes() for file in arithmetic.parent.iterdir()}
        monkeypatch.setattr(float32, failing, fail)
        with pytest.raises(OSError, match="No space left"):
            keep_float32(arithmetic)
        assert {file.name: file.read_bytes() for file in arithmetic.parent.iterdir()} == before
