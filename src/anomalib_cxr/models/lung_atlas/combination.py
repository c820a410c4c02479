"""One score of an image from the deviations of the atlas's parts: that of the lungs as a whole, or that of a spot."""

from __future__ import annotations

import torch
from torch import nn

WEIGHTS = (2.0, 0.0, 1.0, 1.0, 0.5)
"""Weight of each score in the deviation of the lungs as a whole: reconstruction error by local contrast, its spots,
reconstruction error by both lungs, patches, textures. docs/benchmarks/detection.md tells how they were chosen."""
SPOTS = 1
"""Number of the score of spots."""
HANDICAP = 1.25
"""Standard deviations by which spots must deviate more than the lungs as a whole, to count as much: tubes, electrodes
and vessels seen end-on are spots, too."""
SHARPNESS = 3.0
"""The greater, the nearer the sum is to the maximum of the two."""
_LEAST_SPREAD = 1e-6


class Combination(nn.Module):
    """Combines the deviations of the parts from healthy images.

    Disease may change the lungs as a whole, such as pneumonia, or a single spot, such as a nodule. The score is a
    smooth maximum of both deviations, so that neither dilutes the other, in standard deviations of healthy images.

    Example:
        >>> deviations = torch.randn(50, 5)
        >>> combination = Combination()
        >>> combination.fit(deviations)
        >>> round(combination(deviations).std().item(), 3)
        1.0
    """

    weights: torch.Tensor
    center: torch.Tensor
    spread: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(WEIGHTS))
        self.register_buffer("center", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def fit(self, deviations: torch.Tensor) -> None:
        """Learn the scale of both deviations, and of the score, from healthy images.

        Args:
            deviations: Adjusted, cross-fitted scores, `(N, 5)`.
        """
        weights = torch.tensor(WEIGHTS).to(deviations)
        whole = (deviations @ weights).std().clamp(min=_LEAST_SPREAD)
        self.weights.copy_(weights / whole)
        self.center.fill_(0)
        self.spread.fill_(1)
        scores = self(deviations)
        self.center.copy_(scores.mean())
        self.spread.copy_(scores.std().clamp(min=_LEAST_SPREAD))

    def forward(self, deviations: torch.Tensor) -> torch.Tensor:
        """Combine deviations.

        Args:
            deviations: Adjusted scores, `(B, 5)`.

        Returns:
            Standard deviations above the mean of healthy images, `(B,)`.
        """
        whole, spots = deviations @ self.weights.to(deviations), deviations[:, SPOTS] - HANDICAP
        greater = torch.maximum(whole, spots)
        # The logarithm of the sum of exponentials, without their overflow.
        smooth = greater + torch.log1p(torch.exp(-SHARPNESS * (whole - spots).abs())) / SHARPNESS
        return (smooth - self.center) / self.spread
