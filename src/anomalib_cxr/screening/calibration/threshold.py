"""The threshold under which an X-ray is ruled out, with a guarantee that holds for finitely many sick images.

Of n sick images the k lowest may be missed. The share of all sick images that score at or over the k+1-th lowest has,
whatever the distribution of the scores, at least the distribution Beta(n - k, k + 1) [0]; its quantile is the
Clopper-Pearson bound on the sensitivity [1]. So the bound holds although the threshold was chosen on the same images,
as long as k is fixed by n alone, as it is here.

Sources: [0] S. S. Wilks, "Determination of sample sizes for setting tolerance limits", Annals of Mathematical
Statistics 1941; [1] C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of
the binomial", Biometrika 1934.
"""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, Decimal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.special import betaincinv  # the quantile of the beta distribution; scipy.stats takes half a second

from anomalib_cxr.errors import ScreeningError, SettingError

STEP = Decimal("1e-6")
"""To which a threshold is rounded down: another batch or machine may move a score in its last digits."""
_ROUNDING = 1e-9  # a bound that is just reached may come out under it by the last digits


class RuleOut(BaseModel):
    """A threshold and what is known of it.

    Attributes:
        threshold: The least score, in [0, 1], that is to be read.
        sensitivity: Share of the sick that are to be read, as wanted.
        confidence: With which the wanted sensitivity is reached.
        lower_bound: What the sensitivity is at least, with this confidence.
        n_sick: Sick images that it was chosen on.
        n_missed: Those of them under the threshold.
        n_normal: Normal images there.
        n_freed: Those of them under the threshold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float
    sensitivity: float
    confidence: float
    lower_bound: float
    n_sick: int
    n_missed: int
    n_normal: int
    n_freed: int


def lower_bound(n_sick: int, n_missed: int, confidence: float) -> float:
    """Return the one-sided exact lower bound on the sensitivity.

    Args:
        n_sick: Sick images, 1 at least.
        n_missed: Those of them that were missed.
        confidence: In (0, 1).

    Example:
        >>> lower_bound(299, 0, 0.95)
        0.9900...
    """
    return 0.0 if n_missed == n_sick else float(betaincinv(n_sick - n_missed, n_missed + 1, 1 - confidence))


def sick_needed(sensitivity: float, confidence: float) -> int:
    """Return how many sick images are needed, if none of them is missed.

    Args:
        sensitivity: Wanted, in (0, 1).
        confidence: Wanted, in (0, 1).

    Example:
        >>> sick_needed(0.99, 0.95)
        299
    """
    return math.ceil(math.log(1 - confidence) / math.log(sensitivity) - _ROUNDING)


def misses_allowed(n_sick: int, sensitivity: float, confidence: float) -> int | None:
    """Return how many of the sick images may be missed such that the bound still holds; None where none may.

    Example:
        >>> misses_allowed(473, 0.99, 0.95), misses_allowed(298, 0.99, 0.95)
        (1, None)
    """
    missed = np.arange(n_sick)
    holds = np.asarray(betaincinv(n_sick - missed, missed + 1, 1 - confidence) >= sensitivity - _ROUNDING)
    return int(missed[holds][-1]) if holds.any() else None


def check_wish(sensitivity: float, confidence: float) -> None:
    """Refuse a sensitivity or a confidence that no finite number of images can give.

    Raises:
        SettingError: If one of them is not between 0 and 1.
    """
    if not (0 < sensitivity < 1 and 0 < confidence < 1):
        raise SettingError(
            f"sensitivity = {sensitivity}, confidence = {confidence}",
            "both between 0 and 1, such as 0.99 and 0.95",
            "no finite number of images shows that nothing is ever missed: choose a number under 1",
        )


def rule_out(
    is_sick: np.ndarray, scores: np.ndarray, sensitivity: float, confidence: float, group: str = ""
) -> RuleOut:
    """Return the largest threshold whose lower bound on sensitivity still holds.

    Args:
        is_sick: Which images are sick, bool, `(N,)`.
        scores: The higher the more likely sick, in [0, 1], `(N,)`.
        sensitivity: Wanted, in (0, 1).
        confidence: Wanted, in (0, 1).
        group: Whose images these are, for the error.

    Raises:
        SettingError: If sensitivity or confidence is outside its range.
        ScreeningError: If there are too few sick images; it tells how many are needed.

    Example:
        >>> is_sick = np.arange(100) >= 40
        >>> rule_out(is_sick, np.linspace(0, 1, 100), 0.95, 0.95).n_freed
        40
    """
    check_wish(sensitivity, confidence)
    sick, normal = np.sort(scores[is_sick]), scores[~is_sick]
    missed = misses_allowed(len(sick), sensitivity, confidence)
    if missed is None:
        raise ScreeningError(
            f"{len(sick)} sick images{f' of group {group}' if group else ''}",
            f"at least {sick_needed(sensitivity, confidence)}, none of them missed, to show a sensitivity of "
            f"{sensitivity:g} with a confidence of {confidence:g}",
            "add labeled sick images, or ask for less: --sensitivity, --confidence",
        )
    threshold = float(Decimal(float(sick[missed])).quantize(STEP, ROUND_FLOOR))  # a product of floats may round up
    n_missed = int((sick < threshold).sum())
    return RuleOut(
        threshold=threshold,
        sensitivity=sensitivity,
        confidence=confidence,
        lower_bound=lower_bound(len(sick), n_missed, confidence),
        n_sick=len(sick),
        n_missed=n_missed,
        n_normal=len(normal),
        n_freed=int((normal < threshold).sum()),
    )
