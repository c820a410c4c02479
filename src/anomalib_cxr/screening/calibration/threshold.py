"""Threshold with a finite-sample guarantee on the sensitivity.

Of n sick images, the k with the lowest scores may be missed. The share of all sick images that score at or above the
(k + 1)-th lowest has, whatever the distribution of the scores, at least the distribution Beta(n - k, k + 1) [0]; its
quantile is the Clopper-Pearson bound on the sensitivity [1]. The bound holds although the threshold was chosen on the
same images, since k depends on n, the sensitivity and the confidence alone.

The n must be independent. Images of one patient are not: where patients are known, n counts patients, each by the
lowest score of their sick images. A patient is missed if one of these is.

Sources: [0] S. S. Wilks, "Determination of sample sizes for setting tolerance limits", Annals of Mathematical
Statistics 1941; [1] C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of
the binomial", Biometrika 1934.
"""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, Decimal
from typing import Literal

import numpy as np
from pydantic import model_validator
from scipy.special import betaincinv  # the quantile of the beta distribution; scipy.stats takes half a second

from anomalib_cxr.errors import ScreeningError

from .fields import ROUNDING, Count, InnerShare, Positive, RecordPart, Share

Unit = Literal["patients", "images"]
STEP = Decimal("1e-6")
"""Precision to which a threshold is rounded down: another batch or machine may move a score in its last digits."""


class CalibratedThreshold(RecordPart):
    """A threshold, its guarantee, and the images that it was chosen on.

    Attributes:
        threshold: Lowest score, in [0, 1], that is to be read.
        sensitivity: Share of the sick that the guarantee puts at or above the threshold.
        confidence: Confidence level of the guarantee.
        lower_bound: Lower bound on the sensitivity that these images show, at this confidence level.
        unit: What the guarantee counts: patients, or images where it is not known which are of one patient.
        n_sick: Number of sick ones, in this unit.
        n_sick_below: Number of those below the threshold, patients by their lowest score.
        n_normal: Number of normal images.
        n_normal_below: Number of normal images below the threshold.
    """

    threshold: Share
    sensitivity: InnerShare
    confidence: InnerShare
    lower_bound: Share
    unit: Unit
    n_sick: Positive
    n_sick_below: Count
    n_normal: Count
    n_normal_below: Count

    @model_validator(mode="after")
    def _check_counts(self) -> CalibratedThreshold:
        if self.n_sick_below > self.n_sick or self.n_normal_below > self.n_normal:
            raise ValueError("more images below the threshold than there are")
        shown = lower_bound(self.n_sick, self.n_sick_below, self.confidence)
        if abs(shown - self.lower_bound) > ROUNDING:
            raise ValueError(f"lower_bound = {self.lower_bound}, but the counts show {shown}")
        if shown < self.sensitivity - ROUNDING:
            raise ValueError(f"sensitivity = {self.sensitivity}, but the counts show {shown} only")
        return self

    @property
    def guarantee(self) -> str:
        """Share of the sick that may be below the threshold, as a sentence that names the unit."""
        return (
            f"At most {100 * (1 - self.sensitivity):.3g} % of sick {self.unit} are expected below the threshold, "
            f"at {100 * self.confidence:.4g} % confidence."
        )


def lower_bound(n_sick: int, n_missed: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson lower bound on the sensitivity.

    Args:
        n_sick: Number of sick images, at least 1.
        n_missed: Number of them that were missed.
        confidence: Confidence level, in (0, 1).

    Returns:
        The bound, in [0, 1).

    Example:
        >>> lower_bound(299, 0, 0.95)
        0.9900...
    """
    return 0.0 if n_missed == n_sick else float(betaincinv(n_sick - n_missed, n_missed + 1, 1 - confidence))


def sick_needed(sensitivity: float, confidence: float) -> int:
    """Return the number of sick images that a guarantee needs at least, if none of them is missed.

    Args:
        sensitivity: Sensitivity to guarantee, in (0, 1).
        confidence: Confidence level, in (0, 1).

    Example:
        >>> sick_needed(0.99, 0.95)
        299
    """
    return math.ceil(math.log(1 - confidence) / math.log(sensitivity) - ROUNDING)


def misses_allowed(n_sick: int, sensitivity: float, confidence: float) -> int | None:
    """Return the largest number of missed sick images at which the guarantee holds.

    Args:
        n_sick: Number of sick images.
        sensitivity: Sensitivity to guarantee, in (0, 1).
        confidence: Confidence level, in (0, 1).

    Returns:
        The number; None where the images are too few even without a miss.

    Example:
        >>> misses_allowed(473, 0.99, 0.95), misses_allowed(298, 0.99, 0.95)
        (1, None)
    """
    missed = np.arange(n_sick)
    holds = np.asarray(betaincinv(n_sick - missed, missed + 1, 1 - confidence) >= sensitivity - ROUNDING)
    return int(missed[holds][-1]) if holds.any() else None


def calibrate_threshold(
    is_sick: np.ndarray,
    scores: np.ndarray,
    sensitivity: float,
    confidence: float,
    group: str = "",
    patients: np.ndarray | None = None,
) -> CalibratedThreshold:
    """Return the largest threshold whose lower bound on the sensitivity reaches the one asked for.

    Args:
        is_sick: Labels, bool, `(N,)`.
        scores: Anomaly scores in [0, 1], `(N,)`.
        sensitivity: Sensitivity to guarantee, in (0, 1).
        confidence: Confidence level of the guarantee, in (0, 1).
        group: Name of the group of these images, for the error message.
        patients: Identifier of each image's patient, `(N,)`; None to count images.

    Returns:
        The threshold with its guarantee.

    Raises:
        ScreeningError: If there are too few sick ones; the message has the number needed.

    Example:
        >>> is_sick = np.arange(100) >= 40
        >>> calibrate_threshold(is_sick, np.linspace(0, 1, 100), 0.95, 0.95).n_normal_below
        40
    """
    unit: Unit = "images" if patients is None else "patients"
    sick, normal = scores[is_sick], scores[~is_sick]
    if patients is not None:
        people, person = np.unique(patients[is_sick].astype(str), return_inverse=True)
        lowest = np.full(len(people), np.inf, sick.dtype)
        np.minimum.at(lowest, person, sick)
        sick = lowest
    sick = np.sort(sick)
    missed = misses_allowed(len(sick), sensitivity, confidence)
    if missed is None:
        raise ScreeningError(
            f"{len(sick)} sick {unit}{f' of group {group}' if group else ''}",
            f"at least {sick_needed(sensitivity, confidence)}, none of them missed, to show a sensitivity of "
            f"{sensitivity:g} with a confidence of {confidence:g}",
            "add labeled sick images, or ask for less: --sensitivity, --confidence",
        )
    threshold = float(Decimal(float(sick[missed])).quantize(STEP, ROUND_FLOOR))  # a product of floats may round up
    n_sick_below = int((sick < threshold).sum())
    return CalibratedThreshold(
        threshold=threshold,
        sensitivity=sensitivity,
        confidence=confidence,
        lower_bound=lower_bound(len(sick), n_sick_below, confidence),
        unit=unit,
        n_sick=len(sick),
        n_sick_below=n_sick_below,
        n_normal=len(normal),
        n_normal_below=int((normal < threshold).sum()),
    )
