"""Comparison of the X-rays that came in with those of the calibration: all of them, and by week, machine and view."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest, fisher_exact

from anomalib_cxr.evaluation.metrics.intervals import LEVEL
from anomalib_cxr.screening.calibration.reference import Reference
from anomalib_cxr.screening.case import Decision, Verdict

from .rows import MonitoredRows
from .statistics import WeightedSample, ks_test, stability_index

LEAST = 50
"""Number of X-rays of which a distribution is compared, at least; of calibration images of one machine or view, too."""
LEAST_RISE = 0.05
"""Rise of the share of X-rays that are refused for their quality from which it counts as drift."""
FIGURES = ("score", "lung_gray", "tissue_contrast")
"""Figures whose distributions are compared."""
BELOW, REFUSED, SPOILT, MISSED = "below_threshold", "refused", "refused_for_quality", "missed"
"""Shares of X-rays: below the threshold, of the scored ones; refused; refused for their quality, of these and the
scored ones; called abnormal by a reader, of those below the threshold that were read."""
_QUALITY = re.compile(r"blurred|noisy|squeezed or cropped|no two lungs")
_NUMBERS = re.compile(r"(?<= )[\d.]+ (?:to [\d.]+ )?")
NAN = math.nan


class MonitoredFigure(NamedTuple):
    """One figure of a group of X-rays beside that of the calibration. NaN where there is no such number."""

    by: str
    """`all`, `week`, `machine` or `view`."""
    group: str
    """Name of the group: the Monday of the week, the machine, the view."""
    figure: str
    """One of `FIGURES`, or a share."""
    n: int
    """Number of X-rays of the group that the figure is of."""
    value: float
    """Share, or median."""
    low: float = NAN
    """Lower end of the 95 % interval of a share (Clopper and Pearson)."""
    high: float = NAN
    """Upper end."""
    expected: float = NAN
    """Share or median in the calibration, at its prevalence."""
    reference: str = ""
    """Calibration images that it is compared with: `all`, or those of the `machine` or `view`."""
    distance: float = NAN
    """Largest difference of the cumulative shares (Kolmogorov and Smirnov)."""
    psi: float = NAN
    """Population stability index."""
    p_value: float = NAN
    """Of the Kolmogorov-Smirnov test, of Fisher's exact test, or of the binomial test; one-sided for shares."""
    p_holm: float = NAN
    """The same, corrected for the number of tests of this run."""
    is_large: bool = False
    """Whether the difference is large enough to matter, whatever its p-value."""
    drift: bool = False
    """Whether it is large and significant."""


@dataclass(frozen=True)
class ReferenceColumns:
    """Reference of the calibration as arrays, `(M,)` each."""

    is_sick: np.ndarray
    is_below: np.ndarray
    score: np.ndarray
    lung_gray: np.ndarray
    tissue_contrast: np.ndarray
    machine: np.ndarray
    view: np.ndarray
    refused: tuple[int, int]
    prevalence: float
    sensitivity: float

    @classmethod
    def of(cls, reference: Reference) -> ReferenceColumns:
        """Return the columns of a reference."""
        return cls(
            is_sick=np.array(reference.is_sick, bool),
            is_below=np.array(reference.is_below, bool),
            score=np.array(reference.score),
            lung_gray=np.array(reference.lung_gray),
            tissue_contrast=np.array(reference.tissue_contrast),
            machine=np.array(reference.machine, object),
            view=np.array(reference.view, object),
            refused=(reference.refused_normal, reference.refused_sick),
            prevalence=reference.prevalence,
            sensitivity=reference.sensitivity,
        )

    def alike(self, by: str, group: str) -> tuple[str, np.ndarray]:
        """Return the images that a group is compared with: those of its machine or view, if they are enough.

        Args:
            by: Attribute of the group.
            group: Name of the group.

        Returns:
            `machine`, `view` or `all`, and the chosen images, bool, `(M,)`.
        """
        if by in {"machine", "view"}:
            own = (self.machine if by == "machine" else self.view) == group
            if own.sum() >= LEAST and 0 < self.is_sick[own].sum() < own.sum():
                return by, own
        return "all", np.ones(len(self.is_sick), bool)

    def share_below(self, chosen: np.ndarray) -> float:
        """Return the share of images below the threshold at the prevalence."""
        normal, sick = (self.is_below[chosen & label].mean() for label in (~self.is_sick, self.is_sick))
        return float((1 - self.prevalence) * normal + self.prevalence * sick)

    @property
    def most_missed(self) -> float:
        """Share of sick people among those below the threshold, if the guarantee is just met."""
        missed = self.prevalence * (1 - self.sensitivity)
        freed = (1 - self.prevalence) * float(self.is_below[~self.is_sick].mean())
        return missed / (missed + freed)


def refusal_kind(why: str) -> str:
    """Return the kind of the first reason of a refusal, without what differs from file to file.

    Args:
        why: `Case.why`.

    Example:
        >>> refusal_kind("too small: 10 x 10 pixels, validated from 64")
        'too small'
        >>> refusal_kind("age 12 outside the validated 18 to 90 years; blurred: the lungs lack fine detail")
        'age outside the validated years'
    """
    return _NUMBERS.sub("", re.split("[;:]", why, maxsplit=1)[0])


