"""DCGAN's networks: shapes, sizes counted by hand, initialization and ranges."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anomalib_cxr.models.networks.dcgan import DcganGenerator, Decoder, Discriminator, Encoder, initialize_dcgan
from anomalib_cxr.models.networks.wgan_gp import ImageNorm

SIZES = [32, 64, 128, 256, 512]


def n_parameters(module):
    return sum(weight.numel() for weight in module.parameters())


def channels_after_convolutions(module):
    return [layer.out_channels for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]


class TestShapes:
    @pytest.mark.parametrize("size", SIZES)
    def test_encoder(self, size):
        encoder = Encoder(size, latent_dim=7, n_features=2)
        image = torch.zeros(2, 1, size, size)
        assert encoder(image).shape == (2, 7, 1, 1)
        assert encoder.features(image).shape == (2, 2 * size // 8, 4, 4)

    @pytest.mark.parametrize("size", SIZES)
    def test_decoder(self, size):
        assert Decoder(size, latent_dim=7, n_features=2)(torch.zeros(2, 7, 1, 1)).shape == (2, 1, size, size)

    @pytest.mark.parametrize("size", SIZES)
    def test_discriminator(self, size):
        output = Discriminator(size, n_features=2)(torch.zeros(3, 1, size, size))
        assert output.features.shape == (3, 2 * size // 8, 4, 4)
        assert output.logits.shape == (3,)

    def test_images_of_three_channels(self):
        image = torch.zeros(2, 3, 32, 32)
        assert Encoder(32, latent_dim=7, n_features=2, n_channels=3)(image).shape == (2, 7, 1, 1)
        assert Decoder(32, latent_dim=7, n_features=2, n_channels=3)(torch.zeros(2, 7, 1, 1)).shape == image.shape
        assert Discriminator(32, n_features=2, n_channels=3)(image).logits.shape == (2,)


class TestChannels:
    @pytest.mark.parametrize(
        ("size", "cap", "expected"),
        [
            (32, None, [64, 128, 256]),
            (64, None, [64, 128, 256, 512]),
            (256, None, [64, 128, 256, 512, 1024, 2048]),
            (256, 512, [64, 128, 256, 512, 512, 512]),
            (64, 100, [64, 100, 100, 100]),
            (32, 16, [16, 16, 16]),
        ],
    )
    def test_double_up_to_the_cap(self, size, cap, expected):
        with torch.device("meta"):
            encoder, decoder = Encoder(size, 100, 64, cap), Decoder(size, 100, 64, cap)
            discriminator = Discriminator(size, 64, cap)
        assert channels_after_convolutions(encoder) == [*expected, 100]
        assert channels_after_convolutions(decoder) == [*expected[::-1], 1]
        assert channels_after_convolutions(discriminator) == [*expected, 1]

    def test_number_of_parameters_of_the_dissertation(self):
        with torch.device("meta"):
            encoder, decoder = Encoder(256, 100, 64), Decoder(256, 100, 64)
            discriminator, capped = Discriminator(256, 64), Encoder(256, 100, 64, 512)
        convolutions = 16 * (1 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 1024 + 1024 * 2048)
        head = 16 * 2048 * 100
        norms = 2 * (128 + 256 + 512 + 1024 + 2048)
        assert convolutions + head + norms == 47_981_312  # the design's 48 M per encoder
        assert n_parameters(encoder) == 47_981_312
        assert n_parameters(decoder) == convolutions + head + norms + 2 * 64
        assert n_parameters(discriminator) == convolutions + 16 * 2048 + norms
        assert n_parameters(capped) == 11_965_184

    @pytest.mark.parametrize("network", [Encoder(64, 5, 4), Decoder(64, 5, 4), Discriminator(64, 4)])
    def test_each_convolution_has_dcgans_geometry(self, network):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                at_the_code = 5 in {layer.in_channels, layer.out_channels} or layer is getattr(
                    getattr(network, "encoder", None), "head", None
                )
                assert layer.kernel_size == (4, 4)
                assert (layer.stride, layer.padding) == (((1, 1), (0, 0)) if at_the_code else ((2, 2), (1, 1)))
                assert layer.bias is None
            if isinstance(layer, nn.LeakyReLU):
                assert layer.negative_slope == 0.2

    def test_first_and_last_convolutions_have_no_batch_norm(self):
        assert [type(layer) for layer in Encoder(32, 5, 4).features] == [
            nn.Conv2d, nn.LeakyReLU, nn.Sequential, nn.Sequential,
        ]  # fmt: skip
        assert sum(isinstance(layer, nn.BatchNorm2d) for layer in Encoder(64, 5, 4).modules()) == 3
        assert sum(isinstance(layer, nn.BatchNorm2d) for layer in Decoder(64, 5, 4).modules()) == 4

    def test_another_normalization_stands_in_the_same_places(self):
        usual, other = (Discriminator(64, n_features=4, norm=norm) for norm in (nn.BatchNorm2d, ImageNorm))
        kinds = [[type(layer) for layer in network.modules()] for network in (usual, other)]
        assert [ImageNorm if kind is nn.BatchNorm2d else kind for kind in kinds[0]] == kinds[1]

    def test_decoder_of_ganomaly_has_relu(self):
        """The public code of GANomaly, lib/networks.py: LeakyReLU in the encoder, ReLU in the decoder."""
        generator = DcganGenerator(64, 5, 4, decoder_activation="relu")
        kinds = {type(layer) for layer in generator.decoder.modules()}
        assert nn.ReLU in kinds
        assert nn.LeakyReLU not in kinds
        assert nn.ReLU not in {type(layer) for layer in generator.encoder.modules()}
        assert nn.ReLU not in {type(layer) for layer in DcganGenerator(64, 5, 4).decoder.modules()}


class TestInitialization:
    @pytest.mark.parametrize("network", [Encoder(64, 50, 32), Decoder(64, 50, 32), Discriminator(64, 32)])
    def test_statistics(self, network):
        torch.manual_seed(0)
        network.apply(initialize_dcgan)
        for layer in network.modules():
            if not hasattr(layer, "weight"):
                continue
            center = 1.0 if isinstance(layer, nn.BatchNorm2d) else 0.0
            n = layer.weight.numel()
            assert abs(layer.weight.mean() - center) < 4 * 0.02 / n**0.5
            assert abs(layer.weight.std() / 0.02 - 1) < 4 / (2 * n) ** 0.5
            if isinstance(layer, nn.BatchNorm2d):
                assert torch.equal(layer.bias, torch.zeros_like(layer.bias))

    def test_other_layers_are_left_alone(self):
        linear = nn.Linear(3, 3)
        before = linear.weight.clone()
        initialize_dcgan(linear)
        assert torch.equal(linear.weight, before)


class TestRanges:
    def test_decoder_reconstructs_in_the_scale_of_the_network(self):
        torch.manual_seed(0)
        reconstructed = Decoder(32, 5, 4).eval()(100 * torch.randn(8, 5, 1, 1))
        assert reconstructed.min() >= -1
        assert reconstructed.max() <= 1
        assert reconstructed.std() > 0.05

    def test_discriminator_gives_logits_of_its_features(self):
        torch.manual_seed(0)
        discriminator = Discriminator(32, 4).eval()
        nn.init.normal_(discriminator.encoder.head.weight, std=10.0)
        features, logits = discriminator(torch.randn(6, 1, 32, 32))
        by_hand = torch.einsum("bchw,chw->b", features, discriminator.encoder.head.weight[0])
        torch.testing.assert_close(logits, by_hand, rtol=1e-4, atol=1e-4)
        assert logits.min() < 0 or logits.max() > 1  # no Sigmoid
