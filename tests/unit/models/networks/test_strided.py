"""Halving and doubling convolutions against torch's own, where they are products and where they are not."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from anomalib_cxr.models.networks.strided import DoublingConv2d, HalvingConv2d

WIDE = 512, 256, 2  # channels before and after, images: as many weights a pixel as make it a product
LAYERS = pytest.mark.parametrize(
    ("kind", "plain", "shape"),
    [
        pytest.param(HalvingConv2d, functional.conv2d, (8, 8), id="halving"),
        pytest.param(HalvingConv2d, functional.conv2d, (4, 8), id="halving what is no square"),
        pytest.param(DoublingConv2d, functional.conv_transpose2d, (4, 4), id="doubling"),
        pytest.param(DoublingConv2d, functional.conv_transpose2d, (2, 4), id="doubling what is no square"),
    ],
)


@pytest.fixture
def products(monkeypatch):
    """Names of what products are made of, as they are made."""
    made = []

    def noted(name, plain):
        def note(*given, **settings):
            made.append(name)
            return plain(*given, **settings)

        return note

    for name in ("unfold", "fold"):
        monkeypatch.setattr(functional, name, noted(name, getattr(functional, name)))
    return made


@LAYERS
def test_results_and_gradients_are_torchs(kind, plain, shape, products):
    """In training, a wide layer is a product, and its result and both gradients are the convolution's."""
    torch.manual_seed(0)
    n_in, n_out, images = WIDE
    layer, image = kind(n_in, n_out), torch.randn(images, n_in, *shape, requires_grad=True)
    expected = plain(image, layer.weight, stride=2, padding=1)
    toward = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, (image, layer.weight), toward)

    found = layer(image)
    assert len(products) == 1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for gradient, plain_one in zip(torch.autograd.grad(found, (image, layer.weight), toward), wanted, strict=True):
        torch.testing.assert_close(gradient, plain_one, rtol=1e-5, atol=1e-4)


@LAYERS
@pytest.mark.parametrize("why", ["scoring", "many pixels"])
def test_else_it_is_a_convolution(kind, plain, shape, why, products):
    """Where a model scores, and where many pixels share the weights, the layer is torch's own to the last bit."""
    n_in, n_out, images = WIDE
    layer = kind(n_in, n_out).train(why != "scoring")
    image = torch.randn(images if why == "scoring" else 16 * images, n_in, *shape)
    assert torch.equal(layer(image), plain(image, layer.weight, stride=2, padding=1))
    assert not products


def test_same_weights_as_torchs():
    """Checkpoints name weights as those of torch's layers, and the same seed draws the same ones."""
    for kind, torchs in ((HalvingConv2d, nn.Conv2d), (DoublingConv2d, nn.ConvTranspose2d)):
        torch.manual_seed(0)
        ours = kind(4, 6).state_dict()
        torch.manual_seed(0)
        theirs = torchs(4, 6, kernel_size=4, stride=2, padding=1, bias=False).state_dict()
        assert list(ours) == list(theirs)
        assert torch.equal(ours["weight"], theirs["weight"])
