"""What healthy images score by parts that have not seen them."""

from __future__ import annotations

import copy

import torch

from .parts import AtlasPart, Finding

AT_ONCE = 64
"""Frames that are scored together."""


def draw_folds(count: int, n_folds: int, seed: int) -> torch.Tensor:
    """Deal images out to folds of nearly the same size by chance, `(count,)`.

    Example:
        >>> draw_folds(5, 2, seed=0).bincount().tolist()
        [3, 2]
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)) % n_folds


@torch.no_grad()
def score_all(part: AtlasPart, frames: torch.Tensor) -> Finding:
    """Score frames, `(N, 1, H, W)`, some at a time."""
    findings = [part(some) for some in torch.split(frames, AT_ONCE)]
    return Finding(*(torch.cat(each) for each in zip(*findings, strict=True)))


@torch.no_grad()
def cross_fit(part: AtlasPart, frames: torch.Tensor, fold: torch.Tensor) -> Finding:
    """Fit a part to all frames, and score each by a copy that was fitted without its fold.

    Args:
        part: The part; afterwards it is fitted to all frames.
        frames: Healthy lungs in [0, 1], `(N, 1, H, W)`.
        fold: The fold of each, `(N,)`.

    Returns:
        Scores and places of all frames, in their order.
    """
    order, findings = [], []
    for number in range(int(fold.max()) + 1):
        without = copy.deepcopy(part)
        without.fit(frames[fold != number])
        findings.append(score_all(without, frames[fold == number]))
        order.append((fold == number).nonzero().squeeze(1))
    part.fit(frames)
    back = torch.cat(order).argsort()
    return Finding(*(torch.cat(each)[back] for each in zip(*findings, strict=True)))
