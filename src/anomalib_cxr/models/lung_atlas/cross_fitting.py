"""What healthy images score by parts that have not seen them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from .parts import AtlasPart, Finding

AT_ONCE = 64
"""Frames that are scored together."""
Told = TypeVar("Told", bound="tuple[torch.Tensor, ...]")
"""What a part says of several frames: a named tuple of tensors, each `(B, ...)`."""


def draw_folds(count: int, n_folds: int, seed: int) -> torch.Tensor:
    """Deal images out to folds of nearly the same size by chance, `(count,)`.

    Example:
        >>> draw_folds(5, 2, seed=0).bincount().tolist()
        [3, 2]
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)) % n_folds


def joined(findings: Sequence[Told]) -> Told:
    """Put what was said of several batches together, tensor by tensor."""
    make: Any = type(findings[0])
    told: Told = make(*(torch.cat(each) for each in zip(*findings, strict=True)))
    return told


def in_order(findings: Sequence[Told], fold: torch.Tensor) -> Told:
    """Put what was said of each fold in turn, into the order of the images, whose folds are `(N,)`."""
    back = fold.argsort(stable=True).argsort()
    make: Any = type(findings[0])
    told: Told = make(*(each[back] for each in joined(findings)))
    return told


@torch.no_grad()
def score_all(part: Callable[[torch.Tensor], Told], frames: torch.Tensor) -> Told:
    """Ask a part of frames, `(N, 1, H, W)`, some at a time."""
    return joined([part(some) for some in torch.split(frames, AT_ONCE)])


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
    findings: list[Finding] = []
    for number in range(int(fold.max()) + 1):
        without = copy.deepcopy(part)
        without.fit(frames[fold != number])
        findings.append(score_all(without, frames[fold == number]))
    part.fit(frames)
    return in_order(findings, fold)
