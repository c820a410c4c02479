"""The risk under Poisson-Gaussian noise against simulations, in which the clean image is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anomalib_cxr.functional import (
    gaussian_sure,
    poisson_gaussian_sure,
    poisson_gaussian_sure_from_response,
    probe_response,
)

GAIN, SIGMA = 0.05, 0.1  # in [-1, 1]: the noise of a bright pixel has a standard deviation of 0.33
DRAWS = 20_000
SIDE = 8
LEFT = torch.zeros(1, 1, SIDE, SIDE)
LEFT[..., 1:-1, :4] = 1
EVERYWHERE = torch.ones(1, 1, SIDE, SIDE)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def photograph(clean, gain, sigma, draws=DRAWS):
    """Draw noisy images of a clean one: each pixel counts its photons, then the electronics add their noise."""
    photons = torch.poisson(((clean + 1) / gain).expand(draws, -1, -1, -1), generator=seeded(6))
    return gain * photons - 1 + sigma * torch.randn(photons.shape, generator=seeded(7), dtype=clean.dtype)


class Mixing(nn.Module):
    """A denoiser that trusts bright pixels and blurs dark ones, paints black outside, and is linear or curved."""

    def __init__(self, trust, region, *, curved):
        super().__init__()
        self.trust, self.region, self.curved = trust, 0.95 * region, curved

    def forward(self, x):
        blurred = nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        mixed = self.trust * x + 0.7 * (1 - self.trust) * blurred
        inside = torch.tanh(0.9 * mixed + 0.1 * x * blurred) if self.curved else mixed
        return self.region * (inside + 1) - 1


@pytest.fixture(scope="module")
def clean():
    return 1.6 * torch.rand(1, 1, SIDE, SIDE, generator=seeded(5), dtype=torch.float64) - 0.8


@pytest.fixture(scope="module")
def noisy(clean):
    return photograph(clean, GAIN, SIGMA)


def true_risk(denoised, clean, region):
    return (denoised - torch.where(region.bool(), clean, -1.0)).square().flatten(1).mean(1)


def relative_bias(estimate, truth):
    """Return the bias in parts of the truth, and its standard error; both estimates saw the same noise."""
    difference = estimate - truth
    return (difference.mean() / truth.mean()).item(), (difference.std() / len(truth) ** 0.5 / truth.mean()).item()


class TestUnbiased:
    def test_the_noise_has_the_variance_of_the_model(self, clean, noisy):
        torch.testing.assert_close(noisy.mean(0), clean[0], rtol=0, atol=0.01)
        torch.testing.assert_close(noisy.var(0), GAIN * (clean[0] + 1) + SIGMA**2, rtol=0.05, atol=0)

    @pytest.mark.parametrize("curved", [False, True])
    @pytest.mark.parametrize("mask", [None, LEFT], ids=["whole", "mask"])
    def test_and_the_gaussian_estimate_is_not(self, clean, noisy, mask, curved):
        region = EVERYWHERE if mask is None else mask
        denoiser = Mixing((clean + 1) / 2, region, curved=curved)
        denoised = denoiser(noisy)
        truth = true_risk(denoised, clean, region)
        estimate = poisson_gaussian_sure(noisy, denoised, denoiser, GAIN, SIGMA, mask, generator=seeded(8))
        bias, error = relative_bias(estimate, truth)
        assert error < 0.005
        assert abs(bias) < 0.015

        variance = (region * (GAIN * (clean + 1) + SIGMA**2)).sum() / region.sum()
        gaussian = gaussian_sure(noisy, denoised, denoiser, variance.item() ** 0.5, mask, generator=seeded(8))
        bias, error = relative_bias(gaussian, truth)
        assert error < 0.005
        assert abs(bias) > 0.04

    def test_the_mask_belongs_to_the_terms_of_the_noise(self, clean, noisy):
        denoiser = Mixing((clean + 1) / 2, LEFT, curved=False)
        denoised = denoiser(noisy)
        truth = true_risk(denoised, clean, LEFT)
        everywhere = probe_response(noisy, denoised, denoiser, generator=seeded(8)) / 0.01
        variance = GAIN * (noisy + 1) + SIGMA**2
        fidelity = (denoised - torch.where(LEFT.bool(), noisy, -1.0)).square()
        unmasked = (fidelity - variance + 2 * variance * everywhere).flatten(1).mean(1)
        assert abs(relative_bias(unmasked, truth)[0]) > 0.5

    def test_dark_pixels_of_negative_value_are_not_cut_off(self, clean):
        """Where the intensity is nearly none, half of the pixels lie under black."""
        dark = 0.02 * (clean + 1) - 1
        noisy = photograph(dark, GAIN, SIGMA)
        assert (noisy < -1).double().mean() > 0.3
        denoiser = Mixing((clean + 1) / 2, EVERYWHERE, curved=False)
        denoised = denoiser(noisy)
        truth = true_risk(denoised, dark, EVERYWHERE)
        estimate = poisson_gaussian_sure(noisy, denoised, denoiser, GAIN, SIGMA, generator=seeded(8))
        bias, error = relative_bias(estimate, truth)
        assert error < 0.01
        assert abs(bias) < 0.03


class TestSecondDerivative:
    """What the estimate leaves out, for a pixelwise map whose derivatives are known."""

    @pytest.mark.parametrize(("gain", "share"), [(0.002, 0.0002), (0.02, 0.0016), (0.1, 0.022)])
    def test_is_what_the_bias_is_made_of_and_small_for_a_small_gain(self, clean, gain, share):
        noisy = photograph(clean, gain, SIGMA, draws=50_000)
        denoised = torch.tanh(noisy)
        truth = true_risk(denoised, clean, EVERYWHERE)
        estimate = poisson_gaussian_sure(noisy, denoised, torch.tanh, gain, SIGMA, tau=1e-3, generator=seeded(8))
        second = -2 * denoised * (1 - denoised.square())
        left_out = (gain * (gain * (noisy + 1) + 2 * SIGMA**2) * second).flatten(1).mean(1)
        assert abs(left_out.mean() / truth.mean()) == pytest.approx(share, rel=0.2)
        bias, error = relative_bias(estimate, truth)
        assert error < 0.001
        assert abs(bias) < share + 3 * error
        remaining, _ = relative_bias(estimate - left_out, truth)
        assert abs(remaining) < 0.4 * share + 3 * error


class TestTerms:
    def test_by_hand(self):
        noisy = torch.tensor([[[[0.5, 0.2], [-0.3, 0.9]]]])
        denoised = torch.tensor([[[[0.25, -1.0], [-0.5, -0.5]]]])
        mask = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
        derivatives = torch.tensor([[[[0.6, 0.0], [0.1, 0.0]]]])
        found = poisson_gaussian_sure_from_response(noisy, denoised, 0.01 * derivatives, 0.2, 0.4, mask)
        variances = 0.2 * 1.5 + 0.16, 0.2 * 0.7 + 0.16
        fidelity = 0.25**2 + 0 + 0.2**2 + 0.5**2
        expected = (fidelity - sum(variances) + 2 * (0.6 * variances[0] + 0.1 * variances[1])) / 4
        torch.testing.assert_close(found, torch.tensor([expected]))

    def test_background_is_the_value_of_no_intensity(self):
        """The same picture in [0, 1] and in [-1, 1]: gain and sigma double, and the squared error is four times."""
        light = torch.rand(3, 1, SIDE, SIDE, generator=seeded(), dtype=torch.float64)
        found = poisson_gaussian_sure(
            light, 0.5 * light, lambda x: 0.5 * x, 0.05, 0.1, LEFT, tau=0.005, background=0.0, generator=seeded(1)
        )
        scaled = poisson_gaussian_sure(
            2 * light - 1, light - 1, lambda x: 0.5 * x - 0.5, 0.1, 0.2, LEFT, tau=0.01, generator=seeded(1)
        )
        torch.testing.assert_close(scaled, 4 * found)

    @pytest.mark.parametrize("mask", [None, LEFT])
    def test_without_gain_it_is_the_gaussian_estimate_to_the_last_bit(self, mask):
        images = torch.randn(4, 1, SIDE, SIDE, generator=seeded())
        settings = {"mask": mask, "tau": 0.02, "background": -0.5}
        found = poisson_gaussian_sure(images, images.tanh(), torch.tanh, 0.0, 0.3, generator=seeded(1), **settings)
        expected = gaussian_sure(images, images.tanh(), torch.tanh, 0.3, generator=seeded(1), **settings)
        assert torch.equal(found, expected)

    def test_gradient_flows_through_both_passes(self):
        images = torch.rand(2, 1, SIDE, SIDE, generator=seeded(), dtype=torch.float64)

        def risk(slope):
            denoised = torch.tanh(slope * images)
            return poisson_gaussian_sure(
                images, denoised, lambda x: torch.tanh(slope * x), 0.3, 0.5, LEFT, generator=seeded(1)
            ).mean()

        slope = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        risk(slope).backward()
        with torch.no_grad():
            differences = (risk(slope + 1e-5) - risk(slope - 1e-5)) / 2e-5
        torch.testing.assert_close(slope.grad, differences, rtol=1e-6, atol=0)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_refused(self, dtype):
        images = torch.zeros(1, 1, SIDE, SIDE)
        with pytest.raises(TypeError, match=rf"found denoised of {dtype}, expected torch\.float32"):
            poisson_gaussian_sure(images, images.to(dtype), torch.tanh, 0.1, 0.1)
