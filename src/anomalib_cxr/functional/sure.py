"""Stein's unbiased risk estimate (SURE) for Gaussian and for Poisson-Gaussian noise, restricted to a mask.

Sources: [0] C. Stein, "Estimation of the mean of a multivariate normal distribution", Annals of Statistics 1981;
[1] S. Ramani, T. Blu, M. Unser, "Monte-Carlo SURE", IEEE Transactions on Image Processing 2008; [2] F. Luisier, T. Blu,
M. Unser, "Image denoising in mixed Poisson-Gaussian noise", ibid. 2011; [3] M. Raphan, E. P. Simoncelli, "Least squares
estimation without priors or supervision", Neural Computation 2011; [4] Y. Le Montagner, E. D. Angelini, J.-C.
Olivo-Marin, "An unbiased risk estimator for image denoising in the presence of mixed Poisson-Gaussian noise", IEEE
Transactions on Image Processing 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .roi import BLACK

Denoiser = Callable[[torch.Tensor], torch.Tensor]


@contextmanager
def frozen_running_statistics(denoiser: Denoiser) -> Iterator[None]:
    """Keep the running statistics of a module's batch normalizations unchanged inside the block.

    In training mode the normalizations use the statistics of the batch, as before.

    Args:
        denoiser: A module; any other callable is left alone.

    Example:
        >>> norm = nn.BatchNorm1d(1)
        >>> with frozen_running_statistics(norm):
        ...     _ = norm(torch.randn(8, 1) + 5)
        >>> norm.running_mean
        tensor([0.])
    """
    modules = denoiser.modules() if isinstance(denoiser, nn.Module) else ()
    tracking = [module for module in modules if isinstance(module, _BatchNorm) and module.track_running_stats]
    for module in tracking:
        # In training mode a normalization that does not track uses the batch and leaves its buffers as they are.
        module.track_running_stats = not module.training
    try:
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True


def _rademacher(like: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Return independent signs, +1 or -1: the probe of minimum variance."""
    signs = torch.randint(0, 2, like.shape, generator=generator, device=like.device)
    return (2 * signs - 1).to(like.dtype)


def probe_response(
    noisy: torch.Tensor,
    denoised: torch.Tensor,
    denoiser: Denoiser,
    mask: torch.Tensor | None = None,
    *,
    tau: float = 1e-2,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Estimate the diagonal of a denoiser's Jacobian, times tau, with one random probe (Hutchinson's estimator).

    With independent signs `b` and `b_M = mask * b`: `b_M * (h(x + tau b_M) - h(x))`. Its mean over `b` is
    `tau dh_i / dx_i` inside the mask, up to the curvature of `h` over `tau`, and 0 outside. A weighted sum over the
    pixels, with weights independent of `b`, estimates the same sum of the derivatives.

    Both passes must be in float32: the difference of two half-precision passes is rounding noise. The probe's pass
    runs with autocast switched off and leaves the running statistics of batch normalization alone.

    Args:
        noisy: Input `x` of the denoiser, `(B, C, H, W)`.
        denoised: `h(x)`, `(B, C, H, W)`, float32; it may have several channels where `noisy` has one.
        denoiser: `h`.
        mask: 1 inside, 0 outside, `(B, 1, H, W)`; None for the whole image.
        tau: Step of the finite difference, above 0, in the scale of `noisy`.
        generator: Source of the probe; None for torch's global one.

    Returns:
        Response of each pixel of `denoised`, `(B, C, H, W)`. Gradients flow through both passes.

    Raises:
        TypeError: If `denoised` is not float32 (or float64).

    Example:
        >>> x = torch.ones(1, 1, 1, 2)
        >>> probe_response(x, 3 * x, lambda y: 3 * y, tau=1.0)
        tensor([[[[3., 3.]]]])
    """
    if denoised.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"found denoised of {denoised.dtype}, expected torch.float32: compute it with autocast switched off"
        )
    noisy = noisy.to(denoised.dtype)
    probe = _rademacher(noisy, generator)
    if mask is not None:
        probe = mask.to(probe.dtype) * probe
    with torch.autocast(noisy.device.type, enabled=False), frozen_running_statistics(denoiser):
        moved = denoiser(noisy + tau * probe)
    return probe * (moved - denoised)


def probe_divergence(
    noisy: torch.Tensor,
    denoised: torch.Tensor,
    denoiser: Denoiser,
    mask: torch.Tensor | None = None,
    *,
    tau: float = 1e-2,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Estimate the divergence of a denoiser inside a mask, `sum_{i in mask} dh_i / dx_i`, with one random probe.

    Args:
        noisy: Input of the denoiser, as for :func:`probe_response`.
        denoised: `h(noisy)`.
        denoiser: `h`.
        mask: 1 inside, 0 outside; None for the whole image.
        tau: Step of the finite difference.
        generator: Source of the probe.

    Returns:
        One divergence per image, `(B,)`. Gradients flow through both passes.

    Raises:
        TypeError: If `denoised` is not float32 (or float64).

    Example:
        >>> x = torch.randn(2, 1, 8, 8)
        >>> probe_divergence(x, 3 * x, lambda y: 3 * y).round()  # the divergence of 3 y is 3 in each of 64 pixels
        tensor([192., 192.])
    """
    response = probe_response(noisy, denoised, denoiser, mask, tau=tau, generator=generator)
    return response.flatten(1).sum(1) / tau


