"""SURE and its divergence against maps, Jacobians and simulations whose true values are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import jacrev

from anomalib_cxr.functional import (
    frozen_running_statistics,
    gaussian_sure,
    gaussian_sure_from_divergence,
    probe_divergence,
)

SIZE = 6
PIXELS = SIZE * SIZE


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def left_mask(size=SIZE, columns=2):
    mask = torch.zeros(1, 1, size, size)
    mask[..., 1:-1, :columns] = 1
    return mask


def assert_mean(values, truth, relative):
    """The mean is within `relative` of the truth, and there are enough draws for that to mean something."""
    standard_error = values.std() / len(values) ** 0.5
    assert standard_error < relative / 3 * abs(truth)
    assert abs(values.mean() - truth) < relative * abs(truth)


class TestDivergence:
    @pytest.mark.parametrize("tau", [1e-3, 1e-2, 1.0])
    @pytest.mark.parametrize("mask", [None, left_mask()])
    def test_linear_map_has_the_trace_of_its_matrix(self, tau, mask):
        matrix = torch.randn(PIXELS, PIXELS, generator=seeded(), dtype=torch.float64) + 4 * torch.eye(PIXELS)
        inside = torch.ones(PIXELS) if mask is None else mask.flatten()
        images = torch.randn(1, 1, SIZE, SIZE, generator=seeded(1)).double().expand(20_000, -1, -1, -1)

        def linear(x):
            return (x.flatten(1) @ matrix.T).reshape(x.shape)

        found = probe_divergence(images, linear(images), linear, mask, tau=tau, generator=seeded(2))
        assert found.shape == (20_000,)
        assert_mean(found, (matrix.diagonal() * inside).sum(), 0.01)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_pixelwise_gain_needs_one_probe_only(self, channels):
        gain = torch.rand(channels, SIZE, SIZE, generator=seeded())
        images = torch.randn(5, channels, SIZE, SIZE, generator=seeded(1))
        found = probe_divergence(images, gain * images, lambda x: gain * x, left_mask())
        torch.testing.assert_close(found, (gain * left_mask()).sum().expand(5), rtol=1e-3, atol=0)

    @pytest.mark.parametrize("mask", [None, left_mask()])
    def test_network_has_the_trace_of_its_jacobian(self, mask):
        torch.manual_seed(3)
        layers = nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 5, padding=2), nn.Tanh()
        network = nn.Sequential(*layers).double().requires_grad_(requires_grad=False)
        network[2].weight[:, :, 2, 2] = network[0].weight[:, 0, 1, 1]  # a trace well away from 0
        image = torch.randn(1, 1, SIZE, SIZE, dtype=torch.float64)
        derivatives = jacrev(network)(image).reshape(PIXELS, PIXELS).diagonal()
        truth = derivatives.sum() if mask is None else (derivatives * mask.flatten()).sum()

        images = image.expand(20_000, -1, -1, -1)
        denoised = network(image).expand(20_000, -1, -1, -1)
        found = probe_divergence(images, denoised, network, mask, tau=1e-3, generator=seeded())
        assert_mean(found, truth, 0.03)

    def test_a_generator_makes_it_reproducible_and_leaves_the_global_one_alone(self):
        images = torch.randn(4, 1, SIZE, SIZE, generator=seeded())
        state = torch.get_rng_state()
        first, again, other = (
            probe_divergence(images, images.roll(1, 2) ** 2, lambda x: x.roll(1, 2) ** 2, generator=seeded(seed))
            for seed in (1, 1, 2)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(state, torch.get_rng_state())

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_refused(self, dtype):
        images = torch.zeros(1, 1, SIZE, SIZE)
        with pytest.raises(TypeError, match=rf"found denoised of {dtype}, expected torch\.float32"):
            probe_divergence(images, images.to(dtype), lambda x: x)


class TestPrecision:
    @pytest.mark.parametrize("noisy_dtype", [torch.float32, torch.bfloat16])
    def test_float32_inside_mixed_precision(self, noisy_dtype):
        torch.manual_seed(0)
        network = nn.Conv2d(1, 1, 3, padding=1).requires_grad_(requires_grad=False)
        images = torch.randn(2, 1, 8, 8).to(noisy_dtype)
        seen = []

        def denoiser(x):
            seen.append((x.dtype, torch.is_autocast_enabled("cpu")))
            return network(x)

        denoised, mask = network(images.float()), left_mask(8, 4)
        expected = gaussian_sure(images.float(), denoised, network, 0.1, mask, generator=seeded())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert network(images).dtype == torch.bfloat16  # the surroundings are in half precision indeed
            found = gaussian_sure(images, denoised, denoiser, 0.1, mask, generator=seeded())
            assert torch.is_autocast_enabled("cpu")
        assert seen == [(torch.float32, False)]
        assert found.dtype == torch.float32
        tolerance = {"rtol": 0, "atol": 0} if noisy_dtype == torch.float32 else {"rtol": 1e-2, "atol": 1e-3}
        torch.testing.assert_close(found, expected, **tolerance)


class TestBatchNorm:
    @pytest.fixture
    def norm(self):
        norm = nn.BatchNorm2d(1)
        with torch.no_grad():
            norm.running_mean.fill_(0.3)
            norm.running_var.fill_(4.0)
            norm.weight.fill_(3.0)
        return norm

    @pytest.mark.parametrize("training", [True, False])
    def test_the_probe_leaves_no_trace(self, norm, training):
        network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), norm).train(training)
        images = torch.randn(4, 1, 8, 8, generator=seeded())
        denoised = network(images)
        before = {name: value.clone() for name, value in network.named_buffers()}
        assert before["1.num_batches_tracked"] == int(training)
        probe_divergence(images, denoised, network)
        for name, value in network.named_buffers():
            assert torch.equal(value, before[name]), name
        assert norm.track_running_stats
        assert norm.training == training

    def test_evaluation_uses_the_running_statistics(self, norm):
        images = torch.randn(4, 1, 8, 8, generator=seeded())
        found = probe_divergence(images, norm.eval()(images), norm)
        torch.testing.assert_close(found, torch.full((4,), 64 * 3.0 / (4 + 1e-5) ** 0.5), rtol=1e-3, atol=0)

    def test_training_uses_the_batch(self, norm):
        images = torch.randn(4, 1, 8, 8, generator=seeded())
        probe = 2 * torch.randint(0, 2, images.shape, generator=seeded(1)) - 1

        def by_hand(x):
            return 3 * (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()

        expected = (probe * (by_hand(images + 0.01 * probe) - by_hand(images))).flatten(1).sum(1) / 0.01
        found = probe_divergence(images, norm(images), norm, generator=seeded(1))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)

    def test_tracking_is_restored_after_a_failure(self, norm):
        def fail(*_):
            assert not norm.track_running_stats
            raise KeyError("lost")

        network = nn.Sequential(norm)
        network.register_forward_hook(fail)
        images = torch.zeros(2, 1, 4, 4)
        with pytest.raises(KeyError, match="lost"):
            probe_divergence(images, images, network)
        assert norm.track_running_stats

    def test_a_normalization_that_never_tracked_stays_so(self):
        norm = nn.BatchNorm2d(1, track_running_stats=False)
        with frozen_running_statistics(norm):
            norm(torch.randn(2, 1, 4, 4))
        assert not norm.track_running_stats


class Softly(nn.Module):
    """A smooth denoiser that mixes neighbors and paints a soft, slightly wrong region on a nearly black background."""

    def __init__(self, region):
        super().__init__()
        self.gate = 0.85 * region + 0.05

    def forward(self, x):
        blurred = nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        inside = torch.tanh(0.9 * x + 0.3 * blurred + 0.2 * x * blurred)
        return self.gate * inside + (1 - self.gate) * (0.15 * torch.sin(2 * x) - 0.9)


class TestUnbiased:
    """A fixed clean image, many draws of noise: the mean of the estimate is the mean of the TRUE error."""

    SIGMA = 0.2
    DRAWS = 20_000

    @pytest.fixture(scope="class")
    def clean(self):
        return 0.8 * torch.rand(1, 1, 8, 8, generator=seeded(5)) - 0.4

    @pytest.fixture(scope="class")
    def noisy(self, clean):
        return clean + self.SIGMA * torch.randn(self.DRAWS, 1, 8, 8, generator=seeded(6))

    def test_inside_a_mask(self, clean, noisy):
        mask = left_mask(8, 4)
        denoiser = Softly(mask)
        denoised = denoiser(noisy)
        lungs_on_black = torch.where(mask.bool(), clean, torch.tensor(-1.0))
        truth = (denoised - lungs_on_black).square().flatten(1).sum(1) / 64

        estimate = gaussian_sure(noisy, denoised, denoiser, self.SIGMA, mask, generator=seeded(7))
        assert_mean(estimate, truth.mean(), 0.02)

        # The dissertation's formula has no mask in its last two terms; that must not pass the same check.
        everywhere = probe_divergence(noisy, denoised, denoiser, generator=seeded(7))
        fidelity = (denoised - torch.where(mask.bool(), noisy, torch.tensor(-1.0))).square().flatten(1).mean(1)
        unmasked = fidelity - self.SIGMA**2 + 2 * self.SIGMA**2 / 64 * everywhere
        assert abs(unmasked.mean() - truth.mean()) > 0.1 * truth.mean()

    def test_of_the_whole_image(self, clean, noisy):
        denoiser = Softly(torch.ones(1, 1, 8, 8))
        denoised = denoiser(noisy)
        truth = (denoised - clean).square().flatten(1).mean(1)
        estimate = gaussian_sure(noisy, denoised, denoiser, self.SIGMA, generator=seeded(7))
        assert_mean(estimate, truth.mean(), 0.02)
        ones = gaussian_sure(noisy, denoised, denoiser, self.SIGMA, torch.ones(1, 1, 8, 8), generator=seeded(7))
        torch.testing.assert_close(estimate, ones)

    def test_without_noise_it_is_the_plain_squared_error(self, clean):
        mask = left_mask(8, 4)
        found = gaussian_sure(clean, 0.5 * clean, lambda x: 0.5 * x, 0.0, mask)
        expected = (0.5 * clean - torch.where(mask.bool(), clean, torch.tensor(-1.0))).square().mean()
        torch.testing.assert_close(found, expected.reshape(1))


class TestTerms:
    def test_by_hand(self):
        noisy = torch.tensor([[[[0.5, 0.2], [-0.3, 0.9]]]])
        denoised = torch.tensor([[[[0.25, -1.0], [-0.5, -0.5]]]])
        mask = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
        found = gaussian_sure_from_divergence(noisy, denoised, torch.tensor([1.5]), 0.4, mask)
        fidelity = (0.25**2 + 0 + 0.2**2 + 0.5**2) / 4
        torch.testing.assert_close(found, torch.tensor([fidelity - 0.16 / 2 + 2 * 0.16 / 4 * 1.5]))

    def test_background_is_a_choice(self):
        images = torch.full((1, 1, 2, 2), 0.5)
        nothing = torch.zeros(1, 1, 2, 2)
        found = gaussian_sure_from_divergence(images, images, torch.zeros(1), 0.4, nothing, background=0.0)
        torch.testing.assert_close(found, torch.tensor([0.25]))

    def test_is_the_sum_of_its_parts(self):
        images = torch.randn(3, 1, 8, 8, generator=seeded())
        mask = left_mask(8, 4).expand(3, -1, -1, -1)
        denoiser = Softly(left_mask(8, 4))
        divergence = probe_divergence(images, denoiser(images), denoiser, mask, tau=0.02, generator=seeded(1))
        expected = gaussian_sure_from_divergence(images, denoiser(images), divergence, 0.3, mask)
        found = gaussian_sure(images, denoiser(images), denoiser, 0.3, mask, tau=0.02, generator=seeded(1))
        assert torch.equal(found, expected)

    def test_each_image_has_its_own_mask_and_risk(self):
        images = torch.randn(2, 1, 8, 8, generator=seeded())
        masks = torch.cat([left_mask(8, 4), torch.ones(1, 1, 8, 8)])
        both = gaussian_sure(images, 0.5 * images, lambda x: 0.5 * x, 0.3, masks)
        each = [
            gaussian_sure(image[None], 0.5 * image[None], lambda x: 0.5 * x, 0.3, mask[None])
            for image, mask in zip(images, masks, strict=True)
        ]
        torch.testing.assert_close(both, torch.cat(each), rtol=1e-4, atol=1e-5)

    def test_gradient_flows_through_both_passes(self):
        images = torch.randn(2, 1, 8, 8, generator=seeded(), dtype=torch.float64)
        mask = left_mask(8, 4).double()

        def risk(gain):
            def denoiser(x):
                return torch.tanh(gain * x)

            return gaussian_sure(images, denoiser(images), denoiser, 0.5, mask, generator=seeded(1)).mean()

        gain = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        risk(gain).backward()
        with torch.no_grad():
            differences = (risk(gain + 1e-5) - risk(gain - 1e-5)) / 2e-5
            fidelity_only = (
                2
                * (
                    (torch.tanh(gain * images) - torch.where(mask.bool(), images, -1.0))
                    * images
                    / torch.cosh(gain * images) ** 2
                ).mean()
            )
        torch.testing.assert_close(gain.grad, differences, rtol=1e-6, atol=0)
        assert abs(gain.grad - fidelity_only) > 0.1 * abs(fidelity_only)  # the divergence takes part
