"""Each generator and each input region scores in ONNX and in OpenVINO as in torch."""

from __future__ import annotations

import onnxruntime
import pytest
import torch
from anomalib.deploy import OpenVINOInferencer
from torch import nn

from anomalib_cxr import RoiSureGanomaly

from ..xrays import FLOAT32, grouped, normalize_by, smooth_images

pytestmark = pytest.mark.slow

CHOICES = {
    "residual_unet": {"network__generator": "residual_unet", "adversary__scheme": "wgan_gp", "target": "image"},
    "lungs": {"lungs__input_region": "lungs", "network__n_channels": 3, "distance": "mean_squared"},
    "residual_unet of lungs": {
        "network__generator": "residual_unet", "lungs__input_region": "lungs", "target": "image",
    },
    "box": {"lungs__alignment": "box", "lungs__normalization": "lung", "score": "residual"},
    "rows": {
        "lungs__alignment": "rows", "lungs__normalization": "local", "score": "residual",
        "ensemble__exposure_adjustment": True, "ensemble__n_folds": 2,
    },
    "codes": {"lungs__normalization": "local", "score": "mahalanobis"},
}  # fmt: skip


@pytest.fixture(scope="module", params=CHOICES.values(), ids=CHOICES)
def model(request):
    """A model with scores and maps well away from 0, and with lungs that are neither nothing nor all."""
    torch.manual_seed(0)
    settings = {"network__n_features": 8, "network__latent_dim": 10, **request.param}
    model = RoiSureGanomaly(image_size=32, visualizer=False, **grouped(settings))
    for network in model.model.ensemble:
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, a=0.2)
    with torch.no_grad():
        if model.model.segmenter is not None:
            _decide_at_the_median(model.model.segmenter.network)
        side = model.pre_processor.image_size
        for _ in range(20):
            model.model.features(2 * smooth_images(side, side, 16) - 1)  # running statistics that are not 0 and 1
        if model.model.learns_healthy:
            _fit_healthy(model.eval().model, side)
        normalize_by(model, smooth_images(side, side, 16))
        if model.model.score != "latent":  # a logarithm, which may be under 0
            scores = model.model(2 * smooth_images(side, side, 16) - 1).pred_score
            model.post_processor.image_min.fill_(3 * scores.min() - 2 * scores.max())
            model.post_processor.image_max.fill_(3 * scores.max() - 2 * scores.min())
    return model


def _fit_healthy(model, side):
    images = 2 * smooth_images(side, side, 80) - 1
    model.fit_healthy(model.features(images), torch.arange(80) % len(model.ensemble))


def _decide_at_the_median(segmenter):
    """Let an untrained segmenter call half of the pixels lung, and hardly any of them doubtful."""
    last = segmenter.unet.final_conv
    logits = segmenter.logits(2 * smooth_images(32, 32, 16)[:, :1] - 1)
    last.bias -= logits.median()
    last.weight *= 100
    last.bias *= 100


def test_onnx_and_openvino(model, tmp_path, monkeypatch):
    image = smooth_images(97, 131)
    with torch.no_grad():
        expected = model(image)
    file = model.to_onnx(tmp_path)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = dict(
        zip((each.name for each in session.get_outputs()), session.run(None, {"input": image.numpy()}), strict=True)
    )
    monkeypatch.setattr(model, "to_onnx", lambda *_, **__: file)
    monkeypatch.chdir(tmp_path)  # where anomalib's inferencer makes its cache
    inferred = OpenVINOInferencer(model.to_openvino(tmp_path), **FLOAT32).predict(image.permute(0, 2, 3, 1).numpy()[0])

    score = expected.pred_score.item()
    assert 0.05 < score < 0.95
    assert float(found["pred_score"].item()) == pytest.approx(score, rel=1e-4)
    assert float(inferred.pred_score[0]) == pytest.approx(score, rel=1e-4)
    if model.model.segmenter is not None:
        share = (model.model.segmenter(2 * image[:, :1] - 1) > 0.5).float().mean()
        assert 0.1 < share < 0.9
    for anomaly_map in (found["anomaly_map"], inferred.anomaly_map):
        difference = (torch.as_tensor(anomaly_map).reshape(expected.anomaly_map.shape) - expected.anomaly_map).abs()
        assert (difference > 1e-3).float().mean() < 2e-3  # a pixel on an edge may fall either way
