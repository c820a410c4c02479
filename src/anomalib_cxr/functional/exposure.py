"""How an X-ray was exposed, in three figures that an anomaly score should not follow."""

from __future__ import annotations

import torch

N_COVARIATES = 3
"""Logarithms of the gap between the bright parts of the picture and the lungs, of the brightness around the lungs, and
of that in the lungs."""
_BRIGHT = 0.9
"""Quantile of the picture that counts as bright: tissue, not a marker."""
_GAP_FLOOR, _FLOOR = 0.05, 1e-4


def exposure_of(frames: torch.Tensor, inside: torch.Tensor, outside: torch.Tensor) -> torch.Tensor:
    """Measure the exposure of X-rays in the frame of the lungs' box.

    Both regions are those of healthy people, the same in each image, so that disease does not move them.

    Args:
        frames: Grey values in [0, 1], `(B, 1, H, W)`.
        inside: True where lungs are, `(H, W)`.
        outside: True where no lung is, `(H, W)`.

    Returns:
        The logarithms of the three figures, `(B, 3)`.

    Example:
        >>> frame = torch.full((1, 1, 8, 8), 0.8)
        >>> lungs = torch.zeros(8, 8, dtype=torch.bool)
        >>> lungs[2:6, 2:6] = True
        >>> frame[..., lungs] = 0.3
        >>> exposure_of(frame, lungs, ~lungs).exp().round(decimals=2)
        tensor([[0.5500, 0.8000, 0.3000]])
    """
    flat = frames.flatten(1)  # (B, H * W)
    in_lungs = flat[:, inside.flatten().nonzero().squeeze(1)]
    around = flat[:, outside.flatten().nonzero().squeeze(1)]
    gap = _quantile(flat, _BRIGHT) - _quantile(in_lungs, 0.5) + _GAP_FLOOR
    figures = torch.stack([gap, around.mean(dim=1), in_lungs.mean(dim=1)], dim=1)
    return (figures.clamp(min=0) + _FLOOR).log()


def _quantile(values: torch.Tensor, share: float) -> torch.Tensor:
    """Return a quantile of each row, `(B, N)` to `(B,)`; torch's own cannot be exported."""
    above = values.topk(max(1, round((1 - share) * values.shape[1])), dim=1).values
    return above[:, -1]