def compare(rows: MonitoredRows, reference: ReferenceColumns) -> Iterator[MonitoredFigure]:
    """Compare all X-rays, and those of each week, machine and view where there are several.

    Args:
        rows: X-rays that came in.
        reference: Calibration images.

    Yields:
        Comparisons, not yet corrected for their number.
    """
    for by, group, chosen in groups(rows):
        part = rows.where(chosen)
        yield from _shares(by, group, part, reference)
        name, own = reference.alike(by, group)
        for figure in FIGURES:
            yield _distribution(by, group, figure, getattr(part, figure), reference, (name, own))
    yield from _verdicts(rows, reference)
    for kind, count in refusal_counts(rows):
        yield MonitoredFigure("all", "", f"{REFUSED}: {kind}", len(rows), *_share(count, len(rows)))


def groups(rows: MonitoredRows) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield the groups of X-rays: all, and those of each week, machine and view where there are several.

    Args:
        rows: X-rays that came in.

    Yields:
        Attribute, name, and the rows, bool, `(N,)`.
    """
    yield "all", "", np.ones(len(rows), bool)
    for by in ("week", "machine", "view"):
        column = getattr(rows, by).astype(str)
        names = np.unique(column)
        if len(names) > 1:
            for name in names:
                yield by, str(name), column == name


def refusal_counts(rows: MonitoredRows) -> list[tuple[str, int]]:
    """Return the number of refused X-rays by the kind of reason, the most frequent first."""
    kinds = [refusal_kind(why) for why in rows.why[~rows.is_scored]]
    names, counts = np.unique(np.array(kinds, str), return_counts=True)
    return sorted(((str(name), int(count)) for name, count in zip(names, counts, strict=True)), key=_by_count)


def _by_count(counted: tuple[str, int]) -> tuple[int, str]:
    return -counted[1], counted[0]


def _share(count: int, n: int) -> tuple[float, float, float]:
    if not n:
        return NAN, NAN, NAN
    interval = binomtest(count, n).proportion_ci(LEVEL, method="exact")
    return count / n, float(interval.low), float(interval.high)


def _distribution(
    by: str, group: str, figure: str, values: np.ndarray, reference: ReferenceColumns, alike: tuple[str, np.ndarray]
) -> MonitoredFigure:
    """Compare the distribution of a figure; without a p-value where there are too few X-rays."""
    name, own = alike
    known = values[~np.isnan(values)]
    sample = WeightedSample.at_prevalence(getattr(reference, figure)[own], reference.is_sick[own], reference.prevalence)
    median = float(np.median(known)) if len(known) else NAN
    found = MonitoredFigure(by, group, figure, len(known), median, expected=sample.quantile(0.5), reference=name)
    if len(known) < LEAST:
        return found
    distance, p_value = ks_test(sample, known)
    return found._replace(distance=distance, p_value=p_value, psi=stability_index(sample, known))


def _shares(by: str, group: str, rows: MonitoredRows, reference: ReferenceColumns) -> Iterator[MonitoredFigure]:
    """Yield the shares of X-rays below the threshold, refused, and refused for their quality."""
    is_below = rows.decision == Decision.BELOW_THRESHOLD.value
    n_scored = int(rows.is_scored.sum())
    name, own = reference.alike(by, group)
    below = _share(int(is_below.sum()), n_scored)
    yield MonitoredFigure(by, group, BELOW, n_scored, *below, reference.share_below(own), name)
    yield MonitoredFigure(by, group, REFUSED, len(rows), *_share(len(rows) - n_scored, len(rows)))
    spoilt = sum(bool(_QUALITY.search(why)) for why in rows.why[~rows.is_scored])
    n, (normal, sick) = n_scored + spoilt, reference.refused
    n_sick, n_normal = sick + int(reference.is_sick.sum()), normal + int((~reference.is_sick).sum())
    expected = (1 - reference.prevalence) * normal / n_normal + reference.prevalence * sick / n_sick
    value, low, high = _share(spoilt, n)
    p_value, is_large = NAN, False
    if n >= LEAST:  # against the class that was refused more often: a different case mix is no rise
        refused, total = max((normal, n_normal), (sick, n_sick), key=lambda pair: pair[0] / pair[1])
        table = np.array([[spoilt, n - spoilt], [refused, total - refused]])
        p_value = float(fisher_exact(table, alternative="greater").pvalue)
        is_large = value - expected >= LEAST_RISE
    yield MonitoredFigure(by, group, SPOILT, n, value, low, high, expected, "all", p_value=p_value, is_large=is_large)


def _verdicts(rows: MonitoredRows, reference: ReferenceColumns) -> Iterator[MonitoredFigure]:
    """Yield the shares that readers called abnormal, of those below the threshold and of those to be read."""
    for decision, name in ((Decision.BELOW_THRESHOLD, MISSED), (Decision.TO_READ, "abnormal_of_those_to_be_read")):
        given = rows.verdict[(rows.decision == decision.value) & (rows.verdict != "")]
        n, abnormal = len(given), int((given == Verdict.ABNORMAL.value).sum())
        found = MonitoredFigure("all", "", name, n, *_share(abnormal, n))
        if decision is Decision.BELOW_THRESHOLD and n:
            expected = reference.most_missed
            p_value = float(binomtest(abnormal, n, expected, alternative="greater").pvalue)
            found = found._replace(expected=expected, reference="all", p_value=p_value, is_large=True)
        yield found
