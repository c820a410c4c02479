"""Exported models score as the trained one did, with the critic's features and without its last layer."""

from __future__ import annotations

import onnx
import onnxruntime
import pytest
import torch
from anomalib.deploy import OpenVINOInferencer
from onnx import numpy_helper

from anomalib_cxr import Fanogan

from ..xrays import FLOAT32, normalize_by, smooth_images

pytestmark = pytest.mark.slow

SIZES = [(32, 32), (97, 131)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Fanogan(image_size=32, n_features=4, latent_dim=10, visualizer=False)
    with torch.no_grad():
        for _ in range(20):
            model.model.generator(torch.randn(16, 10))  # running statistics that are not 0 and 1
    normalize_by(model, smooth_images(32, 32, 16))
    return model


@pytest.fixture(scope="module")
def onnx_file(model, tmp_path_factory):
    return model.to_onnx(tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="module")
def openvino_file(model, onnx_file, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "to_onnx", lambda *_, **__: onnx_file)
        return model.to_openvino(tmp_path_factory.mktemp("openvino"))


def assert_agrees(score, anomaly_map, model, image):
    with torch.no_grad():
        expected = model.eval()(image)
    assert 0.05 < expected.pred_score.item() < 0.95  # the tolerance would mean little at the ends
    assert float(score.reshape(())) == pytest.approx(expected.pred_score.item(), rel=1e-4)
    torch.testing.assert_close(
        torch.as_tensor(anomaly_map).reshape(expected.anomaly_map.shape), expected.anomaly_map, rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("size", SIZES)
def test_onnx(model, onnx_file, size):
    image = smooth_images(*size)
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    assert_agrees(*session.run(["pred_score", "anomaly_map"], {"input": image.numpy()}), model, image)


@pytest.mark.parametrize("size", SIZES)
def test_openvino(model, openvino_file, tmp_path, monkeypatch, size):
    monkeypatch.chdir(tmp_path)  # it makes a cache folder where it is started
    image = smooth_images(*size)
    found = OpenVINOInferencer(openvino_file, **FLOAT32).predict(image.permute(0, 2, 3, 1).numpy()[0])
    assert_agrees(found.pred_score, found.anomaly_map, model, image)


def test_the_graph_holds_what_scores_and_no_more(model, onnx_file):
    held = [numpy_helper.to_array(tensor) for tensor in onnx.load(onnx_file).graph.initializer]
    shapes = [array.shape for array in held]
    for name in ("generator.layers.0", "encoder.head"):
        assert tuple(model.model.get_submodule(name).weight.shape) in shapes
    (first,) = (
        weight.detach() for name, weight in model.model.features.named_parameters() if name == "layers.0.weight"
    )
    assert any(array.shape == first.shape and torch.equal(torch.from_numpy(array), first) for array in held)
    assert tuple(model.critic_head.weight.shape) not in shapes


def test_pytorch(model, tmp_path):
    head = model.critic_head
    loaded = torch.load(model.to_torch(tmp_path), weights_only=False)["model"]
    assert model.critic_head is head
    assert not list(loaded.critic_head.parameters())
    image = smooth_images(97, 131)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(image).pred_score, model.eval()(image).pred_score)
