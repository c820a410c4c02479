"""What is quantized, what is stored small, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import openvino
import pytest
import torch
from anomalib.deploy import CompressionType
from openvino import opset13 as op

from anomalib_cxr.deploy.quantization import quantize
from anomalib_cxr.errors import SettingError

SIDE = 512  # a square of it is a great matrix
DRAW = np.random.default_rng(0)


def drawn(*shape):
    return DRAW.standard_normal(shape).astype(np.float32)


def named(values, name):
    constant = op.constant(values)
    constant.set_friendly_name(name)
    return constant


@pytest.fixture
def network():
    """Three convolutions, the last into a pixel, a great matrix and a small one, a score and a label."""
    image = op.parameter([-1, 3, 8, 8], openvino.Type.f32)
    around = ([1, 1], [1, 1], [1, 1], [1, 1])
    features = op.relu(op.convolution(image, named(drawn(8, 3, 3, 3), "model.net.weight"), *around))
    features = op.relu(op.convolution(features, named(drawn(8, 8, 3, 3) / 9, "model.filters"), *around))
    code = op.convolution(
        features, named(drawn(SIDE, 8, 8, 8) / SIDE**0.5, "model.head"), [1, 1], [0, 0], [0, 0], [1, 1]
    )
    values = op.reshape(code, [-1, SIDE], special_zero=False)
    values = op.matmul(values, named(drawn(SIDE, SIDE) / SIDE**0.5, "great"), transpose_a=False, transpose_b=False)
    values = op.matmul(values, named(drawn(SIDE, 2) / SIDE**0.5, "small"), transpose_a=False, transpose_b=False)
    score = op.sigmoid(op.reduce_mean(values, [1]))
    label = op.greater(score, op.constant(np.float32(0.5)))
    network = openvino.Model([score, label], [image])
    for output, name in zip(network.outputs, ("pred_score", "pred_label"), strict=True):
        output.get_tensor().set_names({name})
    return network


class Data(torch.utils.data.Dataset):
    """A data module and its validation images in one."""

    def __init__(self, labels):
        draw = torch.Generator().manual_seed(0)
        self.items = [
            SimpleNamespace(image=torch.rand(1, 3, 8, 8, generator=draw), gt_label=torch.tensor([label]))
            for label in labels
        ]
        self.collate_fn = lambda items: items[0]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        return self.items[number]

    def prepare_data(self):
        pass

    def setup(self, stage):
        pass

    def val_dataloader(self):
        return SimpleNamespace(dataset=self)


def weights_of(network):
    return {each.get_friendly_name(): each for each in network.get_ordered_ops() if each.get_type_name() == "Constant"}


def outputs(network):
    images = np.random.default_rng(1).random((16, 3, 8, 8), dtype=np.float32)
    return openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)["pred_score"]


@pytest.mark.parametrize("kind", [CompressionType.INT8, CompressionType.INT8_PTQ])
def test_scores_are_near_and_only_great_matrices_are_small(network, kind):
    wanted = outputs(network)
    quantized = quantize(network.clone(), kind, Data([False, True] * 4))
    np.testing.assert_allclose(outputs(quantized), wanted, atol=0.1)
    weights = weights_of(quantized)
    assert weights["great"].get_element_type() == openvino.Type.i8
    assert weights["small"].get_element_type() == openvino.Type.f32


def inputs_of_convolutions(network):
    return [
        each.input_value(0).get_node().get_type_name()
        for each in network.get_ordered_ops()
        if each.get_type_name() == "Convolution"
    ]


def test_convolutions_take_integers_but_for_one_into_a_point(network):
    quantized = quantize(network, CompressionType.INT8_PTQ, Data([False] * 4))
    assert inputs_of_convolutions(quantized) == ["FakeQuantize", "FakeQuantize", "Relu"]


@pytest.mark.parametrize(("data", "found"), [(None, "no data"), (Data([]), "no validation images")])
def test_images_are_needed(network, data, found):
    with pytest.raises(SettingError, match=f"(?s){found}.*next step: give the configuration"):
        quantize(network, CompressionType.INT8_PTQ, data)


def test_accuracy_aware_quantization_is_refused(network):
    with pytest.raises(SettingError, match=r"(?s)int8_acq.*next step: export with --compression_type INT8_PTQ"):
        quantize(network, CompressionType.INT8_ACQ, Data([False, True]))
