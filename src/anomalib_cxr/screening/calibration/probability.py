"""What a score means: a p-value against healthy images, and a probability of disease at a stated prevalence.

Sources: [0] V. Vovk, A. Gammerman, G. Shafer, "Algorithmic learning in a random world", 2005; [1] J. Platt,
"Probabilistic outputs for support vector machines", 1999; [2] M. Saerens, P. Latinne, C. Decaestecker, "Adjusting the
outputs of a classifier to new a priori probabilities", Neural Computation 2002.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.special import expit, logit

from anomalib_cxr.errors import SettingError
from anomalib_cxr.evaluation.metrics.intervals import wilson_interval

BINS = 10
"""Of a reliability curve, at most."""
_FOLDS = 5
_LEAST_IN_BIN = 10


class ProbabilityCurve(BaseModel):
    """The probability of disease by score: logistic, at the prevalence that was stated.

    Attributes:
        slope: Of the log odds.
        intercept: Of the log odds at the share of sick images in the calibration.
        share: Of sick images in the calibration, in (0, 1).
        prevalence: Share of sick people among those who are screened, in (0, 1).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float
    intercept: float
    share: float
    prevalence: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return the probability of disease of each score, `(N,)`: the odds follow the prevalence [2]."""
        moved = logit(self.prevalence) - logit(self.share)
        return np.asarray(expit(self.intercept + self.slope * scores + moved))


class ReliabilityBin(BaseModel):
    """Images of similar probability, and how many of them were sick.

    Attributes:
        predicted: Mean probability, at the share of sick images in the calibration, each by a curve that was fitted
            without the image.
        observed: Share of sick images.
        low: Lower end of the 95 % interval of the share.
        high: Upper end.
        n: Images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    predicted: float
    observed: float
    low: float
    high: float
    n: int


def p_values(scores: np.ndarray, healthy: np.ndarray) -> np.ndarray:
    """Return the conformal p-values of scores against those of healthy images [0].

    If an image is healthy and exchangeable with those, its p-value is under any a with a probability of at most a.

    Args:
        scores: `(N,)`.
        healthy: Scores of healthy images that the model was not trained on, sorted or not, `(M,)`.

    Returns:
        Share of the healthy images that score as high, itself among them, `(N,)`, in (0, 1].

    Example:
        >>> p_values(np.array([0.2, 0.9]), np.array([0.1, 0.2, 0.3, 0.4]))
        array([0.8, 0.2])
    """
    as_high = len(healthy) - np.searchsorted(np.sort(healthy), scores, side="left")
    return np.asarray((as_high + 1) / (len(healthy) + 1))


def check_prevalence(prevalence: float) -> None:
    """Refuse a prevalence that is no share.

    Raises:
        SettingError: If it is not between 0 and 1.
    """
    if not 0 < prevalence < 1:
        raise SettingError(
            f"prevalence = {prevalence}", "between 0 and 1", "give the share of sick people among those screened"
        )


def fit_probability(is_sick: np.ndarray, scores: np.ndarray, prevalence: float) -> ProbabilityCurve:
    """Fit the probability of disease to labeled scores [1].

    Args:
        is_sick: Which images are sick, both kinds, bool, `(N,)`.
        scores: In [0, 1], `(N,)`.
        prevalence: Share of sick people among those who are screened.

    Raises:
        SettingError: If the prevalence is not between 0 and 1.

    Example:
        >>> scores = np.linspace(0, 1, 100)
        >>> curve = fit_probability(scores > 0.5, scores, prevalence=0.5)
        >>> bool(curve(np.array([0.1]))[0] < 0.1 < 0.9 < curve(np.array([0.9]))[0])
        True
    """
    check_prevalence(prevalence)
    fitted = _regression().fit(scores[:, None], is_sick)
    return ProbabilityCurve(
        slope=float(fitted.coef_[0, 0]),
        intercept=float(fitted.intercept_[0]),
        share=float(is_sick.mean()),
        prevalence=prevalence,
    )


def reliability(is_sick: np.ndarray, scores: np.ndarray) -> list[ReliabilityBin]:
    """Return the reliability curve of the fitted probability, cross-fitted; empty where there are too few images.

    Args:
        is_sick: Which images are sick, bool, `(N,)`.
        scores: In [0, 1], `(N,)`.
    """
    if min(is_sick.sum(), (~is_sick).sum()) < _FOLDS:
        return []
    from sklearn.model_selection import cross_val_predict  # noqa: PLC0415  # a second that only fitting is to cost

    predicted = cross_val_predict(_regression(), scores[:, None], is_sick, cv=_FOLDS, method="predict_proba")[:, 1]
    order = np.argsort(predicted, kind="stable")
    bins = np.array_split(order, min(BINS, max(1, len(order) // _LEAST_IN_BIN)))
    return [_bin(predicted[chosen], is_sick[chosen]) for chosen in bins]


def _bin(predicted: np.ndarray, is_sick: np.ndarray) -> ReliabilityBin:
    low, high = wilson_interval(int(is_sick.sum()), len(is_sick))
    return ReliabilityBin(
        predicted=float(predicted.mean()), observed=float(is_sick.mean()), low=low, high=high, n=len(is_sick)
    )


def _regression() -> Any:
    """Return scikit-learn's logistic regression, to be fitted."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    # A light penalty: of classes that do not overlap, the slope would grow without end. Scores span [0, 1].
    return LogisticRegression(C=100.0)
