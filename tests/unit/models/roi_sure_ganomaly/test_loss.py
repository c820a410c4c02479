"""Each term against numbers worked out by hand."""

from __future__ import annotations

from math import log

import pytest
import torch

from anomalib_cxr.functional import gaussian_sure
from anomalib_cxr.models.roi_sure_ganomaly.loss import (
    GeneratorLoss,
    ReconstructionLoss,
    discriminator_loss,
    feature_matching,
    latent_agreement,
)
from anomalib_cxr.models.roi_sure_ganomaly.settings import LossWeights
from anomalib_cxr.models.roi_sure_ganomaly.torch_model import Reconstruction

IMAGE = torch.tensor([[[[0.5, 0.2], [-0.3, 0.9]]]])
MASK = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
GENERATED = torch.tensor([[[[0.25, -0.9], [-0.5, -0.5]]]])


def no_second_pass(_):
    raise AssertionError("only SURE has a second pass")


class TestTerms:
    def test_feature_matching_is_a_mean_of_distances(self):
        real = torch.zeros(2, 3, 2, 2)
        generated = real.clone()
        generated[0, 0, 0, 0], generated[0, 2, 1, 1], generated[1, 1, 0, 1] = 3.0, 4.0, -7.0
        torch.testing.assert_close(feature_matching(real, generated), torch.tensor((5.0 + 7.0) / 2))

    def test_latent_agreement_is_a_mean_of_distances(self):
        z = torch.tensor([[1.0, 2.0], [0.0, 0.0]]).reshape(2, 2, 1, 1)
        z_hat = torch.tensor([[4.0, -2.0], [0.0, 3.0]]).reshape(2, 2, 1, 1)
        found = latent_agreement(Reconstruction(torch.empty(0), z, z_hat))
        torch.testing.assert_close(found, torch.tensor((5.0 + 3.0) / 2))

    def test_mean_squared_distance_is_ganomalys(self):
        real, generated = torch.zeros(2, 2, 1, 2), torch.zeros(2, 2, 1, 2)
        generated[0, 0, 0, 0], generated[1, 1, 0, 1] = 3.0, -5.0
        expected = torch.tensor((9 + 25) / 8)
        torch.testing.assert_close(feature_matching(real, generated, "mean_squared"), expected)
        reconstruction = Reconstruction(torch.empty(0), real, generated)
        torch.testing.assert_close(latent_agreement(reconstruction, "mean_squared"), expected)

    def test_discriminator_is_half_of_each_side(self):
        # Probabilities 0.8 and 0.5 of the real ones, 0.25 of the generated one.
        real = torch.tensor([log(4.0), 0.0])
        generated = torch.tensor([log(1 / 3)])
        expected = 0.5 * (-log(0.8) - log(0.5)) / 2 + 0.5 * -log(0.75)
        torch.testing.assert_close(discriminator_loss(real, generated), torch.tensor(expected))

    def test_discriminator_that_does_not_know_has_the_logarithm_of_two(self):
        torch.testing.assert_close(discriminator_loss(torch.zeros(3), torch.zeros(3)), torch.tensor(log(2.0)))

    def test_discriminator_is_finite_for_confident_logits(self):
        found = discriminator_loss(torch.tensor([-500.0]), torch.tensor([300.0]))
        torch.testing.assert_close(found, torch.tensor(0.5 * 500 + 0.5 * 300))


class TestGeneratorLoss:
    def test_defaults_are_the_dissertations(self):
        terms = torch.tensor(1.0), torch.tensor(0.1), torch.tensor(0.01)
        torch.testing.assert_close(GeneratorLoss(LossWeights())(*terms), torch.tensor(1.0 + 0.1 + 50 * 0.01))

    def test_each_weight_belongs_to_its_term(self):
        terms = torch.tensor(1.0), torch.tensor(10.0), torch.tensor(100.0)
        torch.testing.assert_close(GeneratorLoss(LossWeights(2, 3, 4))(*terms), torch.tensor(432.0))


