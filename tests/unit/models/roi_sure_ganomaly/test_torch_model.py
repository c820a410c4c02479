"""Score and anomaly map against what the networks' outputs give by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anomalib_cxr.models.roi_sure_ganomaly import RoiSureGanomalyModel


def lively(model):
    """Weights large enough for scores and paintings well away from 0."""
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
    return lively(RoiSureGanomalyModel(32, latent_dim=6, n_features=4))


@pytest.fixture
def images():
    return (2 * torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)) - 1).expand(-1, 3, -1, -1)


class TestScore:
    def test_is_the_distance_of_the_two_codes(self, model, images):
        z_full = model.painter.encoder(images[:, :1])
        z_painted = model.encoder(model.painter.decoder(z_full))
        expected = ((z_full - z_painted) ** 2).sum((1, 2, 3)).sqrt()
        found = model(images).pred_score
        torch.testing.assert_close(found, expected)
        assert found.shape == (4,)
        assert found.min() > 0.01

    def test_the_second_encoder_has_weights_of_its_own(self, model):
        ours, painters = list(model.encoder.parameters()), list(model.painter.encoder.parameters())
        assert [weight.shape for weight in ours] == [weight.shape for weight in painters]
        assert not any(torch.equal(one, other) for one, other in zip(ours, painters, strict=True) if one.ndim == 4)
        assert not {id(weight) for weight in ours} & {id(weight) for weight in painters}

    def test_one_channel_gives_what_three_equal_ones_give(self, model, images):
        three, one = model(images), model(images[:, :1])
        torch.testing.assert_close(three.pred_score, one.pred_score, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(three.anomaly_map, one.anomaly_map, rtol=1e-5, atol=1e-5)

    def test_an_image_alone_scores_as_in_a_batch(self, model, images):
        alone, together = model(images[2:3]), model(images)
        torch.testing.assert_close(alone.pred_score, together.pred_score[2:3], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alone.anomaly_map, together.anomaly_map[2:3], rtol=1e-5, atol=1e-5)


class TestAnomalyMap:
    def test_is_half_the_residual_where_it_was_painted_and_zero_elsewhere(self, model, images):
        model.painter.decoder.layers[-2].weight.mul_(100)  # so that some pixels are near black
        painted = model.painter(images[:, :1])
        found = model(images).anomaly_map
        black = painted <= painted.mean(dim=(-2, -1), keepdim=True)
        assert 0.01 < black.float().mean() < 0.99
        assert torch.equal(found[black], torch.zeros_like(found[black]))
        torch.testing.assert_close(found[~black], (images[:, :1] - painted).abs()[~black] / 2)
        assert found.shape == (4, 1, 32, 32)
        assert found.min() >= 0
        assert found.max() <= 1

    def test_of_the_whole_image_has_no_hole(self, images):
        model = lively(RoiSureGanomalyModel(32, latent_dim=6, n_features=4, whole_image=True))
        model.painter.decoder.layers[-2].weight.mul_(100)
        residual = (images[:, :1] - model.painter(images[:, :1])).abs() / 2
        torch.testing.assert_close(model(images).anomaly_map, residual)


def test_paint_agrees_with_the_painter(model, images):
    painting = model.paint(images[:, :1])
    torch.testing.assert_close(painting.painted, model.painter(images[:, :1]))
    assert painting.z_full.shape == painting.z_painted.shape == (4, 6, 1, 1)


def test_it_starts_with_dcgans_weights():
    torch.manual_seed(0)
    model = RoiSureGanomalyModel(32, latent_dim=50, n_features=32)
    for name, weight in model.named_parameters():
        if weight.ndim == 4:
            assert 0.018 < weight.std() < 0.022, name


def test_the_discriminator_is_no_part_of_it(model):
    assert {name for name, _ in model.named_children()} == {"painter", "encoder"}
