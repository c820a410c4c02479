"""Statistics of drift: weighted Kolmogorov-Smirnov test, population stability index, and Holm's correction.

Calibration images are weighted, so that sick ones have the share that they have among the people who are screened.

Sources: [0] F. J. Massey, "The Kolmogorov-Smirnov test for goodness of fit", JASA 1951; [1] L. Kish, "Survey sampling",
1965, on the effective sample size of weighted images; [2] S. Holm, "A simple sequentially rejective multiple test
procedure", Scandinavian Journal of Statistics 1979; [3] B. Yurdakul, J. Naranjo, "Statistical properties of the
population stability index", Journal of Risk Model Validation 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import rel_entr
from scipy.stats import kstwo

BINS = 10
"""Number of bins of the population stability index."""


class WeightedSample(NamedTuple):
    """Values of calibration images."""

    values: np.ndarray
    """Sorted, `(M,)`."""
    weights: np.ndarray
    """Weights that add up to 1, `(M,)`."""

    @classmethod
    def at_prevalence(cls, values: np.ndarray, is_sick: np.ndarray, prevalence: float) -> WeightedSample:
        """Weight values, so that the sick ones have a share.

        Args:
            values: Values in any order, `(M,)`.
            is_sick: Labels, of which both values occur, bool, `(M,)`.
            prevalence: Share of sick people, in [0, 1].

        Example:
            >>> WeightedSample.at_prevalence(np.array([3.0, 1, 2]), np.array([True, False, False]), 0.1).weights
            array([0.45, 0.45, 0.1 ])
        """
        order = np.argsort(values, kind="stable")
        weights = np.where(is_sick, prevalence / is_sick.sum(), (1 - prevalence) / (~is_sick).sum())
        return cls(values[order], weights[order])

    @property
    def effective_size(self) -> float:
        """Number of equally weighted images that tell as much [1]."""
        return float(1 / np.square(self.weights).sum())

    def cumulative(self, points: np.ndarray) -> np.ndarray:
        """Return the share of values up to each of some points, `(P,)`."""
        below = np.searchsorted(self.values, points, side="right")
        return np.asarray(np.concatenate([[0.0], np.cumsum(self.weights)])[below])

    def quantile(self, share: float) -> float:
        """Return the lowest value up to which at least a share of the weight lies."""
        place = int(np.searchsorted(np.cumsum(self.weights), share - 1e-12))
        return float(self.values[min(place, len(self.values) - 1)])


class KsResult(NamedTuple):
    """Result of a Kolmogorov-Smirnov test."""

    distance: float
    """Largest difference of the two cumulative shares, in [0, 1]."""
    p_value: float


def ks_test(reference: WeightedSample, values: np.ndarray) -> KsResult:
    """Test whether values come from the distribution of a weighted reference.

    The p-value is that of SciPy's `ks_2samp` for large samples, with Kish's effective size in place of the number of
    images; with equal weights it is the same.

    Args:
        reference: Calibration images.
        values: Values, at least one, `(N,)`.

    Returns:
        Distance and p-value.

    Example:
        >>> even = WeightedSample(np.arange(100.0), np.full(100, 0.01))
        >>> distance, p_value = ks_test(even, np.arange(50.0))
        >>> round(distance, 6), p_value < 1e-7
        (0.5, True)
    """
    points = np.concatenate([reference.values, values])
    own = np.searchsorted(np.sort(values), points, side="right") / len(values)
    distance = float(np.abs(reference.cumulative(points) - own).max())
    n, m = len(values), reference.effective_size
    return KsResult(distance, float(np.clip(kstwo.sf(distance, max(1, np.round(n * m / (n + m)))), 0, 1)))


def stability_index(reference: WeightedSample, values: np.ndarray) -> float:
    """Compute the population stability index, PSI [3]: the sum of (q - p) log(q / p) over bins.

    The bins have equal shares p of the reference, fewer where values are equal. Half an image is added to each bin, so
    that the index is finite.

    Args:
        reference: Calibration images.
        values: Values, `(N,)`.

    Returns:
        The index, at least 0. By convention 0.1 is some change and 0.25 a large one.

    Example:
        >>> even = WeightedSample(np.arange(100.0), np.full(100, 0.01))
        >>> round(stability_index(even, np.arange(100.0)), 3), stability_index(even, np.arange(50.0)) > 0.25
        (0.0, True)
    """
    edges = np.unique([reference.quantile(share) for share in np.arange(1, BINS) / BINS])
    shares = np.diff(np.concatenate([[0.0], reference.cumulative(edges), [1.0]]))
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    expected, found = (_smoothed(part) for part in (shares * reference.effective_size, counts))
    return float(rel_entr(found, expected).sum() + rel_entr(expected, found).sum())


def _smoothed(counts: np.ndarray) -> np.ndarray:
    return np.asarray((counts + 0.5) / (counts + 0.5).sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, by Holm's method [2], which allows for any dependence between them.

    Args:
        p_values: P-values in any order.

    Returns:
        Corrected ones in the same order: if all below a rate are called significant, the probability that any true null
        hypothesis is among them is at most this rate.

    Example:
        >>> holm([0.01, 0.5, 0.02])
        [0.03, 0.5, 0.04]
    """
    corrected = [0.0] * len(p_values)
    greatest = 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * float(p_values[place])))
        corrected[place] = greatest
    return corrected


def best_prevalence(values: np.ndarray, is_sick: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Return the share of sick people at which the calibration's scores are most like those that came in.

    Args:
        values: Scores of the calibration images, `(M,)`.
        is_sick: Their labels, of which both values occur, `(M,)`.
        found: Scores that came in, `(N,)`.

    Returns:
        The share in hundredths, and the Kolmogorov-Smirnov distance that is left with it.

    Example:
        >>> healthy, sick = np.arange(100) / 200, 0.5 + np.arange(100) / 200
        >>> found = np.concatenate([healthy, sick[::3]])  # 25 % sick
        >>> best_prevalence(np.concatenate([healthy, sick]), np.arange(200) >= 100, found)[0]
        0.25
    """
    shares = np.linspace(0, 1, 101)
    points = np.unique(np.concatenate([values, found]))
    sick, normal, own = (
        np.searchsorted(np.sort(part), points, side="right") / len(part)
        for part in (values[is_sick], values[~is_sick], found)
    )
    distances = [float(np.abs(share * sick + (1 - share) * normal - own).max()) for share in shares]
    best = int(np.argmin(distances))
    return float(shares[best]), distances[best]
