"""Scores and labels of an exported model, against anomalib's own inferencer on the same files."""

from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import openvino
import pytest
from anomalib.deploy import OpenVINOInferencer

from anomalib_cxr.deploy.openvino_graph import finalize_graph, mark_precise, unmarked_types
from anomalib_cxr.deploy.runtime import (
    ExportedModel,
    graph_of,
    hash_of,
    hash_of_model,
    read_threshold,
    read_white,
    write_threshold,
)
from anomalib_cxr.errors import ScreeningError

from ..models.xrays import smooth_images


@pytest.fixture
def graph(openvino_file, tmp_path):
    """A copy of the graph as anomalib exports it."""
    return Path(shutil.copytree(openvino_file.parent, tmp_path / "exported")) / "model.xml"


@pytest.fixture
def infer(tmp_path, monkeypatch):
    """Ask anomalib's inferencer, which makes a cache folder where it is started."""
    monkeypatch.chdir(tmp_path)

    def run(graph, batch):
        inferencer = OpenVINOInferencer(graph, device="CPU", config={"INFERENCE_PRECISION_HINT": "f32"})
        found = [inferencer.predict(np.repeat(image, 3, axis=0).transpose(1, 2, 0)) for image in batch]
        scores = np.concatenate([each.pred_score.reshape(-1) for each in found])
        return scores, np.concatenate([each.pred_label.reshape(-1) for each in found]).astype(bool)

    return run


@pytest.fixture(scope="module")
def batch():
    return smooth_images(64, 64, 12)[:, :1].numpy()


def without_label(graph):
    """Take the label out of a model, as one has it that was trained without thresholds."""
    network = openvino.Core().read_model(graph)
    outputs = [output for output in network.outputs if "pred_label" not in output.get_names()]
    less = graph.with_name("less.xml")
    openvino.save_model(openvino.Model(outputs, network.get_parameters()), less, compress_to_fp16=False)
    return less


class TestScores:
    def test_are_those_of_anomalib(self, graph, batch, infer):
        found = ExportedModel(graph.parent)(batch)
        scores, labels = infer(graph, batch)
        np.testing.assert_allclose(found.score, scores, rtol=1e-5)
        assert found.label.tolist() == labels.tolist()
        assert np.ptp(found.score) > 0.1  # images that a model cannot tell apart would agree with anything

    def test_shapes_and_ranges(self, graph, batch):
        score, label, heat = ExportedModel(graph)(batch)
        assert (score.shape, label.shape, heat.shape) == ((12,), (12,), (12, 64, 64))
        assert (score.dtype, label.dtype, heat.dtype) == (np.float32, bool, np.float32)
        assert 0 <= min(score.min(), heat.min()) <= max(score.max(), heat.max()) <= 1


class TestThreshold:
    @pytest.mark.parametrize("rank", [0, 5, 11])
    def test_is_that_of_the_label(self, graph, batch, infer, rank):
        before = ExportedModel(graph)(batch)
        threshold = float(np.sort(before.score)[rank])  # one score lies just at it
        write_threshold(graph, threshold)
        after = ExportedModel(graph)(batch)
        expected = before.score >= np.float32(threshold)
        assert 12 - rank <= expected.sum() <= 12  # more where some score alike
        assert after.label.tolist() == expected.tolist()
        assert infer(graph, batch)[1].tolist() == expected.tolist()

    def test_moves_no_score(self, graph, batch):
        before = ExportedModel(graph)(batch)
        write_threshold(graph, 0.123456)
        after = ExportedModel(graph)(batch)
        assert np.array_equal(before.score, after.score)
        assert np.array_equal(before.heat, after.heat)

    def test_keeps_the_marks_of_precision(self, graph):
        assert not unmarked_types(graph)
        write_threshold(graph, 0.5)
        assert not unmarked_types(graph)

    def test_exempt_operations_stay_unmarked(self, graph, tmp_path):
        half = tmp_path / "half.xml"
        openvino.save_model(openvino.Core().read_model(graph), half, compress_to_fp16=True)
        mark_precise(half, {"Convolution"})
        write_threshold(half, 0.5)
        assert unmarked_types(half) == {"Convolution"}

    def test_a_later_one_replaces_it(self, graph, batch):
        assert read_threshold(graph) is None
        for threshold in (0.9, 0.1, 0.3):
            write_threshold(graph, threshold)
            assert read_threshold(graph) == np.float32(threshold)
            found = ExportedModel(graph)(batch)
            assert found.label.tolist() == (found.score >= np.float32(threshold)).tolist()

    def test_again_the_same_gives_the_same_files(self, graph):
        write_threshold(graph, 0.3)
        first = hash_of_model(graph)
        write_threshold(graph, 0.7)
        assert hash_of_model(graph) != first
        write_threshold(graph, 0.3)
        assert hash_of_model(graph) == first

    def test_an_interruption_leaves_the_model_as_it_was(self, graph, monkeypatch):
        def fail(*_, **__):
            raise OSError(28, "No space left on device")

        before = hash_of_model(graph)
        monkeypatch.setattr(openvino, "save_model", fail)
        with pytest.raises(OSError, match="No space left"):
            write_threshold(graph, 0.5)
        assert hash_of_model(graph) == before
        assert sorted(path.name for path in graph.parent.iterdir()) == ["model.bin", "model.xml"]


def test_white_of_sixteen_bit_images_stays_through_a_calibration(graph):
    assert read_white(graph) is None
    finalize_graph(graph, sixteen_bit_white=4095)
    write_threshold(graph, 0.3)
    assert read_white(graph) == 4095


class TestRefused:
    @pytest.mark.parametrize("name", ["model.xml", "model.bin"])
    def test_a_missing_file(self, graph, name):
        (graph.parent / name).unlink()
        with pytest.raises(ScreeningError, match=rf"no \S*{name}\n.*two files"):
            ExportedModel(graph.parent)

    def test_a_damaged_graph(self, graph):
        graph.write_text(graph.read_text()[:2000])
        with pytest.raises(ScreeningError, match=r"model.xml on CPU: .*(\n.*)*a model that OpenVINO can load"):
            ExportedModel(graph)

    def test_an_unknown_device(self, graph):
        with pytest.raises(ScreeningError, match=r"on NPU7: (.*\n)*.*on one of .*CPU"):
            ExportedModel(graph, "NPU7")

    def test_no_label(self, graph):
        with pytest.raises(ScreeningError, match=r"less.xml without pred_label\n.*outputs pred_score, pred_label"):
            ExportedModel(without_label(graph))


def test_hash(tmp_path):
    for name, content in {"a.xml": b"one", "a.bin": b"two"}.items():
        (tmp_path / name).write_bytes(content)
    assert hash_of([tmp_path / "a.bin"]) == sha256(b"two").hexdigest()
    assert hash_of_model(tmp_path / "a.xml") == sha256(b"onetwo").hexdigest()


def test_graph_of_a_folder_and_of_a_file(graph):
    assert graph_of(graph.parent) == graph_of(graph) == graph
