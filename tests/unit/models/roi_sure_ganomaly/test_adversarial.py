"""Both schemes against numbers worked out by hand, for discriminators whose outputs and slopes are known."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import nn

from anomalib_cxr.models.networks.dcgan import Discriminator, DiscriminatorOutput
from anomalib_cxr.models.networks.wgan_gp import ImageNorm
from anomalib_cxr.models.roi_sure_ganomaly.adversarial import (
    FeatureMatching,
    WganGp,
    adversarial_losses,
    choose_scheme,
    instance_noise_level,
)
from anomalib_cxr.models.roi_sure_ganomaly.settings import AdversarySettings

REAL, GENERATED = torch.full((2, 1, 2, 2), 0.5), torch.full((2, 1, 2, 2), -0.25)


class Summing(nn.Module):
    """Has a multiple of the sum of the pixels as logit: three times is a slope of 3 * sqrt(4) = 6 everywhere."""

    def __init__(self, weight=3.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, images):
        return DiscriminatorOutput(images, self.weight * images.flatten(1).sum(1))


summing = Summing()


class TestFeatureMatching:
    @pytest.mark.parametrize(("distance", "expected"), [("euclidean", (4 * 0.75**2) ** 0.5), ("mean_squared", 0.75**2)])
    def test_generator_term_is_the_distance_of_the_features(self, distance, expected):
        generated = GENERATED.clone().requires_grad_()
        real = REAL.clone().requires_grad_()
        term = FeatureMatching(distance).generator_loss(summing(real), summing(generated))
        torch.testing.assert_close(term, torch.tensor(expected))
        term.backward()
        assert generated.grad.abs().min() > 0
        assert real.grad is None

    def test_discriminator_has_half_of_each_side(self):
        # Logits 3 * 4 * 0.5 = 6 and -3: probabilities of a mistake 1 / (1 + e^6) and 1 / (1 + e^3).
        loss, output = FeatureMatching().discriminator_loss(summing, REAL, GENERATED)
        expected = 0.5 * log(1 + torch.tensor(-6.0).exp()) + 0.5 * log(1 + torch.tensor(-3.0).exp())
        torch.testing.assert_close(loss, torch.tensor(expected))
        assert torch.equal(output.features, REAL)


class TestWganGp:
    @pytest.mark.parametrize("weight", [10.0, 0.0, 2.5])
    def test_critic_has_the_gap_and_the_penalty(self, weight):
        loss, output = WganGp(weight=weight).discriminator_loss(summing, REAL, GENERATED)
        torch.testing.assert_close(loss, torch.tensor(-3.0 - 6.0 + weight * (6 - 1) ** 2))
        assert torch.equal(output.logits, torch.full((2,), 6.0))

    def test_generator_wants_to_be_called_real(self):
        term = WganGp().generator_loss(summing(REAL), summing(GENERATED))
        torch.testing.assert_close(term, torch.tensor(3.0))

    def test_critic_learns_from_both_terms_by_hand(self):
        """D(x) = w * sum(x): the loss is w * (sum generated - sum real) + 10 * (2 w - 1)^2 for 4 pixels, w > 0."""
        critic = Summing(0.9)
        WganGp().discriminator_loss(critic, REAL, GENERATED)[0].backward()
        torch.testing.assert_close(critic.weight.grad, torch.tensor(4 * -0.25 - 4 * 0.5 + 40 * (2 * 0.9 - 1)))

    def test_is_computed_in_float32(self):
        critic, seen = Discriminator(32, 2, norm=ImageNorm), []
        critic.encoder.head.register_forward_hook(lambda *given: seen.append(given[-1].dtype))
        images = torch.rand(2, 1, 32, 32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert critic(images).logits.dtype == seen.pop() == torch.bfloat16
            WganGp().discriminator_loss(critic, images, images.bfloat16())
        assert seen == [torch.float32] * 3  # real, generated, and between


@pytest.mark.parametrize("scheme", [FeatureMatching(), WganGp()])
@pytest.mark.parametrize("player", [0, 1])
def test_each_loss_reaches_one_network_only(scheme, player):
    discriminator, generated = Discriminator(32, 4, norm=scheme.norm), torch.rand(3, 1, 32, 32).requires_grad_()
    adversarial_losses(scheme, discriminator, torch.rand(3, 1, 32, 32), generated)[player].backward()
    reached = generated.grad is not None, any(weight.grad is not None for weight in discriminator.parameters())
    assert reached == ((True, False), (False, True))[player]
    assert all(weight.requires_grad for weight in discriminator.parameters())


class TestChoice:
    def test_by_name(self):
        matching = choose_scheme(AdversarySettings(n_critic=7), "mean_squared")
        assert isinstance(matching, FeatureMatching)
        assert (matching.distance, matching.n_critic, matching.reinitialize_below) == ("mean_squared", 1, 1e-5)
        critic = choose_scheme(AdversarySettings("wgan_gp", n_critic=7, gradient_penalty=3.0), "mean_squared")
        assert isinstance(critic, WganGp)
        assert (critic.n_critic, critic.weight, critic.reinitialize_below) == (7, 3.0, None)

    def test_normalizations(self):
        assert isinstance(FeatureMatching().norm(4), nn.BatchNorm2d)
        norm = WganGp().norm(4)
        images = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
        mean, variance = images.flatten(1).mean(1), images.flatten(1).var(1, correction=0)
        expected = (images - mean[:, None, None, None]) / (variance[:, None, None, None] + 1e-5).sqrt()
        torch.testing.assert_close(norm(images), expected)


@pytest.mark.parametrize(("n_epochs", "expected"), [(1, [0.3]), (2, [0.3, 0.0]), (4, [0.3, 0.2, 0.1, 0.0])])
def test_instance_noise_falls_in_a_line_to_none(n_epochs, expected):
    found = [instance_noise_level(0.3, epoch, n_epochs) for epoch in range(n_epochs)]
    assert found == pytest.approx(expected)
