"""Scores and labels of an exported model, against anomalib's own inferencer on the same files."""

from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from anomalib.deploy import OpenVINOInferencer

from anomalib_cxr.data.reading.file_hashes import KnownImages
from anomalib_cxr.deploy.export import TrainingFacts
from anomalib_cxr.deploy.openvino_graph import finalize_graph, mark_precise, unmarked_types
from anomalib_cxr.deploy.runtime import (
    ExportedModel,
    graph_of,
    hash_of,
    hash_of_model,
    read_threshold,
    read_training_images,
    read_white,
    write_threshold,
)
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.models.base.module import RadiographModule

from ..models.xrays import smooth_images

NORMALIZATION = ("image_min", "_image_threshold", "image_max")


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
        score, raw_score, label, heat, _ = ExportedModel(graph)(batch)
        assert (score.shape, raw_score.shape, label.shape, heat.shape) == ((12,), (12,), (12,), (12, 64, 64))
        assert (score.dtype, raw_score.dtype, label.dtype, heat.dtype) == (np.float32, np.float32, bool, np.float32)
        assert 0 <= min(score.min(), heat.min()) <= max(score.max(), heat.max()) <= 1
        assert ExportedModel(graph).side == 64


class TestRawScore:
    @pytest.fixture(scope="class")
    def export_normalized(self, model, tmp_path_factory):
        """Export the model as if validation had given another lowest score, threshold and highest score."""

        def export(*scores, by=None):
            buffers = [getattr(model.post_processor, name).data for name in NORMALIZATION]
            before = [buffer.clone() for buffer in buffers]
            try:
                for buffer, score in zip(buffers, scores, strict=True):
                    buffer.fill_(float(score))
                return (by or type(model).to_openvino)(model, tmp_path_factory.mktemp("normalized"))
            finally:
                for buffer, score in zip(buffers, before, strict=True):
                    buffer.copy_(score)

        return export

    @pytest.fixture(scope="class")
    def scores(self, model, batch):
        """Scores by PyTorch, before normalization."""
        images = torch.from_numpy(np.repeat(batch, 3, axis=1))
        with torch.no_grad():
            return model.eval().model(model.pre_processor(images)).pred_score.numpy()

    @pytest.fixture(scope="class")
    def narrow(self, scores):
        """Normalization that clamps most scores, and the raw scores by hand."""
        lowest, threshold, highest = np.quantile(scores, [0.4, 0.5, 0.6])
        return (lowest, threshold, highest), (scores - threshold) / (highest - lowest) + 0.5

    def test_is_that_of_pytorch_where_scores_are_clamped(self, export_normalized, narrow, batch, infer):
        normalization, expected = narrow
        graph = export_normalized(*normalization)
        write_threshold(graph, 0.4)  # as a calibration does
        found = ExportedModel(graph)(batch)
        np.testing.assert_allclose(found.raw_score, expected, rtol=1e-3, atol=1e-3)
        assert np.isin(found.score, (0, 1)).sum() >= 8
        assert len(np.unique(found.raw_score)) == len(batch)
        np.testing.assert_array_equal(found.score, found.raw_score.clip(0, 1))
        np.testing.assert_allclose(infer(graph, batch)[0], found.score, atol=1e-5)  # anomalib takes the export too

    def test_is_in_an_export_by_anomalib_alone(self, export_normalized, narrow, batch):
        normalization, expected = narrow
        graph = export_normalized(
            *normalization, by=lambda model, folder: super(RadiographModule, model).to_openvino(folder)
        )
        np.testing.assert_allclose(ExportedModel(graph)(batch).raw_score, expected, rtol=1e-3, atol=1e-3)

    def test_of_a_model_that_saw_no_difference_in_validation_is_the_score(self, export_normalized, scores, batch):
        found = ExportedModel(export_normalized(*[np.median(scores)] * 3))(batch)
        assert set(found.score) == {0, 1}
        np.testing.assert_array_equal(found.raw_score, found.score)

    def test_that_is_no_number_shows(self, graph, batch):
        found = ExportedModel(graph)(np.full_like(batch[:1], np.nan))
        assert np.isnan(found.raw_score).all()
        assert np.isnan(found.score).all()


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


def test_facts_of_the_training_stay_through_a_calibration(graph):
    assert read_white(graph) is None
    assert len(read_training_images(graph)) == 0
    images = KnownImages.of(sha256(bytes([number])).hexdigest() for number in range(100))
    finalize_graph(graph, facts=TrainingFacts(4095, images.text))
    write_threshold(graph, 0.3)
    assert read_white(graph) == 4095
    assert read_training_images(graph) == images


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
