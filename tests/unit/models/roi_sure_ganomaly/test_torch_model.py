"""Score and anomaly map against what the networks' outputs give by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from anomalib_cxr.models.roi_sure_ganomaly import RoiSureGanomalyModel
from anomalib_cxr.models.roi_sure_ganomaly.settings import LungSettings, NetworkSettings

SMALL = NetworkSettings(latent_dim=6, n_features=4)
LUNGS_ONLY = LungSettings(input_region="lungs")


def lively(model):
    """Weights large enough for scores and reconstructions well away from 0."""
    torch.manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, a=0.2)
    return model.eval()


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def model():
    return lively(RoiSureGanomalyModel(32, SMALL))


@pytest.fixture
def images():
    return (2 * torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)) - 1).expand(-1, 3, -1, -1)


class TestScore:
    def test_is_the_distance_of_the_two_codes(self, model, images):
        z = model.ensemble[0].generator.encoder(images[:, :1])
        z_hat = model.ensemble[0].encoder(model.ensemble[0].generator.decoder(z))
        expected = ((z - z_hat) ** 2).sum((1, 2, 3)).sqrt()
        found = model(images).pred_score
        torch.testing.assert_close(found, expected)
        assert found.shape == (4,)
        assert found.min() > 0.01

    def test_the_second_encoder_has_weights_of_its_own(self, model):
        ours, generators = (
            list(model.ensemble[0].encoder.parameters()),
            list(model.ensemble[0].generator.encoder.parameters()),
        )
        assert [weight.shape for weight in ours] == [weight.shape for weight in generators]
        assert not any(torch.equal(one, other) for one, other in zip(ours, generators, strict=True) if one.ndim == 4)
        assert not {id(weight) for weight in ours} & {id(weight) for weight in generators}

    def test_may_be_the_mean_square_instead(self, images):
        model = lively(RoiSureGanomalyModel(32, SMALL, distance="mean_squared"))
        z = model.ensemble[0].generator.encoder(images[:, :1])
        z_hat = model.ensemble[0].encoder(model.ensemble[0].generator.decoder(z))
        torch.testing.assert_close(model(images).pred_score, ((z - z_hat) ** 2).mean((1, 2, 3)))

    def test_one_channel_gives_what_three_equal_ones_give(self, model, images):
        three, one = model(images), model(images[:, :1])
        torch.testing.assert_close(three.pred_score, one.pred_score, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(three.anomaly_map, one.anomaly_map, rtol=1e-5, atol=1e-5)

    def test_an_image_alone_scores_as_in_a_batch(self, model, images):
        alone, together = model(images[2:3]), model(images)
        torch.testing.assert_close(alone.pred_score, together.pred_score[2:3], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alone.anomaly_map, together.anomaly_map[2:3], rtol=1e-5, atol=1e-5)


class TestAnomalyMap:
    def test_is_half_the_residual_where_it_was_reconstructed_and_zero_elsewhere(self, model, images):
        model.ensemble[0].generator.decoder.layers[-2].weight.mul_(100)  # so that some pixels are near black
        reconstructed = model.ensemble[0].generator(images[:, :1])
        found = model(images).anomaly_map
        black = reconstructed <= reconstructed.mean(dim=(-2, -1), keepdim=True)
        assert 0.01 < black.float().mean() < 0.99
        assert torch.equal(found[black], torch.zeros_like(found[black]))
        torch.testing.assert_close(found[~black], (images[:, :1] - reconstructed).abs()[~black] / 2)
        assert found.shape == (4, 1, 32, 32)
        assert found.min() >= 0
        assert found.max() <= 1

    def test_of_the_whole_image_has_no_hole(self, images):
        model = lively(RoiSureGanomalyModel(32, SMALL, whole_image=True))
        model.ensemble[0].generator.decoder.layers[-2].weight.mul_(100)
        residual = (images[:, :1] - model.ensemble[0].generator(images[:, :1])).abs() / 2
        torch.testing.assert_close(model(images).anomaly_map, residual)


class TestThreeChannels:
    @pytest.fixture
    def model(self):
        return lively(RoiSureGanomalyModel(32, replace(SMALL, n_channels=3)))

    def test_networks_take_and_reconstruct_three(self, model, images):
        output = model.ensemble[0](model.preprocess(images).image)
        assert output.image.shape == (4, 3, 32, 32)
        z = model.ensemble[0].generator.encoder(images)
        torch.testing.assert_close(output.z, z)
        torch.testing.assert_close(output.image, model.ensemble[0].generator.decoder(z))
        torch.testing.assert_close(output.z_hat, model.ensemble[0].encoder(output.image))

    def test_map_and_reconstruction_are_their_mean(self, model, images):
        model.ensemble[0].generator.decoder.layers[-2].weight.mul_(100)
        reconstructed = model.ensemble[0].generator(images[:, :1])
        gray = reconstructed.mean(1, keepdim=True)
        bright = gray > gray.mean((2, 3), keepdim=True)
        expected = bright * (images[:, :1] - reconstructed).abs().mean(1, keepdim=True) / 2
        torch.testing.assert_close(model(images).anomaly_map, expected)
        torch.testing.assert_close(model.reconstruct(images), gray)


class TestLungsOnly:
    @pytest.fixture
    def right(self):
        """A region that a segmenter is to find: the right half."""
        region = torch.zeros(1, 1, 32, 32)
        region[..., 16:] = 1
        return region

    @pytest.fixture(params=[False, True], ids=["lungs", "image"])
    def model(self, request, right, monkeypatch):
        model = RoiSureGanomalyModel(32, SMALL, LUNGS_ONLY, whole_image=request.param)
        monkeypatch.setattr(model.segmenter.network, "forward", lambda gray: right.expand_as(gray) * 0.6)
        return lively(model)

    def test_the_rest_has_no_effect_on_the_score(self, model, images):
        other = images.clone()
        other[..., :16] = 0.3
        assert torch.equal(model(other).pred_score, model(images).pred_score)
        other[..., 16:] = 0.3
        assert not torch.equal(model(other).pred_score, model(images).pred_score)

    def test_the_rest_is_black_and_has_no_map(self, model, images, right):
        image, region, *_ = model.preprocess(images)
        torch.testing.assert_close(image, torch.where(right.bool(), images[:, :1], -1.0))
        assert torch.equal(region, right.expand(4, -1, -1, -1))
        reconstructed = model.ensemble[0].generator(image)
        residual = right * (image - reconstructed).abs() / 2
        if not model.whole_image:
            residual = residual * (reconstructed > reconstructed.mean((2, 3), keepdim=True))
        torch.testing.assert_close(model(images).anomaly_map, residual)
        torch.testing.assert_close(model.reconstruct(images), reconstructed)


def test_networks_are_the_same_with_and_without_a_segmenter():
    states = []
    for lungs in (LungSettings(), LUNGS_ONLY):
        torch.manual_seed(0)
        states.append(RoiSureGanomalyModel(32, SMALL, lungs).state_dict())
    without, with_one = states
    assert all(torch.equal(with_one[name], value) for name, value in without.items())
    assert {name.split(".")[0] for name in with_one.keys() - without.keys()} == {"segmenter"}


def test_reconstruction_is_the_generators(model, images):
    output = model.ensemble[0](images[:, :1])
    torch.testing.assert_close(output.image, model.ensemble[0].generator(images[:, :1]))
    assert output.z.shape == output.z_hat.shape == (4, 6, 1, 1)


def test_it_starts_with_dcgans_weights():
    torch.manual_seed(0)
    model = RoiSureGanomalyModel(32, NetworkSettings(latent_dim=50, n_features=32))
    for name, weight in model.named_parameters():
        if weight.ndim == 4:
            assert 0.018 < weight.std() < 0.022, name


def test_the_discriminator_is_no_part_of_it(model):
    assert {name for name, _ in model.named_children()} == {"ensemble", "healthy_maps"}
    assert {name for name, _ in model.ensemble[0].named_children()} == {"generator", "encoder"}
