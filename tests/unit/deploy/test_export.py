"""Exported models score as the trained one did, carry no discriminator, and are whole or not there."""

from __future__ import annotations

import shutil

import onnx
import onnxruntime
import openvino
import pytest
import torch
from anomalib.deploy import CompressionType, OpenVINOInferencer
from onnx import numpy_helper

from anomalib_cxr.deploy.openvino_graph import unmarked_types

from ..models.xrays import FLOAT32, smooth_images

pytestmark = pytest.mark.slow

INPUTS = [(64, 64), (200, 160), (700, 700), (97, 131)]


@pytest.fixture
def exports(model, onnx_file, monkeypatch):
    """The model, taking the ONNX graph of the other tests instead of seconds for one of its own."""
    monkeypatch.setattr(model, "to_onnx", lambda *_, **__: onnx_file)
    return model


@pytest.fixture
def infer(tmp_path, monkeypatch):
    """anomalib's inferencer; it makes a cache folder where it is started."""
    monkeypatch.chdir(tmp_path)

    def run(file, image, **settings):
        return OpenVINOInferencer(file, **settings).predict(image.permute(0, 2, 3, 1).numpy()[0])

    return run


def eager(model, image):
    with torch.no_grad():
        return model.eval()(image)


def assert_agrees(found_score, found_map, expected):
    score = expected.pred_score.item()
    assert 0.05 < score < 0.95  # the tolerance would mean little at the ends
    assert float(found_score.reshape(())) == pytest.approx(score, rel=1e-4)
    difference = (torch.as_tensor(found_map).reshape(expected.anomaly_map.shape) - expected.anomaly_map).abs()
    assert (difference > 1e-3).float().mean() < 2e-3  # a pixel on the edge of the painted region may fall either way


class TestScores:
    @pytest.mark.parametrize(("height", "width"), INPUTS)
    def test_onnx(self, model, onnx_file, height, width):
        image = smooth_images(height, width)
        session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(None, {session.get_inputs()[0].name: image.numpy()}), strict=True))
        assert set(names) == {"pred_score", "pred_label", "anomaly_map", "pred_mask"}
        expected = eager(model, image)
        assert_agrees(found["pred_score"], found["anomaly_map"], expected)
        assert bool(found["pred_label"].reshape(())) == bool(expected.pred_label)

    @pytest.mark.parametrize("size", INPUTS)
    def test_openvino(self, model, openvino_file, infer, size):
        image = smooth_images(*size)
        found = infer(openvino_file, image, **FLOAT32)
        assert_agrees(found.pred_score, found.anomaly_map, eager(model, image))

    @pytest.mark.parametrize("settings", [{}, {"device": "CPU", "config": {"INFERENCE_PRECISION_HINT": "bf16"}}])
    def test_openvino_without_the_hint_is_near(self, model, openvino_file, infer, settings):
        image = smooth_images(200, 160)
        found = infer(openvino_file, image, **settings)
        assert float(found.pred_score.reshape(())) == pytest.approx(eager(model, image).pred_score.item(), abs=0.05)

    def test_a_batch(self, model, onnx_file):
        images = smooth_images(80, 90, 3)
        session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
        (found,) = session.run(["pred_score"], {session.get_inputs()[0].name: images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), eager(model, images).pred_score, rtol=1e-4, atol=0)

    def test_compressed_to_half_precision(self, exports, openvino_file, infer, tmp_path):
        file = exports.to_openvino(tmp_path, compression_type=CompressionType.FP16)
        sizes = [path.with_suffix(".bin").stat().st_size for path in (file, openvino_file)]
        assert sizes[0] < 0.6 * sizes[1]
        assert unmarked_types(file) == {"Convolution", "ConvolutionBackpropData"}
        image = smooth_images(200, 160)
        exact = infer(file, image, **FLOAT32)
        assert float(exact.pred_score.reshape(())) == pytest.approx(eager(exports, image).pred_score.item(), rel=0.01)
        found = infer(file, image)
        assert float(found.pred_score.reshape(())) == pytest.approx(eager(exports, image).pred_score.item(), abs=0.05)

    def test_pytorch(self, model, tmp_path):
        file = model.to_torch(tmp_path)
        assert file == tmp_path / "weights" / "torch" / "model.pt"
        loaded = torch.load(file, weights_only=False)["model"]
        image = smooth_images(97, 131)
        assert torch.equal(eager(loaded, image).pred_score, eager(model, image).pred_score)


