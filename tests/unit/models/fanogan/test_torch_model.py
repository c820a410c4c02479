"""Score and anomaly map against what the networks' outputs give by hand."""

from __future__ import annotations

import pytest
import torch

from anomalib_cxr.evaluation.residual_sheet import ReconstructionModel
from anomalib_cxr.models.fanogan import FanoganModel


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def make(**settings):
    torch.manual_seed(1)
    return FanoganModel(32, latent_dim=6, n_features=4, **settings).eval()


@pytest.fixture
def model():
    return make()


@pytest.fixture
def images():
    return (2 * torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)) - 1).expand(-1, 3, -1, -1)


@pytest.mark.parametrize("kappa", [0.0, 1.0, 2.5])
def test_score_is_the_mean_square_of_gray_values_and_features(images, kappa):
    model, gray = make(kappa=kappa), images[:, :1]
    generated = model.generator(model.encoder(gray))
    pixels = ((gray - generated) ** 2).sum((1, 2, 3)) / 32**2
    features = ((model.features(gray) - model.features(generated)) ** 2).sum(1) / (8 * 4 * 4 * 4)
    found = model(images).pred_score
    torch.testing.assert_close(found, pixels + kappa * features)
    assert found.shape == (4,)
    assert pixels.min() > 0.01
    assert features.min() > 0.01


def test_map_is_half_the_difference(model, images):
    generated = model.generator(model.encoder(images[:, :1]))
    found = model(images).anomaly_map
    torch.testing.assert_close(found, (images[:, :1] - generated).abs() / 2)
    assert found.shape == (4, 1, 32, 32)
    assert 0 <= found.min() < found.max() <= 1


def test_codes_and_images_keep_to_their_range(model, images):
    code, reconstructed = model.encoder(1000 * images[:, :1]), model.reconstruct(1000 * images)
    assert code.shape == (4, 6)
    assert reconstructed.shape == (4, 1, 32, 32)
    assert code.abs().max() <= 1
    assert reconstructed.abs().max() <= 1


def test_one_channel_gives_what_three_equal_ones_give(model, images):
    for three, one in zip(model(images), model(images[:, :1]), strict=True):
        assert (three is one is None) or torch.allclose(three, one, rtol=1e-5, atol=1e-6)


def test_an_image_alone_scores_as_in_a_batch(model, images):
    alone, together = model(images[2:3]), model(images)
    torch.testing.assert_close(alone.pred_score, together.pred_score[2:3], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(alone.anomaly_map, together.anomaly_map[2:3], rtol=1e-5, atol=1e-5)


def test_the_residual_sheet_can_show_what_it_generates(model, images):
    assert isinstance(model, ReconstructionModel)
    torch.testing.assert_close(model.reconstruct(images), model.generator(model.encoder(images[:, :1])))


def test_encoder_and_critic_share_a_layout_and_no_weights(model):
    encoder, critic = dict(model.encoder.trunk.named_parameters()), dict(model.features.named_parameters())
    assert {name: weight.shape for name, weight in encoder.items()} == {
        name: weight.shape for name, weight in critic.items()
    }
    assert not any(torch.equal(encoder[name], critic[name]) for name in encoder if encoder[name].ndim == 4)


def test_the_critics_last_layer_is_no_part_of_it(model):
    assert {name for name, _ in model.named_children()} == {"generator", "features", "encoder"}
