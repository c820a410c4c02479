"""Lesions that change what the lung shows without adding tissue: its grain, its course, its place."""

from __future__ import annotations

import torch
from torch.nn import functional

from .drawing import blot, noise, one_of, positions, resample, some, uniform
from .levels import Levels, soften

_TINY, _FLAT = 1e-3, 0.01  # divisors' least weight and least standard deviation


def paint_texture(
    lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator
) -> torch.Tensor:
    """Texture: vessels blurred by ground glass, or an interstitium that stands out more than in the healthy."""
    del levels  # only what is there is blurred or sharpened
    reach = one_of((1, 2, 4), generator)
    blurred = functional.avg_pool2d(functional.pad(lungs, [reach] * 4, mode="reflect"), 2 * reach + 1, stride=1)
    amount = uniform(lungs, -1, 2, generator)  # below 0 it blurs, above 0 it sharpens
    return lungs + amount * blot(inside, (0.1, 0.35), generator) * soften(inside) * (lungs - blurred)


def paint_warp(lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator) -> torch.Tensor:
    """Warp: fissures, vessels and hilum pulled out of place by scars and loss of volume."""
    del levels  # only what is there is moved
    amount = uniform(lungs, 0.01, 0.05, generator) * blot(inside, (0.1, 0.3), generator)
    y, x = (axis + amount * noise(lungs, 6, 6, generator) for axis in positions(lungs))
    return resample(lungs, y, x)


def paint_cut_paste(
    lungs: torch.Tensor, inside: torch.Tensor, levels: Levels, generator: torch.Generator
) -> torch.Tensor:
    """Cut and paste: anatomy where it does not belong, which stands for any disease that nobody thought of.

    The piece comes from the next image of the batch (a single image gives to itself), matched in mean and contrast and
    then changed in both.
    """
    piece = _elsewhere(lungs.roll(1, 0), generator)
    shape = blot(inside, (0.05, 0.2), generator, sharpness=(3, 10)) * soften(inside)
    mean, spread = _moments(lungs, shape)
    piece_mean, piece_spread = _moments(piece, shape)
    contrast = uniform(lungs, -0.4, 0.7, generator).exp() * spread / piece_spread
    brightness = mean + uniform(lungs, -0.2, 1.2, generator) * levels.contrast
    pasted = (piece - piece_mean) * contrast + brightness
    return lungs + uniform(lungs, 0.4, 1, generator) * shape * (pasted - lungs)


def _elsewhere(lungs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift, shear and scale images at random, and mirror half of them."""
    (y, x), middle = positions(lungs), 0.5 * lungs.shape[-1] / lungs.shape[-2]
    down, across = y - 0.5, torch.where(some(lungs, 0.5, generator), -1, 1) * (x - middle)
    mixed = (
        uniform(lungs, 0.5, 1.3, generator) * main + uniform(lungs, -0.4, 0.4, generator) * other
        for main, other in ((down, across), (across, down))
    )
    to_y, to_x = (each + uniform(lungs, -0.2, 0.2, generator) for each in mixed)
    return resample(lungs, to_y + 0.5, to_x + middle)


def _moments(images: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted mean and standard deviation of each image, `(B, 1, 1, 1)`; the latter above 0."""
    share = weights / (weights.sum(dim=(2, 3), keepdim=True) + _TINY)
    mean = (images * share).sum(dim=(2, 3), keepdim=True)
    return mean, ((images - mean) ** 2 * share).sum(dim=(2, 3), keepdim=True).sqrt() + _FLAT
