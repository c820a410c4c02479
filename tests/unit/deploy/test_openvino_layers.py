"""Twins against the layers whose place they take."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anomalib_cxr.deploy.openvino_layers import SafeLeakyReLU, SafeMaxPool2d, replace_unsafe_layers


@pytest.mark.parametrize(
    ("twin", "layer"), [(SafeLeakyReLU(0.1), nn.LeakyReLU(0.1)), (SafeMaxPool2d(), nn.MaxPool2d(2))]
)
def test_same_values_and_gradients(twin, layer):
    images = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results = []
    for each in (twin, layer):
        seen = images.clone().requires_grad_()
        given = each(seen)
        given.square().sum().backward()
        results.append((given.detach(), seen.grad))
    torch.testing.assert_close(results[0], results[1])


def test_a_network_computes_the_same():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2), nn.LeakyReLU(0.1))
    network = nn.Sequential(inner, nn.MaxPool2d(2), nn.MaxPool2d(3, stride=1), nn.ReLU())
    images = torch.randn(2, 1, 14, 14)
    before, state = network(images), network.state_dict()
    replace_unsafe_layers(network)
    torch.testing.assert_close(network(images), before)
    assert [type(layer) for layer in inner][2] is SafeLeakyReLU
    assert [type(layer) for layer in network][1:] == [SafeMaxPool2d, nn.MaxPool2d, nn.ReLU]
    assert network.state_dict().keys() == state.keys()
