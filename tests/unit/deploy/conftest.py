"""A small model with random weights, and what is exported from it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anomalib_cxr import RoiSureGanomaly

from ..models.xrays import normalize_by, smooth_images


@pytest.fixture(scope="session")
def model():
    torch.manual_seed(0)
    model = RoiSureGanomaly(image_size=64, network={"n_features": 8, "latent_dim": 10}, visualizer=False)
    for layer in model.model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, a=0.2)
    with torch.no_grad():
        for _ in range(20):
            model.model(2 * smooth_images(64, 64, 16) - 1)  # running statistics that are not 0 and 1
    normalize_by(model, smooth_images(64, 64, 16))
    return model


@pytest.fixture(scope="session")
def onnx_file(model, tmp_path_factory):
    return model.to_onnx(tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="session")
def openvino_file(model, onnx_file, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "to_onnx", lambda *_, **__: onnx_file)
        return model.to_openvino(tmp_path_factory.mktemp("openvino"))
