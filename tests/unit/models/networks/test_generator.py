"""Contract of each generator, and differences between the two."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anomalib_cxr.models.networks.dcgan import DcganGenerator
from anomalib_cxr.models.networks.residual_unet import ResidualBlock, ResidualEncoder, ResidualUnet

SIZES = [32, 64, 128, 256, 512]
each_kind = pytest.mark.parametrize("kind", [DcganGenerator, ResidualUnet])


@pytest.fixture(autouse=True)
def no_gradients():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def random_images(n=2, size=32):
    return 2 * torch.rand(n, 1, size, size) - 1


@each_kind
class TestContract:
    @pytest.mark.parametrize("size", SIZES)
    def test_shapes(self, kind, size):
        reconstructed, code = kind(size, latent_dim=7, n_features=2).reconstruct(torch.zeros(2, 1, size, size))
        assert reconstructed.shape == (2, 1, size, size)
        assert code.shape == (2, 7, 1, 1)

    def test_three_channels_are_taken_and_reconstructed(self, kind):
        generator = kind(32, latent_dim=7, n_features=2, n_channels=3).eval()
        images = random_images()
        reconstructed, code = generator.reconstruct(images)
        assert reconstructed.shape == (2, 3, 32, 32)
        torch.testing.assert_close(code, generator.encoder(images.repeat(1, 3, 1, 1)))
        assert generator.new_encoder()(reconstructed).shape == code.shape

    def test_reconstructs_in_the_scale_of_the_network(self, kind):
        generator = kind(32, latent_dim=5, n_features=4)
        for layer in generator.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.weight.mul_(10)
        reconstructed = generator(random_images(8))
        assert reconstructed.min() >= -1
        assert reconstructed.max() <= 1
        assert reconstructed.std() > 0.05

    def test_forward_is_the_reconstruction(self, kind):
        generator = kind(32, latent_dim=5, n_features=4).eval()
        images = random_images()
        assert torch.equal(generator(images), generator.reconstruct(images)[0])

    def test_a_new_encoder_has_the_layout_and_other_weights(self, kind):
        generator = kind(32, latent_dim=5, n_features=4, max_features=8)
        own, new = generator.encoder.state_dict(), generator.new_encoder().state_dict()
        assert {name: value.shape for name, value in own.items()} == {n: v.shape for n, v in new.items()}
        assert not torch.equal(own["head.weight"], new["head.weight"])

    def test_channels_are_capped(self, kind):
        widest = max(weight.shape[0] for weight in kind(64, 5, 8, 16).state_dict().values() if weight.ndim == 4)
        assert widest in (16, 32)  # a transposed convolution has its inputs first: a map and its twin


def reconstruction_without_code(generator, images):
    """Paint with the code cut off."""
    generator.encoder.head.weight.zero_()
    return generator(images)


class TestWhatThePaintingKnows:
    def test_of_dcgan_only_what_the_code_says(self):
        first, second = reconstruction_without_code(DcganGenerator(32, 5, 4).eval(), random_images())
        assert torch.equal(first, second)

    def test_of_the_unet_more(self):
        first, second = reconstruction_without_code(ResidualUnet(32, 5, 4).eval(), random_images())
        assert (first - second).abs().max() > 1e-3

    def test_of_the_unet_the_code_too(self):
        generator, images = ResidualUnet(32, 5, 4).eval(), random_images()
        before = generator(images)
        assert (reconstruction_without_code(generator, images) - before).abs().max() > 1e-6

    @pytest.mark.parametrize("level", range(3))
    def test_of_the_unet_each_map_of_the_encoder(self, level):
        """A map that is taken away from the second half leaves another reconstruction."""
        generator, images = ResidualUnet(32, 5, 4).eval(), random_images()
        before = generator(images)
        n_skip = generator.blocks[level].body[0].in_channels // 2
        for path in (generator.blocks[level].body[0], generator.blocks[level].shortcut[0]):
            path.weight[n_skip:] = 0  # a transposed convolution has its inputs first
        assert (generator(images) - before).abs().max() > 1e-6


class TestResidualParts:
    def test_encoder_halves_down_to_four_pixels(self):
        code, maps = ResidualEncoder(64, latent_dim=5, n_features=4).encode(random_images(2, 64))
        assert [tuple(each.shape[1:]) for each in maps] == [(4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4)]
        assert code.shape == (2, 5, 1, 1)

    def test_block_adds_the_shortcut(self):
        block = ResidualBlock(2, 3, nn.Conv2d).eval()
        images = torch.randn(1, 2, 8, 8)
        windows = images.reshape(1, 2, 4, 2, 4, 2)
        direct = torch.einsum("ocij,bcyixj->boyx", block.shortcut[0].weight, windows) / (1 + 1e-5) ** 0.5
        torch.testing.assert_close(block(images), (direct + block.body(images)).clamp(min=0))

    def test_block_doubles_by_the_same_way_back(self):
        halving, doubling = ResidualBlock(2, 3, nn.Conv2d), ResidualBlock(3, 2, nn.ConvTranspose2d)
        images = torch.randn(1, 2, 8, 8)
        assert doubling(halving(images)).shape == images.shape
