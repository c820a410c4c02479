"""Adjustment of scores for the exposure of X-rays, a regression on nuisance covariates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from anomalib_cxr.functional.alignment import find_box
from anomalib_cxr.functional.exposure import N_COVARIATES, exposure_covariates, healthy_regions
from anomalib_cxr.functional.frames import box_grid, to_frame

RIDGE = 5.0
"""Penalty on the slopes, of standardized covariates."""
LEAST_IMAGES = 60
"""Least number of healthy images for an adjustment: three covariates, and folds of at least 15."""
SIDE = 64
"""Side of the lung crop in which the exposure is measured."""
_LEAST_SPREAD = 1e-6


class LungCrop(NamedTuple):
    """X-rays cropped to the bounding box of both lungs."""

    gray: torch.Tensor
    """Gray values in [0, 1], `(B, 1, 64, 64)`."""
    lungs: torch.Tensor
    """Probability of lung, `(B, 1, 64, 64)`."""


def crop_lungs(gray: torch.Tensor, lungs: torch.Tensor) -> LungCrop:
    """Crop X-rays to the bounding box of both lungs.

    Args:
        gray: X-rays in [-1, 1], `(B, 1, H, W)`.
        lungs: Probability of lung, `(B, 1, H, W)`.

    Returns:
        The crops, both `(B, 1, 64, 64)`.
    """
    stacked = torch.cat([(gray + 1) / 2, lungs], dim=1)  # (B, 2, H, W)
    crops = to_frame(stacked, box_grid(find_box(lungs), (SIDE, SIDE)))  # (B, 2, 64, 64)
    return LungCrop(crops[:, :1], crops[:, 1:])


class ExposureAdjustment(nn.Module):
    """Expresses scores as deviations from those of healthy images of the same exposure.

    A ridge regression of each score on the covariates of
    :func:`anomalib_cxr.functional.exposure.exposure_covariates`, fitted on healthy images; the residual, in standard
    deviations of healthy ones. The regions of lung and of its surroundings are learned from healthy images too, and the
    same in each image. Scores of healthy images must come from models that were not trained on them, or all deviations
    of others come out too large. Fitted to one hospital's images, it adjusts for that hospital's exposures only.

    Args:
        n_scores: Scores of an image.

    Example:
        >>> gray, lungs = torch.rand(80, 1, 64, 64), torch.zeros(80, 1, 64, 64)
        >>> lungs[..., 12:52, 8:28] = lungs[..., 12:52, 36:56] = 1
        >>> adjustment, crops = ExposureAdjustment(n_scores=1), crop_lungs(gray, lungs)
        >>> adjustment.fit(torch.randn(80, 1), crops)
        >>> adjustment(torch.zeros(80, 1), crops).shape
        torch.Size([80, 1])
    """

    inside: torch.Tensor
    outside: torch.Tensor
    center: torch.Tensor
    spread: torch.Tensor
    slope: torch.Tensor
    offset: torch.Tensor
    deviation: torch.Tensor
    fitted: torch.Tensor

    def __init__(self, n_scores: int) -> None:
        super().__init__()
        self.register_buffer("inside", torch.zeros(SIDE, SIDE, dtype=torch.bool))
        self.register_buffer("outside", torch.ones(SIDE, SIDE, dtype=torch.bool))
        self.register_buffer("center", torch.zeros(N_COVARIATES))
        self.register_buffer("spread", torch.ones(N_COVARIATES))
        self.register_buffer("slope", torch.zeros(N_COVARIATES, n_scores))
        self.register_buffer("offset", torch.zeros(n_scores))
        self.register_buffer("deviation", torch.ones(n_scores))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, scores: torch.Tensor, crops: LungCrop) -> None:
        """Learn regions and regression from healthy images.

        Args:
            scores: Cross-fitted scores, `(N, n_scores)`; logarithms where a score is a magnitude.
            crops: The images, `N`.
        """
        for region, learned in zip((self.inside, self.outside), healthy_regions(crops.lungs), strict=True):
            region.copy_(learned)
        scores, covariates = scores.double(), self.covariates(crops).double()  # (N, n_scores), (N, 3)
        self.center.copy_(covariates.mean(dim=0))
        self.spread.copy_(covariates.std(dim=0, correction=0).clamp(min=_LEAST_SPREAD))
        standard = (covariates - self.center) / self.spread  # (N, 3)
        mean = scores.mean(dim=0)
        penalized = standard.T @ standard + RIDGE * torch.eye(N_COVARIATES).to(standard)
        self.slope.copy_(torch.linalg.solve(penalized, standard.T @ (scores - mean)))
        self.offset.copy_(mean)
        self.deviation.fill_(1)
        residuals = self._residuals(scores, covariates)
        self.deviation.copy_(residuals.std(dim=0, correction=0).clamp(min=_LEAST_SPREAD))
        self.fitted.fill_(True)

    def covariates(self, crops: LungCrop) -> torch.Tensor:
        """Measure the exposure of images.

        Args:
            crops: The images, `B`.

        Returns:
            The covariates, `(B, 3)`.
        """
        return exposure_covariates(crops.gray, self.inside, self.outside)

    def forward(self, scores: torch.Tensor, crops: LungCrop) -> torch.Tensor:
        """Adjust scores.

        Args:
            scores: Scores, `(B, n_scores)`.
            crops: The images, `B`.

        Returns:
            Standard deviations above the scores of healthy images of the same exposure, `(B, n_scores)`.
        """
        return self._residuals(scores, self.covariates(crops))

    def _residuals(self, scores: torch.Tensor, covariates: torch.Tensor) -> torch.Tensor:
        expected = self.offset + ((covariates - self.center) / self.spread) @ self.slope.to(covariates)
        return (scores - expected) / self.deviation
