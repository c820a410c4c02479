"""Synthetic healthy lungs in their frames."""

from __future__ import annotations

import math

import torch

from anomalib_cxr.functional.frames import unstack_lungs


def draw_healthy(count, size=(64, 80), seed=0):
    """Draw frames of lungs, `(count, 1, *size)`: a smooth base, ribs that lie a little differently in each, and grain.

    The first ones of a seed stay the same, however many are drawn.
    """
    frames = [_draw_one(size, torch.Generator().manual_seed(1000 * seed + number)) for number in range(count)]
    return torch.cat(frames)


def _draw_one(size, draw):
    def vary(low, high):
        return low + (high - low) * torch.rand(2, 1, 1, 1, generator=draw)

    y, x = torch.linspace(0, 1, size[0]).reshape(-1, 1), torch.linspace(-1, 1, size[1] // 2)
    ribs = torch.sin(2 * math.pi * (5 * (y + vary(0.1, 0.2) * x**2) + vary(0, 0.3)))
    lungs = vary(0.35, 0.45) + 0.15 * y + vary(0.06, 0.1) * ribs
    return unstack_lungs(lungs + 0.01 * torch.randn(lungs.shape, generator=draw))
