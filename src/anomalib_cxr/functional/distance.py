"""Distances between codes or features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

Distance = Literal["euclidean", "mean_squared"]


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


def mean_squared_distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference of each pair of a batch, as GANomaly compares codes and features.

    Args:
        first: Codes or features, `(B, ...)`.
        second: As many, of the same shape.

    Returns:
        One mean per pair, `(B,)`.

    Example:
        >>> mean_squared_distance(torch.zeros(2, 1, 2), torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]]))
        tensor([12.5000,  0.0000])
    """
    return (first - second).square().flatten(1).mean(1)


DISTANCES: dict[Distance, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "euclidean": euclidean_distance,
    "mean_squared": mean_squared_distance,
}
"""Distances by the name that a configuration has for them."""
