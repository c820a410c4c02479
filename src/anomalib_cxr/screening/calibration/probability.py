"""Meaning of a score: p-value against healthy images, and probability of disease at a stated prevalence.

Sources: [0] V. Vovk, A. Gammerman, G. Shafer, "Algorithmic learning in a random world", 2005; [1] J. Platt,
"Probabilistic outputs for support vector machines", 1999; [2] M. Saerens, P. Latinne, C. Decaestecker, "Adjusting the
outputs of a classifier to new a priori probabilities", Neural Computation 2002.

Both take the raw score, before it is clamped to [0, 1]: X-rays that tie at a score of 1 differ in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, model_validator
from scipy.special import expit, logit

from anomalib_cxr.evaluation.metrics.intervals import wilson_interval

from .fields import ROUNDING, InnerShare, Positive, RecordPart, Share

BINS = 10
"""Largest number of bins of a reliability curve."""
_FOLDS = 5
_LEAST_IN_BIN = 10


class ProbabilityCurve(RecordPart):
    """Probability of disease as a logistic function of the raw score, at the stated prevalence.

    Attributes:
        slope: Slope of the log odds, at least 0: no higher raw score means a lower probability.
        intercept: Intercept of the log odds, at the share of sick images in the calibration.
        share: Share of sick images in the calibration, in (0, 1).
        prevalence: Share of sick people among those who are screened, in (0, 1).
    """

    slope: float = Field(ge=0)
    intercept: float
    share: InnerShare
    prevalence: InnerShare

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return the probability of disease, its odds moved to the prevalence [2].

        Args:
            scores: Finite raw scores, `(N,)`.

        Returns:
            Probabilities, `(N,)`, in [0, 1].
        """
        prior_shift = logit(self.prevalence) - logit(self.share)
        return np.asarray(expit(self.intercept + self.slope * scores + prior_shift))


class ReliabilityBin(RecordPart):
    """Images of similar predicted probability, and the observed share of sick ones among them.

    Attributes:
        predicted: Mean cross-fitted probability, at the share of sick images in the calibration.
        observed: Share of sick images.
        low: Lower end of the 95 % interval of the share.
        high: Upper end of this interval.
        n: Number of images.
    """

    predicted: Share
    observed: Share
    low: Share
    high: Share
    n: Positive

    @model_validator(mode="after")
    def _check_interval(self) -> ReliabilityBin:
        if not self.low - ROUNDING <= self.observed <= self.high + ROUNDING:
            raise ValueError(f"a share of {self.observed} outside of its interval, {self.low} to {self.high}")
        return self


def p_values(scores: np.ndarray, healthy: np.ndarray) -> np.ndarray:
    """Return the conformal p-values of scores against those of healthy images [0].

    For a healthy image that is exchangeable with those, P(p <= a) <= a.

    Args:
        scores: Finite raw scores, `(N,)`.
        healthy: Raw scores of healthy images that the model was not trained on, in any order, `(M,)`.

    Returns:
        Share of healthy images that score as high, the image itself included, `(N,)`, in (0, 1].

    Example:
        >>> p_values(np.array([0.2, 0.9]), np.array([0.1, 0.2, 0.3, 0.4]))
        array([0.8, 0.2])
    """
    as_high = len(healthy) - np.searchsorted(np.sort(healthy), scores, side="left")
    return np.asarray((as_high + 1) / (len(healthy) + 1))


def fit_probability(is_sick: np.ndarray, scores: np.ndarray, prevalence: float) -> ProbabilityCurve:
    """Fit the probability of disease to labeled scores [1].

    Args:
        is_sick: Labels, of which both values occur, bool, `(N,)`.
        scores: Finite raw scores, most of them in [0, 1], `(N,)`.
        prevalence: Share of sick people among those who are screened, in (0, 1).

    Returns:
        The fitted curve. Where the probability would fall with the score, the best curve that does not is constant.

    Example:
        >>> scores = np.linspace(0, 1, 100)
        >>> curve = fit_probability(scores > 0.5, scores, prevalence=0.5)
        >>> bool(curve(np.array([0.1]))[0] < 0.1 < 0.9 < curve(np.array([0.9]))[0])
        True
    """
    fitted = _regression().fit(scores[:, None], is_sick)
    slope, intercept, share = float(fitted.coef_[0, 0]), float(fitted.intercept_[0]), float(is_sick.mean())
    if slope <= 0:
        slope, intercept = 0.0, float(logit(share))
    return ProbabilityCurve(slope=slope, intercept=intercept, share=share, prevalence=prevalence)


def reliability(is_sick: np.ndarray, scores: np.ndarray) -> list[ReliabilityBin]:
    """Return the reliability curve of the cross-fitted probability.

    Args:
        is_sick: Labels, bool, `(N,)`.
        scores: Finite raw scores, `(N,)`.

    Returns:
        Bins by rising probability; empty where there are fewer than five images of either label.
    """
    if min(is_sick.sum(), (~is_sick).sum()) < _FOLDS:
        return []
    from sklearn.model_selection import cross_val_predict  # noqa: PLC0415  # a second that only fitting is to cost

    predicted = cross_val_predict(_regression(), scores[:, None], is_sick, cv=_FOLDS, method="predict_proba")[:, 1]
    order = np.argsort(predicted, kind="stable")
    bins = np.array_split(order, min(BINS, max(1, len(order) // _LEAST_IN_BIN)))
    return [_bin(predicted[chosen], is_sick[chosen]) for chosen in bins]


def _bin(predicted: np.ndarray, is_sick: np.ndarray) -> ReliabilityBin:
    low, high = np.clip(
        wilson_interval(int(is_sick.sum()), len(is_sick)), 0, 1
    ).tolist()  # the last digits may leave it
    return ReliabilityBin(
        predicted=float(predicted.mean()), observed=float(is_sick.mean()), low=low, high=high, n=len(is_sick)
    )


def _regression() -> Any:
    """Return an unfitted logistic regression."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    # A light penalty: of classes that do not overlap, the slope would grow without end. It suits scores that span about
    # [0, 1], as those of the validation do.
    return LogisticRegression(C=100.0)
