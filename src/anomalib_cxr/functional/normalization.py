"""Intensities that do not depend on how an X-ray was exposed."""

from __future__ import annotations

from typing import Literal

import torch

Normalization = Literal["global", "lung", "local"]
NORMALIZATIONS: tuple[Normalization, ...] = ("global", "lung", "local")

LOCAL_EPSILON, LUNG_EPSILON = 0.02, 0.01
"""Added to standard deviations of gray values in [0, 1], so that flat places do not turn into noise."""
_REACH = 4  # standard deviations of a Gaussian that are taken into account


def smoothing_matrix(count: int, sigma: float, like: torch.Tensor) -> torch.Tensor:
    """Return a Gaussian smoothing of `count` pixels in a row as a matrix; the image is mirrored at its borders.

    As a matrix product it is the same in an exported graph, and as fast as a convolution for widths like these.

    Args:
        count: Pixels in the row.
        sigma: Standard deviation in pixels.
        like: A tensor of the wanted type, on the wanted device.

    Returns:
        `(count, count)`; its rows add up to 1.

    Example:
        >>> smoothing_matrix(3, 0.5, torch.zeros(1)).round(decimals=2)
        tensor([[0.8900, 0.1100, 0.0000],
                [0.1100, 0.7900, 0.1100],
                [0.0000, 0.1100, 0.8900]])
    """
    reach = int(_REACH * sigma + 0.5)
    away = torch.arange(-reach, reach + 1, device=like.device)
    weights = torch.exp(-((away / sigma) ** 2) / 2).to(like.dtype)
    at = (torch.arange(count, device=like.device).reshape(-1, 1) + away) % (2 * count)
    mirrored = torch.minimum(at, 2 * count - 1 - at)  # (count, 2 * reach + 1)
    matrix = torch.zeros(count, count, device=like.device, dtype=like.dtype)
    return matrix.scatter_add_(1, mirrored, (weights / weights.sum()).expand_as(mirrored).contiguous())


def smooth(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Smooth images by a Gaussian of so many pixels, mirrored at their borders, `(B, C, H, W)`.

    Example:
        >>> smooth(torch.ones(1, 1, 4, 6), 2.0).allclose(torch.ones(1, 1, 4, 6))
        True
    """
    rows, columns = (smoothing_matrix(count, sigma, images) for count in images.shape[-2:])
    return rows @ (images @ columns.transpose(0, 1))


def normalize_locally(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Take off the local mean and divide by the local standard deviation.

    Args:
        images: Gray values in [0, 1], `(B, C, H, W)`.
        sigma: Standard deviation in pixels of the Gaussian that says what is local.

    Returns:
        Deviations in local standard deviations, `(B, C, H, W)`.
    """
    away = images - smooth(images, sigma)
    return away / (smooth(away**2, sigma).sqrt() + LOCAL_EPSILON)


def normalize_by_lungs(images: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Take off the mean in the lungs and divide by the standard deviation there.

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
