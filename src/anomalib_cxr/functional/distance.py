"""Distances between codes or features."""

from __future__ import annotations

import torch


def euclidean_distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean distance of each pair of a batch.

    Args:
        first: Codes or features, `(B, ...)`.
        second: As many, of the same shape.

    Returns:
        One distance per pair, `(B,)`.

    Example:
        >>> euclidean_distance(torch.zeros(2, 1, 2), torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]]))
        tensor([5., 0.])
    """
    distance: torch.Tensor = torch.linalg.vector_norm((first - second).flatten(1), dim=1)
    return distance
