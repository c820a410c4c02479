"""Exported atlases score as the trained one does, with images of any size, and hold nothing twice."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from anomalib.deploy import OpenVINOInferencer
from onnx import numpy_helper
from torch.nn import functional

from ..xrays import FLOAT32, LUNGS, smooth_images

pytestmark = pytest.mark.slow

SIZES = [(128, 128), (97, 131), (300, 260)]


def films(height, width, n=1):
    """Films with lungs, as the atlas knows them, of another size: `(n, 3, height, width)` in [0, 1]."""
    lungs = functional.interpolate(LUNGS[None, None], (height, width), mode="bilinear")
    return 0.5 * smooth_images(height, width, n) + 0.5 * (1 - lungs)


@pytest.fixture(scope="module")
def model(trained):
    """The trained atlas; its post-processor turns the scores and maps of films into values well inside [0, 1].

    The score, in standard deviations of healthy films, is seen up to 10 beyond theirs: a tolerance of 1e-4 is about a
    thousandth of such a deviation.
    """
    model = trained.lightning_module.eval()
    with torch.no_grad():
        found = [model.model(model.pre_processor(films(*size))) for size in SIZES]
    scores = torch.cat([each.pred_score for each in found])
    top = max(each.anomaly_map.max() for each in found)
    bounds = {
        "image_min": scores.min() - 10, "image_max": scores.max() + 10, "_image_threshold": scores.mean(),
        "pixel_min": 0, "pixel_max": 2 * top, "_pixel_threshold": top / 2,
    }  # fmt: skip
    for name, value in bounds.items():
        getattr(model.post_processor, name).fill_(value)
    return model


@pytest.fixture(scope="module")
def onnx_file(model, tmp_path_factory):
    return model.to_onnx(tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="module")
def session(onnx_file):
    return onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def openvino_file(model, onnx_file, tmp_path_factory):
    """The OpenVINO model, of the ONNX graph of the other tests instead of seconds for one of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "to_onnx", lambda *_, **__: onnx_file)
        return model.to_openvino(tmp_path_factory.mktemp("openvino"))


@pytest.fixture(scope="module")
def make_inferencer(openvino_file, tmp_path_factory):
    def make(**settings):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path_factory.mktemp("cache"))  # it makes a cache folder where it is started
            return OpenVINOInferencer(openvino_file, **settings)

    return make


@pytest.fixture(scope="module")
def inferencer(make_inferencer):
    return make_inferencer(**FLOAT32)


def eager(model, images):
    with torch.no_grad():
        return model(images)


def assert_agrees(scores, maps, expected):
    assert ((expected.pred_score > 0.05) & (expected.pred_score < 0.95)).all()  # a tolerance means little at the ends
    torch.testing.assert_close(torch.as_tensor(scores).reshape(-1), expected.pred_score.reshape(-1), rtol=1e-4, atol=0)
    difference = (torch.as_tensor(maps).reshape(expected.anomaly_map.shape) - expected.anomaly_map).abs()
    assert (difference > 1e-3).float().mean() < 2e-3  # a pixel on the lungs' edge may fall either way


class TestScores:
    @pytest.mark.parametrize("size", SIZES)
    def test_onnx(self, model, session, size):
        images = films(*size)
        assert_agrees(*session.run(["pred_score", "anomaly_map"], {"input": images.numpy()}), eager(model, images))

    def test_onnx_takes_a_batch(self, model, session):
        images = films(80, 90, 3)
        scores, maps = session.run(["pred_score", "anomaly_map"], {"input": images.numpy()})
        assert len(set(scores.ravel().tolist())) == 3
        assert_agrees(scores, maps, eager(model, images))

    @pytest.mark.parametrize("size", SIZES)
    def test_openvino(self, model, inferencer, size):
        images = films(*size)
        found = inferencer.predict(images.permute(0, 2, 3, 1).numpy()[0])
        assert_agrees(found.pred_score, found.anomaly_map, eager(model, images))

    def test_openvino_takes_a_batch(self, model, inferencer):
        images = films(80, 90, 3)
        found = inferencer.model(images.numpy())
        assert_agrees(found["pred_score"], found["anomaly_map"], eager(model, images))

    def test_openvino_without_the_hint_is_near(self, model, make_inferencer):
        images = films(300, 260)
        found = make_inferencer().predict(images.permute(0, 2, 3, 1).numpy()[0])
        assert float(found.pred_score[0]) == pytest.approx(eager(model, images).pred_score.item(), abs=0.1)


class TestContent:
    """What weighs most and grows with the settings is there once."""

    def test_onnx(self, model, onnx_file):
        assert_once(model, [numpy_helper.to_array(each) for each in onnx.load(onnx_file).graph.initializer])

    def test_openvino(self, model, openvino_file):
        operations = openvino.Core().read_model(openvino_file).get_ops()
        assert_once(model, [each.get_data() for each in operations if each.get_type_name() == "Constant"])


def assert_once(model, held):
    """Compare what a graph holds with what was learned, in whatever order and shape it is kept there."""
    heavy = {
        name: value.numpy()
        for name, value in model.model.state_dict().items()
        if name.endswith((".components", ".bank", ".basis"))
    }
    assert len(heavy) == 5  # of 3 subspaces, and of the neighbors
    for name, value in heavy.items():
        kept = np.sort(value, axis=None)
        times = sum(each.size == kept.size and np.allclose(np.sort(each, axis=None), kept) for each in held)
        assert times == 1, name
