"""Scores that do not follow the exposure of X-rays: the regions in which it is measured, and the calibration by it."""

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
"""Healthy images from which on their scores tell what is usual: three covariates, and folds of at least 15."""
_LEAST_SPREAD = 1e-6


class ExposureCalibration(nn.Module):
    """Turns scores into deviations from what healthy images of the same exposure score.

    A ridge regression of each score on the covariates of :func:`anomalib_cxr.functional.exposure.exposure_covariates`, fitted
    on healthy images; the residual, in standard deviations of healthy ones. Scores of healthy images must come from
    models that have not seen them, or all deviations of others come out too large.

    Args:
        n_scores: Scores of an image.

    Example:
        >>> exposures = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
        >>> scores = 5 + exposures[:, :1]  # nothing but exposure
        >>> calibration = ExposureCalibration(1)
        >>> calibration.fit(scores, exposures)
        >>> bool((calibration(scores + 3, exposures) > 10).all())
        True
    """

    center: torch.Tensor
    spread: torch.Tensor
    slope: torch.Tensor
    offset: torch.Tensor
    deviation: torch.Tensor
    fitted: torch.Tensor

    def __init__(self, n_scores: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(N_COVARIATES))
        self.register_buffer("spread", torch.ones(N_COVARIATES))
        self.register_buffer("slope", torch.zeros(N_COVARIATES, n_scores))
        self.register_buffer("offset", torch.zeros(n_scores))
        self.register_buffer("deviation", torch.ones(n_scores))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, scores: torch.Tensor, exposures: torch.Tensor) -> None:
        """Learn what healthy images score.

        Args:
            scores: Scores of healthy images, `(N, n_scores)`; logarithms where a score is a magnitude.
            exposures: Their covariates, `(N, 3)`.
        """
        scores, exposures = scores.double(), exposures.double()
        self.center.copy_(exposures.mean(dim=0))
        self.spread.copy_(exposures.std(dim=0, correction=0).clamp(min=_LEAST_SPREAD))
        standard = (exposures - self.center) / self.spread  # (N, 3)
        mean = scores.mean(dim=0)
        penalized = standard.T @ standard + RIDGE * torch.eye(N_COVARIATES).to(standard)
        self.slope.copy_(torch.linalg.solve(penalized, standard.T @ (scores - mean)))
        self.offset.copy_(mean)
        self.fitted.fill_(True)
        self.deviation.fill_(1)
        self.deviation.copy_(self(scores, exposures).std(dim=0, correction=0).clamp(min=_LEAST_SPREAD))

    def forward(self, scores: torch.Tensor, exposures: torch.Tensor) -> torch.Tensor:
        """Return how far scores, `(B, n_scores)`, are above those of healthy images of such exposures, `(B, 3)`."""
        # The expected score is added, of the opposite: a product and a difference in one would lose OpenVINO's float32.
        opposite = ((self.center - exposures) / self.spread) @ self.slope.to(exposures)
        return (scores - self.offset + opposite) / self.deviation


SIDE = 64
"""Side of the frame of the lungs' box in which the exposure is measured."""


class Boxed(NamedTuple):
    """X-rays in the frame of their lungs' box."""

    light: torch.Tensor
    """Gray values in [0, 1], `(B, 1, 64, 64)`."""
    lungs: torch.Tensor
    """Probability of lung, `(B, 1, 64, 64)`."""


def boxed(gray: torch.Tensor, lungs: torch.Tensor) -> Boxed:
    """Warp X-rays in [-1, 1] and their probability of lung, both `(B, 1, H, W)`, into the frame of the lungs' box."""
    both = torch.cat([(gray + 1) / 2, lungs], dim=1)
    framed = to_frame(both, box_grid(find_box(lungs), (SIDE, SIDE)))
    return Boxed(framed[:, :1], framed[:, 1:])


class ExposedScore(nn.Module):
    """Calibrates one score of an X-ray by its exposure; see :class:`ExposureCalibration`.

    What counts as lung and as outside is learned from healthy people too, and the same in each image. Of one hospital's
    images it learns that hospital's exposures only.

    Example:
        >>> gray, lungs = torch.rand(80, 1, 64, 64), torch.zeros(80, 1, 64, 64)
        >>> lungs[..., 12:52, 8:28] = lungs[..., 12:52, 36:56] = 1
        >>> score = ExposedScore()
        >>> score.fit(torch.randn(80), boxed(gray, lungs))
        >>> score(torch.zeros(2), boxed(gray[:2], lungs[:2])).shape
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
        return exposure_covariates(of.light, self.inside, self.outside)

    def forward(self, scores: torch.Tensor, of: Boxed) -> torch.Tensor:
        """Return how far scores, `(B,)`, are above those of healthy images of such exposures, `(B,)`."""
        deviations: torch.Tensor = self.calibration(scores.unsqueeze(1), self._exposure(of))
        return deviations.squeeze(1)
