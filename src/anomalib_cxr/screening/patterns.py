"""Drawn patterns that are no X-rays, for the gate to learn from: noise, clouds, blocks and waves."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter


def draw_patterns(count: int, side: int, seed: int) -> torch.Tensor:
    """Draw patterns, the four kinds in turn.

    Args:
        count: Patterns.
        side: In pixels.
        seed: Of the drawing.

    Returns:
        In [0, 1], each from black to white, `(count, 1, side, side)`.

    Example:
        >>> draw_patterns(4, 16, seed=0).shape
        torch.Size([4, 1, 16, 16])
    """
    rng = np.random.default_rng(seed)
    kinds = (_noise, _clouds, _blocks, _waves)
    drawn = [_spread(kinds[index % len(kinds)](rng, side), rng) for index in range(count)]
    return torch.from_numpy(np.stack(drawn)[:, None].astype(np.float32))


def _noise(rng: np.random.Generator, side: int) -> np.ndarray:
    return rng.standard_normal((side, side))


def _clouds(rng: np.random.Generator, side: int) -> np.ndarray:
    return np.asarray(gaussian_filter(_noise(rng, side), side * rng.uniform(0.02, 0.16)))


def _blocks(rng: np.random.Generator, side: int) -> np.ndarray:
    drawn = np.zeros((side, side))
    for _ in range(rng.integers(2, 12)):
        top, left = rng.integers(0, side, 2)
        height, width = rng.integers(side // 16, side // 2, 2) + 1
        drawn[top : top + height, left : left + width] += rng.normal()
    return drawn


def _waves(rng: np.random.Generator, side: int) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    turn, phase = rng.uniform(0, 2 * np.pi, 2)
    return np.asarray(np.sin((x * np.cos(turn) + y * np.sin(turn)) * rng.uniform(0.5, 15) + phase))


def _spread(drawn: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add some noise, and stretch to [0, 1]."""
    noisy = drawn + rng.uniform(0, 0.5) * drawn.std() * rng.standard_normal(drawn.shape)
    return np.asarray((noisy - noisy.min()) / (np.ptp(noisy) + 1e-6))
