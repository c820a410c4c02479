"""Intensity normalization of X-rays, local or by the lungs, against differences of exposure."""

from __future__ import annotations

from typing import Literal

import torch

Normalization = Literal["global", "lung", "local"]
NORMALIZATIONS: tuple[Normalization, ...] = ("global", "lung", "local")

LOCAL_EPSILON, LUNG_EPSILON = 0.02, 0.01
"""Added to standard deviations of gray values in [0, 1], so that noise in uniform regions is not amplified."""
_TRUNCATE = 4  # standard deviations at which a Gaussian is cut off


def smoothing_matrix(count: int, sigma: float, like: torch.Tensor) -> torch.Tensor:
    """Return the matrix of a Gaussian smoothing of a row of pixels that is mirrored at its ends.

    A matrix product is as fast as a convolution at these widths, and computes the same in an exported graph.

    Args:
        count: Number of pixels in the row.
        sigma: Standard deviation in pixels.
        like: Tensor of the wanted type, on the wanted device.

    Returns:
        Matrix whose rows sum to 1, `(count, count)`.

    Example:
        >>> smoothing_matrix(3, 0.5, torch.zeros(1)).round(decimals=2)
        tensor([[0.8900, 0.1100, 0.0000],
                [0.1100, 0.7900, 0.1100],
                [0.0000, 0.1100, 0.8900]])
    """
    reach = int(_TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1, device=like.device)
    weights = torch.exp(-((offsets / sigma) ** 2) / 2).to(like.dtype)
    positions = (torch.arange(count, device=like.device).reshape(-1, 1) + offsets) % (2 * count)
    mirrored = torch.minimum(positions, 2 * count - 1 - positions)  # (count, 2 * reach + 1)
    matrix = torch.zeros(count, count, device=like.device, dtype=like.dtype)
    return matrix.scatter_add_(1, mirrored, (weights / weights.sum()).expand_as(mirrored).contiguous())


def smooth(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Smooth images by a Gaussian, mirrored at their borders.

    Args:
        images: Images, `(B, C, H, W)`.
        sigma: Standard deviation in pixels.

    Returns:
        Smoothed images, `(B, C, H, W)`.

    Example:
        >>> smooth(torch.ones(1, 1, 4, 6), 2.0).allclose(torch.ones(1, 1, 4, 6))
        True
    """
    rows, columns = (smoothing_matrix(count, sigma, images) for count in images.shape[-2:])
    return rows @ (images @ columns.transpose(0, 1))


def normalize_locally(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Subtract the local mean and divide by the local standard deviation.

    Args:
        images: Gray values in [0, 1], `(B, C, H, W)`.
        sigma: Standard deviation in pixels of the Gaussian window.

    Returns:
        Deviations in local standard deviations, `(B, C, H, W)`.
    """
    deviation = images - smooth(images, sigma)
    return deviation / (smooth(deviation**2, sigma).sqrt() + LOCAL_EPSILON)


def normalize_by_lungs(images: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Subtract the mean in the lungs and divide by the standard deviation in the lungs.

    Args:
        images: Gray values in [0, 1], `(B, 1, H, W)`.
        inside: 1 in the lungs, 0 elsewhere, `(H, W)` or `(B, 1, H, W)`.

    Returns:
        Deviations in standard deviations of the lungs, `(B, 1, H, W)`.
    """
    weights = inside / inside.sum(dim=(-2, -1), keepdim=True)
    mean = (images * weights).sum(dim=(-2, -1), keepdim=True)
    variance = ((images - mean) ** 2 * weights).sum(dim=(-2, -1), keepdim=True)
    return (images - mean) / (variance.sqrt() + LUNG_EPSILON)
