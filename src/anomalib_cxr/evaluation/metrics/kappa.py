"""Agreement of two readers beyond chance.

Source: J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 1960.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from .intervals import LEVEL, Interval

RESAMPLES = 5000
"""Number of bootstrap samples."""


class Kappa(NamedTuple):
    """Cohen's kappa of two readers."""

    value: float
    """1 for readers who always agree, 0 for chance; NaN where it is not defined."""
    interval: Interval
    """95 % interval; NaN where the value is."""
    n: int
    """Number of images that both have read."""


def cohen_kappa(first: Sequence[str], second: Sequence[str], labels: Sequence[str], seed: int = 0) -> Kappa:
    """Return Cohen's kappa of two readers, without weights, with a bootstrap interval over the images.

    The interval has the percentiles of kappa over samples of the images with replacement. Samples in which both readers
    use one and the same label only, where kappa is not defined, are left out. Where the readers agree on all images it
    is [1, 1], which says less than it seems to: the images are few, or alike.

    Args:
        first: Labels of the first reader.
        second: Labels of the second reader, for the same images.
        labels: All labels.
        seed: Seed of the samples.

    Returns:
        Kappa.

    Example:
        >>> kappa = cohen_kappa(["a", "a", "b", "b"], ["a", "b", "b", "b"], ["a", "b"])
        >>> round(kappa.value, 3), kappa.n
        (0.5, 4)
    """
    n = len(first)
    table = confusion_matrix(first, second, labels=list(labels)) if n else np.zeros((len(labels),) * 2)
    if not np.isfinite(_kappa(table[None].astype(float))[0]):
        return Kappa(float("nan"), Interval(float("nan"), float("nan")), n)
    # Images with the same two labels are interchangeable: samples of the images are samples of the table.
    rng = np.random.default_rng(seed)
    tables = rng.multinomial(n, table.ravel() / n, RESAMPLES).reshape(RESAMPLES, *table.shape).astype(float)
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(_kappa(tables), [tail, 100 - tail])
    return Kappa(float(cohen_kappa_score(first, second, labels=list(labels))), Interval(float(low), float(high)), n)


def _kappa(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return kappa of tables of counts, (N, L, L); NaN where agreement by chance is certain."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = tables / tables.sum((1, 2), keepdims=True)
        observed = np.trace(shares, axis1=1, axis2=2)
        expected = (shares.sum(1) * shares.sum(2)).sum(1)
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)