def gaussian_sure_from_divergence(
    noisy: torch.Tensor,
    denoised: torch.Tensor,
    divergence: torch.Tensor,
    sigma: float,
    mask: torch.Tensor | None = None,
    *,
    background: float = BLACK,
) -> torch.Tensor:
    """Compute SURE for Gaussian noise from a known divergence; see :func:`gaussian_sure`.

    Args:
        noisy: Observed images, `(B, C, H, W)`.
        denoised: `h(noisy)`, `(B, C, H, W)`.
        divergence: Divergence of `h` inside the mask, `(B,)`.
        sigma: Standard deviation of the noise, in the scale of `noisy`.
        mask: 1 inside, 0 outside, `(B, 1, H, W)`; None for the whole image.
        background: Target outside the mask.

    Returns:
        One risk per image, `(B,)`.
    """
    mask = torch.ones_like(noisy[:, :1]) if mask is None else mask.to(noisy.dtype)
    target = mask * (noisy - background) + background
    pixels = denoised[0].numel()
    fidelity = (denoised - target).square().flatten(1).mean(1)
    coverage = mask.expand_as(noisy).flatten(1).mean(1)
    return fidelity - sigma**2 * coverage + 2 * sigma**2 / pixels * divergence


def gaussian_sure(
    noisy: torch.Tensor,
    denoised: torch.Tensor,
    denoiser: Denoiser,
    sigma: float,
    mask: torch.Tensor | None = None,
    *,
    tau: float = 1e-2,
    background: float = BLACK,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Estimate the mean squared error of a denoiser against the unknown clean image, for Gaussian noise.

    Noise model: `noisy = clean + n`, `n ~ N(0, sigma^2 I)`, sigma known.

    Formula: with `P` pixels, mask `M` and `Y(x)` = `x` inside the mask and `background` outside,

    `sure = ||h(x) - Y(x)||^2 / P - sigma^2 mean(M) + (2 sigma^2 / P) div_M h(x)`

    Unbiased: its mean over the noise is `||h(x) - Y(clean)||^2 / P` for any mask that does not depend on the noise;
    without the mask in the last two terms it would be biased. A single value may be negative. The noise of real X-rays
    is neither Gaussian nor of known strength: there the noise model is an assumption.

    Units: `sigma`, `tau` and `background` are in the scale of `noisy`; a sigma for [0, 1] doubles in [-1, 1].

    Args:
        noisy: Observed images `x`, `(B, C, H, W)`.
        denoised: `h(x)`, `(B, C, H, W)`, float32.
        denoiser: `h`, called once more at `x + tau * probe`.
        sigma: Standard deviation of the noise, at least 0.
        mask: 1 inside the region to be denoised, 0 outside, `(B, 1, H, W)`; None for the whole image.
        tau: Step of the finite difference, above 0; 1e-2 suits images in [-1, 1] and float32.
        background: Target outside the mask.
        generator: Source of the probe; None for torch's global one.

    Returns:
        One risk per image, `(B,)`. Gradients flow to the denoiser's parameters through both passes.

    Raises:
        TypeError: If `denoised` is not float32 (or float64).

    Example:
        >>> _ = torch.manual_seed(0)
        >>> clean = torch.zeros(4, 1, 64, 64)
        >>> noisy = clean + 0.1 * torch.randn_like(clean)
        >>> halve = lambda x: 0.5 * x
        >>> truth = (halve(noisy) - clean).square().mean()
        >>> estimate = gaussian_sure(noisy, halve(noisy), halve, sigma=0.1).mean()
        >>> bool((estimate - truth).abs() < 1e-3)
        True
    """
    divergence = probe_divergence(noisy, denoised, denoiser, mask, tau=tau, generator=generator)
    return gaussian_sure_from_divergence(noisy, denoised, divergence, sigma, mask, background=background)


def poisson_gaussian_sure_from_response(
    noisy: torch.Tensor,
    denoised: torch.Tensor,
    response: torch.Tensor,
    gain: float,
    sigma: float,
    mask: torch.Tensor | None = None,
    *,
    tau: float = 1e-2,
    background: float = BLACK,
) -> torch.Tensor:
    """Compute SURE for Poisson-Gaussian noise from a known probe response; see :func:`poisson_gaussian_sure`.

    Args:
        noisy: Observed images, `(B, C, H, W)`.
        denoised: `h(noisy)`, `(B, C, H, W)`.
        response: Result of :func:`anomalib_cxr.functional.probe_response` for the same mask and tau.
        gain: Slope of the noise's variance over the intensity, in the scale of `noisy`.
        sigma: Standard deviation of the noise at intensity 0, in the scale of `noisy`.
        mask: 1 inside, 0 outside, `(B, 1, H, W)`; None for the whole image.
        tau: Step of the probe's finite difference.
        background: Value of intensity 0, and target outside the mask.

    Returns:
        One risk per image, `(B,)`.
    """
    divergence = response.flatten(1).sum(1) / tau
    gaussian = gaussian_sure_from_divergence(noisy, denoised, divergence, sigma, mask, background=background)
    # May be negative in dark pixels: clamping at 0 would bias its mean.
    intensity = noisy - background
    inside = intensity if mask is None else mask.to(noisy.dtype) * intensity
    weighted_divergence = (intensity * response).flatten(1).mean(1) / tau
    return gaussian + gain * (2 * weighted_divergence - inside.flatten(1).mean(1))


def poisson_gaussian_sure(
    noisy: torch.Tensor,
    denoised: torch.Tensor,
    denoiser: Denoiser,
    gain: float,
    sigma: float,
    mask: torch.Tensor | None = None,
    *,
    tau: float = 1e-2,
    background: float = BLACK,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Estimate the mean squared error of a denoiser against the unknown clean image, for Poisson-Gaussian noise.

    Noise model: with the intensity `u = clean - background >= 0`, `noisy - background = gain * Poisson(u / gain) + n`,
    `n ~ N(0, sigma^2 I)`, so that a pixel's variance is `gain * u + sigma^2`; gain and sigma known.

    Formula: with `P` pixels, mask `M`, `y = x - background`, `Y(x)` = `x` inside the mask and `background` outside,

    `risk = ||h(x) - Y(x)||^2 / P - sum_M (gain y_i + sigma^2) / P + 2 / P sum_M (gain y_i + sigma^2) dh_i / dx_i`

    Unbiased: for a linear `h`, its mean over the noise is exactly `||h(x) - Y(clean)||^2 / P`. For other `h` the bias
    is the curvature of `h` over a step of `gain`: by Luisier's identity the exact estimate evaluates `h` at
    `x_i - gain` for each pixel separately, of which this keeps the first derivative. The next term,
    `-gain / P sum_M (gain y_i + 2 sigma^2) d^2 h_i / dx_i^2`, would take another probe and is negligible: for a
    pixelwise tanh in [-1, 1] it is 0.02 % of the risk at a gain of 0.002, 0.2 % at 0.02 and 2 % at 0.1. With
    `gain = 0` this is :func:`gaussian_sure`. A single value may be negative.

    Units: `gain`, `sigma`, `tau` and `background` are in the scale of `noisy`. From [0, 1] to [-1, 1] both gain and
    sigma double: the variance is four times as large, the intensity twice.

    Args:
        noisy: Observed images `x`, `(B, C, H, W)`.
        denoised: `h(x)`, `(B, C, H, W)`, float32.
        denoiser: `h`, called once more at `x + tau * probe`.
        gain: Slope of the variance over the intensity, at least 0.
        sigma: Standard deviation of the noise at intensity 0, at least 0.
        mask: 1 inside the region to be denoised, 0 outside, `(B, 1, H, W)`; None for the whole image.
        tau: Step of the finite difference, above 0; 1e-2 suits images in [-1, 1] and float32.
        background: Value of intensity 0, and target outside the mask; black, -1, in [-1, 1].
        generator: Source of the probe; None for torch's global one.

    Returns:
        One risk per image, `(B,)`. Gradients flow to the denoiser's parameters through both passes.

    Raises:
        TypeError: If `denoised` is not float32 (or float64).

    Example:
        >>> _ = torch.manual_seed(0)
        >>> clean = torch.zeros(4, 1, 64, 64)  # an intensity of 1 above the background of -1
        >>> noisy = 0.02 * torch.poisson((clean + 1) / 0.02) - 1 + 0.1 * torch.randn_like(clean)
        >>> halve = lambda x: 0.5 * x
        >>> truth = (halve(noisy) - clean).square().mean()
        >>> estimate = poisson_gaussian_sure(noisy, halve(noisy), halve, gain=0.02, sigma=0.1).mean()
        >>> bool((estimate - truth).abs() < 1e-3)
        True
    """
    response = probe_response(noisy, denoised, denoiser, mask, tau=tau, generator=generator)
    return poisson_gaussian_sure_from_response(
        noisy, denoised, response, gain, sigma, mask, tau=tau, background=background
    )
