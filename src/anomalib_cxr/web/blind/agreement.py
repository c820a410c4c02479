"""Agreement of the readers of a blind reading: kappa of each pair, each reader against the consensus of the others."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from anomalib_cxr.evaluation.metrics.intervals import Interval, wilson_interval
from anomalib_cxr.evaluation.metrics.kappa import Kappa, cohen_kappa
from anomalib_cxr.screening.case import Decision, Verdict

Readings = Mapping[int, Verdict]
"""Verdicts of a reader by the position of the X-ray."""
LABELS = [verdict.value for verdict in Verdict]


class Rate(NamedTuple):
    """A share of X-rays with its 95 % interval (Wilson)."""

    positive: int
    n: int

    @property
    def value(self) -> float | None:
        """The share; None without any X-ray."""
        return self.positive / self.n if self.n else None

    @property
    def interval(self) -> Interval | None:
        """Its interval; None without any X-ray."""
        return wilson_interval(self.positive, self.n) if self.n else None


class AgainstConsensus(NamedTuple):
    """A reader, or the model, against a consensus."""

    sensitivity: Rate
    """Share of the X-rays with the consensus abnormal that were not called normal."""
    specificity: Rate
    """Share of the X-rays with the consensus normal that were called normal."""
    undecided: int
    """X-rays without a consensus, which are left out."""


def pairs(readings: Mapping[str, Readings]) -> list[tuple[str, str, Kappa]]:
    """Return kappa of each pair of readers, over the X-rays that both have read.

    Args:
        readings: Verdicts by reader.
    """
    found = []
    for first, second in itertools.combinations(readings, 2):
        both = sorted(readings[first].keys() & readings[second].keys())
        ours, theirs = ([readings[name][position].value for position in both] for name in (first, second))
        found.append((first, second, cohen_kappa(ours, theirs, LABELS)))
    return found


def readers_against_others(readings: Mapping[str, Readings]) -> dict[str, AgainstConsensus]:
    """Compare each reader with the consensus of the others; of oneself it would be no measure.

    Args:
        readings: Verdicts by reader.
    """
    return {
        name: _against(
            {position: verdict is not Verdict.NORMAL for position, verdict in own.items()},
            _consensus([other for key, other in readings.items() if key != name]),
        )
        for name, own in readings.items()
    }


def model_against_readers(decisions: Mapping[int, Decision], readings: Mapping[str, Readings]) -> AgainstConsensus:
    """Compare the model with the consensus of all readers; what is not below its threshold counts as not normal.

    Args:
        decisions: Decisions of the screening by the position of the X-ray.
        readings: Verdicts by reader.
    """
    calls = {position: decision is not Decision.BELOW_THRESHOLD for position, decision in decisions.items()}
    return _against(calls, _consensus(list(readings.values())))


def consensus(readings: Mapping[str, Readings]) -> dict[int, Verdict]:
    """Return the verdict of the majority of the readers on each X-ray that has one.

    Votes are normal and abnormal; a tie, or nobody who is sure, is no consensus.

    Args:
        readings: Verdicts by reader.

    Example:
        >>> normal, abnormal, unsure = Verdict.NORMAL, Verdict.ABNORMAL, Verdict.UNSURE
        >>> consensus({"A": {1: normal, 2: abnormal, 3: unsure}, "B": {1: unsure, 2: normal}, "C": {2: abnormal}})
        {1: <Verdict.NORMAL: 'normal'>, 2: <Verdict.ABNORMAL: 'abnormal'>}
    """
    return _consensus(list(readings.values()))


def _consensus(readings: Sequence[Readings]) -> dict[int, Verdict]:
    majority = {}
    for position in sorted(set().union(*readings)):
        votes = Counter(own[position] for own in readings if position in own)
        if votes[Verdict.NORMAL] != votes[Verdict.ABNORMAL]:
            is_normal = votes[Verdict.NORMAL] > votes[Verdict.ABNORMAL]
            majority[position] = Verdict.NORMAL if is_normal else Verdict.ABNORMAL
    return majority


def _against(calls: Mapping[int, bool], truth: Mapping[int, Verdict]) -> AgainstConsensus:
    """Compare calls, True for not normal, with a consensus."""
    sick = [call for position, call in calls.items() if truth.get(position) is Verdict.ABNORMAL]
    healthy = [call for position, call in calls.items() if truth.get(position) is Verdict.NORMAL]
    undecided = len(calls) - len(sick) - len(healthy)
    return AgainstConsensus(Rate(sum(sick), len(sick)), Rate(len(healthy) - sum(healthy), len(healthy)), undecided)
