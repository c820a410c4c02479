"""Networks of WGAN-GP: shapes and sizes as published, layers against their plain definitions."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_cxr.models.networks.wgan_gp import (
    ConvMeanPool,
    DownBlock,
    ImageNorm,
    ResidualGenerator,
    ResidualTrunk,
    UpBlock,
    UpsampleConv,
)


def count(network):
    return sum(weight.numel() for weight in network.parameters())


def shapes(network, x):
    """Shapes after each layer of a network, without the batch."""
    found = []
    for layer in network.layers:
        x = layer(x)
        found.append(tuple(x.shape[1:]))
    return found


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


class TestPublishedSize:
    """64 px, 64 features, codes of 128."""

    def test_generator(self):
        generator = ResidualGenerator(64, latent_dim=128, n_features=64)
        assert shapes(generator, torch.zeros(1, 128)) == [
            (8192,), (512, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32), (64, 64, 64),
            (64, 64, 64), (64, 64, 64), (1, 64, 64), (1, 64, 64),
        ]  # fmt: skip
        linear = 128 * 8192 + 8192
        # Of each block: two batch normalizations, 3 x 3 without and with bias, 1 x 1 with bias.
        blocks = sum(
            2 * n_in + 2 * n_out + 9 * n_in * n_out + 9 * n_out * n_out + n_out + n_in * n_out + n_out
            for n_in, n_out in [(512, 512), (512, 256), (256, 128), (128, 64)]
        )
        assert count(generator) == linear + blocks + 2 * 64 + 9 * 64 + 1 == 8_539_329

    def test_critic(self):
        trunk = ResidualTrunk(64, n_features=64)
        assert shapes(trunk, torch.zeros(1, 1, 64, 64)) == [
            (64, 64, 64), (128, 32, 32), (256, 16, 16), (512, 8, 8), (512, 4, 4), (8192,),
        ]  # fmt: skip
        blocks = sum(
            2 * n_in + 9 * n_in * n_in + 2 * n_in + 9 * n_in * n_out + n_out + n_in * n_out + n_out
            for n_in, n_out in [(64, 128), (128, 256), (256, 512), (512, 512)]
        )
        assert count(trunk) == 9 * 64 + 64 + blocks == 7_482_496


@pytest.mark.parametrize(
    ("size", "channels"), [(32, [4, 8, 16, 32]), (64, [4, 8, 16, 32, 32]), (128, [4, 8, 16, 32, 32, 32])]
)
def test_other_sizes_have_a_block_more_or_less(size, channels):
    trunk, generator = ResidualTrunk(size, 4), ResidualGenerator(size, 7, 4)
    sides = [size // 2**step for step in range(len(channels))]
    down = shapes(trunk, torch.zeros(1, 1, size, size))
    assert down == [*((n, side, side) for n, side in zip(channels, sides, strict=True)), (512,)]
    up = shapes(generator, torch.zeros(1, 7))
    assert up[1 : len(channels) + 1] == down[-2::-1]
    assert up[-1] == (1, size, size)


class TestLayers:
    x = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    @pytest.fixture(autouse=True)
    def seeded(self):
        torch.manual_seed(0)

    def test_convolution_and_mean(self):
        layer = ConvMeanPool(3, 5, 3, padding=1).double()
        expected = F.avg_pool2d(F.conv2d(self.x, layer.weight, layer.bias, padding=1), 2)
        torch.testing.assert_close(layer(self.x), expected)

    @pytest.mark.parametrize("size", [1, 3])
    def test_enlarging_and_convolution(self, size):
        layer = UpsampleConv(3, 5, size, padding=size // 2).double()
        expected = F.conv2d(F.interpolate(self.x, scale_factor=2), layer.weight, layer.bias, padding=size // 2)
        torch.testing.assert_close(layer(self.x), expected)

    def test_layer_norm_is_over_channels_and_pixels(self):
        norm = ImageNorm(3).double()
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        mean, variance = self.x.mean((1, 2, 3), keepdim=True), self.x.var((1, 2, 3), keepdim=True, correction=0)
        torch.testing.assert_close(norm(self.x), (self.x - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias)

    def test_a_block_adds_its_resampled_input(self):
        halved, doubled = DownBlock(3, 5).double(), UpBlock(3, 5).double()
        for block in (halved, doubled):
            for weight in block.residual.parameters():
                nn.init.zeros_(weight)
        expected = F.conv2d(F.avg_pool2d(self.x, 2), halved.shortcut[1].weight, halved.shortcut[1].bias)
        torch.testing.assert_close(halved(self.x), expected)
        expected = F.conv2d(F.interpolate(self.x, scale_factor=2), doubled.shortcut.weight, doubled.shortcut.bias)
        torch.testing.assert_close(doubled(self.x), expected)

    def test_an_image_alone_is_described_as_in_a_batch(self):
        trunk = ResidualTrunk(32, 4).double()
        images = torch.randn(3, 1, 32, 32, dtype=torch.float64)
        torch.testing.assert_close(trunk(images[1:2]), trunk(images)[1:2])


def test_initial_weights():
    torch.manual_seed(0)
    block = UpBlock(64, 32)
    for layer, variance in [(block.residual[2], 4 / (9 * 96)), (block.shortcut, 2 / 96)]:
        assert layer.weight.var().item() == pytest.approx(variance, rel=0.05)
        assert layer.weight.abs().max().item() <= (3 * variance) ** 0.5  # uniform
    assert all(layer.bias is None or not layer.bias.any() for layer in block.modules() if isinstance(layer, nn.Conv2d))