class TestContent:
    def test_the_graph_holds_no_discriminator(self, model, onnx_file):
        held = [numpy_helper.to_array(tensor) for tensor in onnx.load(onnx_file).graph.initializer]
        convolutions = sum(weight.numel() for weight in model.model.parameters() if weight.ndim == 4)
        scoring = sum(value.numel() for value in model.model.state_dict().values())
        assert convolutions <= sum(array.size for array in held) <= 1.01 * scoring
        head = model.discriminators[0].encoder.head.weight.shape
        assert head not in [array.shape for array in held]

    def test_every_operation_is_marked_to_stay_in_float32(self, openvino_file):
        assert unmarked_types(openvino_file) == set()

    def test_folders_are_anomalibs(self, onnx_file, openvino_file):
        assert onnx_file.parts[-3:] == ("weights", "onnx", "model.onnx")
        assert openvino_file.parts[-3:] == ("weights", "openvino", "model.xml")
        assert {file.name for file in openvino_file.parent.iterdir()} == {"model.xml", "model.bin"}


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class TestInterrupted:
    @pytest.fixture
    def exported(self, onnx_file, openvino_file, tmp_path):
        """A folder with a former ONNX and OpenVINO model and a file that the user put there."""
        for file in (onnx_file, openvino_file):
            shutil.copytree(file.parent, tmp_path / "weights" / file.parent.name)
        (tmp_path / "weights" / "openvino" / "notes.txt").write_text("mine")
        return tmp_path

    @pytest.mark.parametrize(
        ("stop", "match"), [(KeyboardInterrupt("ctrl-c"), "ctrl-c"), (OSError(28, "No space left"), "No space left")]
    )
    def test_former_onnx_stays(self, model, exported, monkeypatch, stop, match):
        def half(*_, f, **__):
            with open(f, "wb") as file:  # noqa: PTH123
                file.write(b"half")
            raise stop

        before = contents(exported)
        monkeypatch.setattr(torch.onnx, "export", half)
        with pytest.raises(type(stop), match=match):
            model.to_onnx(exported)
        with pytest.raises(type(stop), match=match):
            model.to_openvino(exported)
        assert contents(exported) == before
        assert [path.name for path in exported.iterdir()] == ["weights"]

    def test_former_openvino_stays(self, exports, exported, monkeypatch):
        save = openvino.save_model

        def half(graph, path, **settings):
            save(graph, path, **settings)
            path.with_suffix(".bin").write_bytes(b"half")
            raise KeyboardInterrupt("ctrl-c")

        before = contents(exported)
        monkeypatch.setattr(openvino, "save_model", half)
        with pytest.raises(KeyboardInterrupt, match="ctrl-c"):
            exports.to_openvino(exported)
        assert contents(exported) == before

    def test_what_a_kill_left_is_cleared_by_the_next_export(self, exports, exported):
        left_over = exported / ".exporting-killed" / "weights"
        left_over.mkdir(parents=True)
        (left_over / "model.bin").write_bytes(b"half")
        exports.to_openvino(exported)
        assert [path.name for path in exported.iterdir()] == ["weights"]
        assert (exported / "weights" / "openvino" / "notes.txt").read_text() == "mine"

    def test_a_new_export_replaces_the_former(self, model, tmp_path):
        file = model.to_torch(tmp_path, "lungs")
        file.write_bytes(b"former")
        assert model.to_torch(tmp_path, "lungs") == file
        assert file.stat().st_size > len(b"former")
        assert set(contents(tmp_path)) == {"weights/torch/lungs.pt"}
