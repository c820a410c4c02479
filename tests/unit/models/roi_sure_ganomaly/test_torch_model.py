"""Score and anomaly map against what the networks' outputs give by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anomalib_cxr.models.roi_sure_ganomaly import RoiSureGanomalyModel
from anomalib_cxr.models.roi_sure_ganomaly.lung_frame import View


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

    def test_may_be_the_mean_square_instead(self, images):
        model = lively(RoiSureGanomalyModel(32, latent_dim=6, n_features=4, distance="mean_squared"))
        z_full = model.painter.encoder(images[:, :1])
        z_painted = model.encoder(model.painter.decoder(z_full))
        torch.testing.assert_close(model(images).pred_score, ((z_full - z_painted) ** 2).mean((1, 2, 3)))

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


class TestThreeChannels:
    @pytest.fixture
    def model(self):
        return lively(RoiSureGanomalyModel(32, latent_dim=6, n_features=4, n_channels=3))

    def test_networks_see_and_paint_three(self, model, images):
        painting = model.paint(model.see(images).image)
        assert painting.painted.shape == (4, 3, 32, 32)
        z_full = model.painter.encoder(images)
        torch.testing.assert_close(painting.z_full, z_full)
        torch.testing.assert_close(painting.painted, model.painter.decoder(z_full))
        torch.testing.assert_close(painting.z_painted, model.encoder(painting.painted))

    def test_map_and_picture_are_their_mean(self, model, images):
        model.painter.decoder.layers[-2].weight.mul_(100)
        painted = model.painter(images[:, :1])
        gray = painted.mean(1, keepdim=True)
        bright = gray > gray.mean((2, 3), keepdim=True)
        expected = bright * (images[:, :1] - painted).abs().mean(1, keepdim=True) / 2
        torch.testing.assert_close(model(images).anomaly_map, expected)
        torch.testing.assert_close(model.painting_of(images), gray)


class TestLungsOnly:
    @pytest.fixture
    def right(self):
        """A region that a segmenter is to find: the right half."""
        region = torch.zeros(1, 1, 32, 32)
        region[..., 16:] = 1
        return region

    @pytest.fixture(params=[False, True], ids=["lungs", "image"])
    def model(self, request, right, monkeypatch):
        view = View(32, lungs_only=True)
        model = RoiSureGanomalyModel(32, latent_dim=6, n_features=4, whole_image=request.param, view=view)
        monkeypatch.setattr(model.lungs.segmenter, "forward", lambda gray: right.expand_as(gray) * 0.6)
        return lively(model)

    def test_the_rest_has_no_effect_on_the_score(self, model, images):
        other = images.clone()
        other[..., :16] = 0.3
        assert torch.equal(model(other).pred_score, model(images).pred_score)
        other[..., 16:] = 0.3
        assert not torch.equal(model(other).pred_score, model(images).pred_score)

    def test_the_rest_is_black_and_has_no_map(self, model, images, right):
        image, region, *_ = model.see(images)
        torch.testing.assert_close(image, torch.where(right.bool(), images[:, :1], -1.0))
        assert torch.equal(region, right.expand(4, -1, -1, -1))
        painted = model.painter(image)
        residual = right * (image - painted).abs() / 2
        if not model.whole_image:
            residual = residual * (painted > painted.mean((2, 3), keepdim=True))
        torch.testing.assert_close(model(images).anomaly_map, residual)
        torch.testing.assert_close(model.painting_of(images), painted)


def test_networks_are_the_same_with_and_without_a_segmenter():
    states = []
    for lungs_only in (False, True):
        torch.manual_seed(0)
        states.append(RoiSureGanomalyModel(32, 6, 4, view=View(32, lungs_only=lungs_only)).state_dict())
    without, with_one = states
    assert all(torch.equal(with_one[name], value) for name, value in without.items())
    assert {name.split(".")[0] for name in with_one.keys() - without.keys()} == {"lungs"}


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
