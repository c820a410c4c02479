"""Anomaly maps as deviations from those of healthy images, place by place, on one fixed scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

USUAL = 2.0
"""Standard deviations above the mean of healthy images up to which a map is 0: healthy lungs vary so much."""
HALF = 4.0
"""Standard deviations beyond the usual ones at which a map is 0.5."""
LEAST_SPREAD = 0.25
"""Least standard deviation of a place, as a share of its mean over all places."""
_LEAST = 1e-6


class HealthyMaps(nn.Module):
    """Expresses maps as deviations from the usual map of healthy images, from 0 to 1.

    Where the maps of healthy images are high, such as at the edges of lungs, or vary, a place has to deviate more to be
    marked. With $d$ standard deviations above the mean of healthy images at its place, beyond the usual
    :data:`USUAL`, a place has the value $d / (d + 4)$: 0 where a healthy one may be, 0.5 at 6 standard deviations, and
    never 1, so that the strongest places of an image still differ. The scale is the same for all images and models.

    Args:
        size: Rows and columns of a map.

    Example:
        >>> healthy = HealthyMaps((1, 2))
        >>> healthy.fit([torch.tensor([[[[0.0, 0.0]]], [[[2.0, 4.0]]]])])
        >>> healthy(torch.tensor([[[[7.0, 4.0]]]])).round(decimals=2)
        tensor([[[[0.3600, 0.0000]]]])
    """

    mean: torch.Tensor
    spread: torch.Tensor
    fitted: torch.Tensor

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 1, *size))
        self.register_buffer("spread", torch.ones(1, 1, *size))
        self.register_buffer("fitted", torch.tensor(False))
        self._sums: torch.Tensor | None = None  # of the powers 0, 1 and 2 of maps, (3, 1, H, W)

    def fit(self, batches: Iterable[torch.Tensor]) -> None:
        """Learn mean and standard deviation of each place.

        Args:
            batches: Maps of healthy images that the model was not trained on, at least 0, `(N, 1, H, W)` each.
        """
        for maps in batches:
            self.update(maps)
        self.learn()

    def update(self, maps: torch.Tensor) -> None:
        """Count maps of healthy images, for :meth:`learn`.

        Args:
            maps: The maps, at least 0, `(N, 1, H, W)`; none are no error.
        """
        values = maps.detach().double()
        powers = (torch.ones_like(values), values, values.square())
        sums = torch.stack([power.sum(dim=0) for power in powers])  # (3, 1, H, W)
        self._sums = sums if self._sums is None else self._sums + sums

    def learn(self, total_of: Callable[[torch.Tensor], torch.Tensor] = torch.clone) -> None:
        """Learn mean and standard deviation of each place from the maps that were counted, and forget these.

        Args:
            total_of: Sums a tensor over all processes. With less than two images in them nothing is learned.
        """
        if self._sums is None:
            return
        count, total, squares = total_of(self._sums).unsqueeze(1)  # (1, 1, H, W) each
        self._sums = None
        if (count < 2).all():  # noqa: PLR2004  # images of a standard deviation
            return
        self.mean.copy_(total / count)
        spread = ((squares - total.square() / count).clamp(min=0) / (count - 1)).sqrt()
        typical = spread.sum() / (spread > 0).sum().clamp(min=1)  # of places where maps are not always 0
        self.spread.copy_(spread.clamp(min=max(LEAST_SPREAD * float(typical), _LEAST)))
        self.fitted.fill_(True)

    def deviations(self, maps: torch.Tensor) -> torch.Tensor:
        """Return standard deviations above the mean of healthy images.

        Args:
            maps: Maps, `(B, 1, H, W)`.

        Returns:
            The deviations, alike in shape.
        """
        return (maps - self.mean) / self.spread

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Express maps on the fixed scale.

        Args:
            maps: Maps, at least 0, `(B, 1, H, W)`.

        Returns:
            The values in [0, 1), alike in shape; the maps themselves before anything was learned.
        """
        beyond = (self.deviations(maps) - USUAL).clamp(min=0)
        return torch.where(self.fitted, beyond / (beyond + HALF), maps)
