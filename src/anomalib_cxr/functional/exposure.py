"""How an X-ray was exposed, in three figures that an anomaly score should not follow."""

from __future__ import annotations

import torch
from torch.nn import functional

N_COVARIATES = 3
"""Logarithms of the gap between the bright parts of the picture and the lungs, of the brightness around the lungs, and
of that in the lungs."""
_BRIGHT = 0.9
"""Quantile of the picture that counts as bright: tissue, not a marker."""
_GAP_FLOOR, _FLOOR = 0.05, 1e-4
_MOST, _FEW, _AROUND = 0.5, 0.2, 2  # shares of healthy people with lung at a place; pixels


def healthy_regions(lungs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where most healthy people have lung, and where hardly any has, a little apart.

    Args:
        lungs: Lungs of healthy people in the frame of their box, bool or probability, `(N, 1, H, W)`.

    Returns:
        `inside`, lung of more than half of them, and `outside`, more than two pixels from what is lung of a fifth of
        them; bool, `(H, W)`.

    Example:
        >>> lungs = torch.zeros(10, 1, 1, 8)
        >>> lungs[:, ..., :2] = 1
        >>> lungs[:3, ..., 2] = 1
        >>> inside, outside = healthy_regions(lungs)
        >>> inside.int().tolist(), outside.int().tolist()
        ([[1, 1, 0, 0, 0, 0, 0, 0]], [[0, 0, 0, 0, 0, 1, 1, 1]])
    """
    share = (lungs > _MOST).float().mean(dim=0)  # (1, H, W)
    near = functional.max_pool2d((share > _FEW).float(), 2 * _AROUND + 1, stride=1, padding=_AROUND)
    return share[0] > _MOST, near[0] == 0


def exposure_covariates(frames: torch.Tensor, inside: torch.Tensor, outside: torch.Tensor) -> torch.Tensor:
    """Measure the exposure of X-rays in the frame of the lungs' box.

    Both regions are those of healthy people, the same in each image, so that disease does not move them.

    Args:
        frames: Gray values in [0, 1], `(B, 1, H, W)`.
        inside: True where lungs are, `(H, W)`.
        outside: True where no lung is, `(H, W)`.

    Returns:
        The logarithms of the three figures, `(B, 3)`.

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
    """Return the mean of those values of each row, `(B, N)`, that count, `(N,)`: `(B,)`."""
    return (values * (counts / counts.sum().clamp(min=1))).sum(dim=1)


def _quantile(values: torch.Tensor, counts: torch.Tensor, share: float) -> torch.Tensor:
    """Return a quantile of those values of each row, `(B, N)`, that count, `(N,)`: `(B,)`.

    Sums over all values take the place of a choice among them, whose number an exported graph would not know.
    """
    falling, order = values.sort(dim=1, descending=True)
    wanted = ((1 - share) * counts.sum()).round().clamp(min=1)
    passed = counts[order].cumsum(dim=1) < wanted  # (B, N)
    place = passed.sum(dim=1, keepdim=True).clamp(max=values.shape[1] - 1)
    return falling.gather(1, place).squeeze(1)
