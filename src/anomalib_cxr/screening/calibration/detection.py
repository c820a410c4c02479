"""AUROC of the calibration images: whether a model detects what it is calibrated with."""

from __future__ import annotations

import numpy as np
from pydantic import model_validator

from .fields import RecordPart, Share

_CHANCE = 0.5


class Detection(RecordPart):
    """AUROC of sick against normal images with its 95 % interval.

    Attributes:
        auroc: Share of pairs of a sick and a normal image in which the sick one scores higher.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    auroc: Share
    low: Share
    high: Share

    @model_validator(mode="after")
    def _check_interval(self) -> Detection:
        if not self.low <= self.auroc <= self.high:
            raise ValueError(f"an AUROC of {self.auroc} outside of its interval, {self.low} to {self.high}")
        return self

    @property
    def is_shown(self) -> bool:
        """True if the whole interval is above chance."""
        return self.low > _CHANCE

    def __str__(self) -> str:
        return f"{self.auroc:.3f} (95 % interval {self.low:.3f} to {self.high:.3f})"


def measure_detection(is_sick: np.ndarray, scores: np.ndarray) -> Detection:
    """Measure how well scores tell sick from normal images.

    Args:
        is_sick: Labels, of which both values occur, bool, `(N,)`.
        scores: Finite scores, `(N,)`.

    Returns:
        AUROC with DeLong's interval.

    Example:
        >>> print(measure_detection(np.arange(100) >= 50, np.arange(100.0)))
        1.000 (95 % interval 0.9... to 1.000)
    """
    from anomalib_cxr.evaluation.metrics.delong import estimate_auroc  # noqa: PLC0415  # screening need not wait for it

    found = estimate_auroc(is_sick, scores)
    return Detection(auroc=found.value, low=found.low, high=found.high)
