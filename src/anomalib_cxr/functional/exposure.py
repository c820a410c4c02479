"""Exposure covariates of an X-ray: three nuisance figures on which an anomaly score should not depend."""

from __future__ import annotations

import torch
from torch.nn import functional

N_COVARIATES = 3
"""Logarithms of the difference between bright tissue and lungs, of the brightness around the lungs, and of the
brightness in the lungs."""
_BRIGHT = 0.9  # quantile of the image that represents bright tissue, but no marker
_GAP_FLOOR, _FLOOR = 0.05, 1e-4
_MAJORITY, _MINORITY, _MARGIN = 0.5, 0.2, 2  # shares of healthy people with lung at a pixel; pixels


def healthy_regions(lungs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the regions that are lung, and no lung, in most healthy people.

    Args:
        lungs: Lungs of healthy people in the frame of their box, bool or probability, `(N, 1, H, W)`.

    Returns:
        `inside`, the pixels that are lung in more than half of them, and `outside`, the pixels more than two pixels
        away from any that is lung in more than a fifth of them; bool, `(H, W)`.

    Example:
        >>> lungs = torch.zeros(10, 1, 1, 8)
        >>> lungs[:, ..., :2] = 1
        >>> lungs[:3, ..., 2] = 1
        >>> inside, outside = healthy_regions(lungs)
        >>> inside.int().tolist(), outside.int().tolist()
        ([[1, 1, 0, 0, 0, 0, 0, 0]], [[0, 0, 0, 0, 0, 1, 1, 1]])
    """
    share = (lungs > _MAJORITY).float().mean(dim=0)  # (1, H, W)
    near = functional.max_pool2d((share > _MINORITY).float(), 2 * _MARGIN + 1, stride=1, padding=_MARGIN)
    return share[0] > _MAJORITY, near[0] == 0


def exposure_covariates(frames: torch.Tensor, inside: torch.Tensor, outside: torch.Tensor) -> torch.Tensor:
    """Compute the exposure covariates of X-rays in the frame of the lungs' box.

    The regions come from healthy people (:func:`healthy_regions`) and are the same for all images, so that disease
    does not change them.

    Args:
        frames: Gray values in [0, 1], `(B, 1, H, W)`.
        inside: True in the lungs, `(H, W)`.
        outside: True outside the lungs, `(H, W)`.

    Returns:
        Logarithms of the three figures, `(B, 3)`.

    Example:
        >>> frame = torch.full((1, 1, 8, 8), 0.8)
        >>> lungs = torch.zeros(8, 8, dtype=torch.bool)
        >>> lungs[2:6, 2:6] = True
        >>> frame[..., lungs] = 0.3
        >>> exposure_covariates(frame, lungs, ~lungs).exp().round(decimals=2)
        tensor([[0.5500, 0.8000, 0.3000]])
    """
    flat = frames.flatten(1)  # (B, H * W)
    in_lungs, around = (region.flatten().to(flat.dtype) for region in (inside, outside))
    bright = _quantile(flat, torch.ones_like(in_lungs), _BRIGHT)
    gap = bright - _quantile(flat, in_lungs, 0.5) + _GAP_FLOOR
    figures = torch.stack([gap, _mean(flat, around), _mean(flat, in_lungs)], dim=1)
    return (figures.clamp(min=0) + _FLOOR).log()


def _mean(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean of each row, `(B, N)` and weights `(N,)` to `(B,)`."""
    return (values * (counts / counts.sum().clamp(min=1))).sum(dim=1)


def _quantile(values: torch.Tensor, counts: torch.Tensor, share: float) -> torch.Tensor:
    """Return a quantile of the selected values of each row, `(B, N)` and 0 or 1 `(N,)` to `(B,)`.

    Cumulative sums instead of an index by the selection, whose size an exported graph would not know.
    """
    falling, order = values.sort(dim=1, descending=True)
    wanted = ((1 - share) * counts.sum()).round().clamp(min=1)
    passed = counts[order].cumsum(dim=1) < wanted  # (B, N)
    place = passed.sum(dim=1, keepdim=True).clamp(max=values.shape[1] - 1)
    return falling.gather(1, place).squeeze(1)
