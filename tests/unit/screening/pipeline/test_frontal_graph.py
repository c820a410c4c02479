"""The graph of the input check against the network in torch that it was trained as."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from safetensors.torch import load

from anomalib_cxr.screening.pipeline.frontal_graph import KINDS, SIDE, build_graph
from anomalib_cxr.screening.pipeline.input_check import WEIGHTS, InputCheck

BENCHMARKS = Path(__file__).resolve().parents[4] / "benchmarks"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import frontal_network  # noqa: PLC0415  # of the training

        yield frontal_network
    finally:
        sys.path.remove(str(BENCHMARKS))


def images(number, seed=0):
    return torch.rand(number, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def infer(network, thumbnails):
    """Compute probabilities by OpenVINO, from the weights of a network in torch."""
    graph = build_graph({name: weight.numpy() for name, weight in network.state_dict().items()})
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled([thumbnails.numpy()])[0]


@pytest.mark.parametrize("is_packaged", [True, False])
def test_probabilities_are_those_of_torch(script, is_packaged):
    """Of the packaged weights, and of weights and statistics drawn at random."""
    torch.manual_seed(1)
    network = script.FrontalNetwork()
    if is_packaged:
        network.load_state_dict({name: weight.float() for name, weight in load(WEIGHTS.read_bytes()).items()})
    else:
        network.train()(images(16, seed=2))
    thumbnails = torch.cat(
        [images(5), torch.linspace(0, 1, SIDE).expand(1, 1, SIDE, SIDE), torch.ones(1, 1, SIDE, SIDE)]
    )
    with torch.inference_mode():
        expected = network.eval()(thumbnails)[0].softmax(1).numpy()
    found = infer(network, thumbnails)
    assert found.shape == (7, len(KINDS))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if is_packaged:
        assert np.ptp(expected, axis=0).max() > 0.1


def test_a_file_is_read_as_it_was_written(script, tmp_path):
    torch.manual_seed(3)
    network = script.FrontalNetwork().eval()
    (tmp_path / "check.safetensors").write_bytes(script.pack(network))
    check = InputCheck.load(tmp_path / "check.safetensors")
    image = images(1)
    with torch.inference_mode():
        both = network.half().float()(torch.cat([image, image.flip(-1)]))[0].softmax(1).mean(0)
    np.testing.assert_allclose(check.probabilities(image[0, 0].numpy()), both, atol=1e-5)


class TestTrainedNetwork:
    def test_local_contrast_does_not_depend_on_the_exposure(self, script):
        image = images(1)
        local, brighter = (script.normalized(levels)[:, 0] for levels in (image, 0.2 + 0.7 * image))
        assert float((local - brighter).abs().mean()) < 0.05
        assert float(local.std()) > 0.7

    def test_shapes(self, script):
        kinds, lungs = script.FrontalNetwork().eval()(images(3))
        assert (kinds.shape, lungs.shape) == ((3, len(KINDS)), (3, 1, 16, 16))