class TestReconstruction:
    @pytest.mark.parametrize(
        ("kind", "inside", "outside"),
        [("l2", 0.25**2 + 0.2**2, 0.1**2 + 0.5**2), ("l1", 0.25 + 0.2, 0.1 + 0.5)],
    )
    def test_background_is_black_not_gray(self, kind, inside, outside):
        found = ReconstructionLoss(kind, 0.1, 0.01)(IMAGE, MASK, GENERATED, no_second_pass)
        torch.testing.assert_close(found.loss, torch.tensor((inside + outside) / 4))
        assert found.divergence is None
        gray = (0.9**2 + 0.5**2, 0.9 + 0.5)[kind == "l1"]  # a background of 0 would give this
        assert abs(found.loss - (inside + gray) / 4) > 0.1

    @pytest.mark.parametrize("kind", ["l2", "l1"])
    def test_a_perfect_reconstruction_costs_nothing(self, kind):
        perfect = torch.tensor([[[[0.5, -1.0], [-0.3, -1.0]]]])
        assert ReconstructionLoss(kind, 0.1, 0.01)(IMAGE, MASK, perfect, no_second_pass).loss == 0

    @pytest.mark.parametrize(("kind", "expected"), [("l2", 1.1**2 + 1.4**2), ("l1", 1.1 + 1.4)])
    def test_without_a_mask_the_image_is_the_target(self, kind, expected):
        inside = {"l2": 0.25**2 + 0.2**2, "l1": 0.25 + 0.2}[kind]
        found = ReconstructionLoss(kind, 0.1, 0.01)(IMAGE, None, GENERATED, no_second_pass).loss
        torch.testing.assert_close(found, torch.tensor((inside + expected) / 4))

    @pytest.mark.parametrize("mask", [MASK, None])
    def test_sure_by_hand(self, mask):
        gain = torch.tensor([[[[0.5, 0.7], [0.2, 0.1]]]])
        inside = torch.ones(1, 1, 2, 2) if mask is None else mask
        generated = gain * IMAGE
        target = torch.where(inside.bool(), IMAGE, torch.tensor(-1.0))
        divergence = (gain * inside).sum()
        expected = (generated - target).square().sum() / 4 - 0.09 * inside.mean() + 2 * 0.09 / 4 * divergence
        found = ReconstructionLoss("sure", 0.3, 0.01)(IMAGE, mask, generated, lambda x: gain * x)
        torch.testing.assert_close(found.divergence, divergence, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.loss, expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("mask", [MASK, None])
    def test_pg_sure_by_hand(self, mask):
        slope = torch.tensor([[[[0.5, 0.7], [0.2, 0.1]]]])
        inside = torch.ones(1, 1, 2, 2) if mask is None else mask
        generated = slope * IMAGE
        target = torch.where(inside.bool(), IMAGE, torch.tensor(-1.0))
        variance = inside * (0.2 * (IMAGE + 1) + 0.09)
        expected = ((generated - target).square() - variance + 2 * variance * slope).sum() / 4
        loss = ReconstructionLoss("pg_sure", sigma=0.3, tau=0.01, gain=0.2)
        found = loss(IMAGE, mask, generated, lambda x: slope * x)
        torch.testing.assert_close(found.divergence, (slope * inside).sum(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.loss, expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("kind", ["sure", "pg_sure"])
    def test_three_copies_of_a_channel_have_the_same_noise(self, kind):
        """A generator of three channels from one: each has the risk that it would have alone, and their mean is it."""
        slopes = torch.tensor([0.9, 0.5, 0.1]).reshape(1, 3, 1, 1)
        images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        loss = ReconstructionLoss(kind, sigma=0.3, tau=0.01, gain=0.2)
        each = [loss(images, None, slope * images, lambda x, slope=slope: slope * x).loss for slope in slopes[0]]
        together = loss(images, None, slopes * images, lambda x: slopes * x)
        torch.testing.assert_close(together.loss, torch.stack(each).mean(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.divergence, torch.tensor(64 * 1.5), rtol=1e-4, atol=0)

    @pytest.mark.parametrize(("kind", "power"), [("l2", 2), ("l1", 1)])
    def test_each_of_three_channels_is_to_be_the_region(self, kind, power):
        generated = torch.stack([GENERATED[0, 0], IMAGE[0, 0], GENERATED[0, 0]])[None]
        target = torch.tensor([[0.5, -1.0], [-0.3, -1.0]])
        expected = sum((channel - target).abs() ** power for channel in generated[0]).sum() / 12
        found = ReconstructionLoss(kind, 0.1, 0.01)(IMAGE, MASK, generated, no_second_pass).loss
        torch.testing.assert_close(found, expected)

    def test_sure_is_the_mean_of_the_risks_with_the_given_sigma_and_tau(self):
        images = torch.randn(5, 1, 4, 4)
        torch.manual_seed(0)
        found = ReconstructionLoss("sure", 0.3, 0.5)(images, None, images**3, lambda x: x**3)
        torch.manual_seed(0)
        risks = gaussian_sure(images, images**3, lambda x: x**3, 0.3, tau=0.5)
        torch.testing.assert_close(found.loss, risks.mean())
