"""Scores that do not follow the exposure of X-rays: the regions in which it is measured, and the calibration by it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from anomalib_cxr.functional.alignment import box_grid, find_box, to_frame
from anomalib_cxr.functional.exposure import exposure_of, healthy_regions

from .exposure_calibration import ExposureCalibration

SIDE = 64
"""Side of the frame of the lungs' box in which the exposure is measured."""


class Boxed(NamedTuple):
    """X-rays in the frame of their lungs' box."""

    light: torch.Tensor
    """Grey values in [0, 1], `(B, 1, 64, 64)`."""
    lungs: torch.Tensor
    """Probability of lung, `(B, 1, 64, 64)`."""


def boxed(grey: torch.Tensor, lungs: torch.Tensor) -> Boxed:
    """Warp X-rays in [-1, 1] and their probability of lung, both `(B, 1, H, W)`, into the frame of the lungs' box."""
    both = torch.cat([(grey + 1) / 2, lungs], dim=1)
    framed = to_frame(both, box_grid(find_box(lungs), (SIDE, SIDE)))
    return Boxed(framed[:, :1], framed[:, 1:])


class ExposedScore(nn.Module):
    """Calibrates one score of an X-ray by its exposure; see :class:`ExposureCalibration`.

    What counts as lung and as outside is learned from healthy people too, and the same in each image. Of one hospital's
    images it learns that hospital's exposures only.

    Example:
        >>> grey, lungs = torch.rand(80, 1, 64, 64), torch.zeros(80, 1, 64, 64)
        >>> lungs[..., 12:52, 8:28] = lungs[..., 12:52, 36:56] = 1
        >>> score = ExposedScore()
        >>> score.fit(torch.randn(80), boxed(grey, lungs))
        >>> score(torch.zeros(2), boxed(grey[:2], lungs[:2])).shape
        torch.Size([2])
    """

    inside: torch.Tensor
    outside: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inside", torch.zeros(SIDE, SIDE, dtype=torch.bool))
        self.register_buffer("outside", torch.ones(SIDE, SIDE, dtype=torch.bool))
        self.calibration = ExposureCalibration(1)

    def fit(self, scores: torch.Tensor, of: Boxed) -> None:
        """Learn from healthy images' cross-fitted scores, `(N,)`, and from the images themselves."""
        for region, learned in zip((self.inside, self.outside), healthy_regions(of.lungs), strict=True):
            region.copy_(learned)
        self.calibration.fit(scores.unsqueeze(1), self._exposure(of))

    def _exposure(self, of: Boxed) -> torch.Tensor:
        return exposure_of(of.light, self.inside, self.outside)

    def forward(self, scores: torch.Tensor, of: Boxed) -> torch.Tensor:
        """Return how far scores, `(B,)`, are above those of healthy images of such exposures, `(B,)`."""
        deviations: torch.Tensor = self.calibration(scores.unsqueeze(1), self._exposure(of))
        return deviations.squeeze(1)
