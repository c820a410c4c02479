"""Agreement of readers, against counts by hand and other formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from anomalib_cxr.evaluation.metrics.kappa import cohen_kappa
from anomalib_cxr.screening.case import Decision, Verdict
from anomalib_cxr.web.blind.agreement import model_against_readers, pairs, readers_against_others

N, A, U = Verdict.NORMAL, Verdict.ABNORMAL, Verdict.UNSURE
LABELS = ["normal", "abnormal", "unsure"]


def readings_of(table):
    """Labels of two readers with a table of counts."""
    first, second = [], []
    for row, counts in zip(LABELS, table, strict=True):
        for column, count in zip(LABELS, counts, strict=True):
            first += [row] * count
            second += [column] * count
    return first, second


def standard_error(table):
    """Fleiss, Cohen and Everitt, "Large sample standard errors of kappa and weighted kappa", 1969, equation 13."""
    p = np.asarray(table, float)
    n = p.sum()
    p /= n
    rows, columns = p.sum(1), p.sum(0)
    expected = rows @ columns
    kappa = (np.trace(p) - expected) / (1 - expected)
    a = sum(p[i, i] * (1 - (rows[i] + columns[i]) * (1 - kappa)) ** 2 for i in range(3))
    b = (1 - kappa) ** 2 * sum(p[i, j] * (columns[i] + rows[j]) ** 2 for i in range(3) for j in range(3) if i != j)
    c = (kappa - expected * (1 - kappa)) ** 2
    return kappa, math.sqrt((a + b - c) / n) / (1 - expected)


class TestKappa:
    def test_the_example_of_fleiss(self):
        """Fleiss, Levin and Paik, "Statistical methods for rates and proportions", 3rd ed., table 18.1: 0.676."""
        kappa = cohen_kappa(*readings_of([[75, 1, 4], [5, 4, 1], [0, 0, 10]]), LABELS)
        assert kappa.value == pytest.approx(0.676, abs=0.0005)
        assert kappa.n == 100

    @pytest.mark.parametrize(
        "table", [[[400, 60, 20], [50, 300, 30], [30, 20, 90]], [[30, 9, 3], [8, 40, 4], [2, 1, 3]]]
    )
    def test_interval_is_that_of_the_formula_for_many_images(self, table):
        expected, error = standard_error(table)
        kappa = cohen_kappa(*readings_of(table), LABELS)
        assert kappa.value == pytest.approx(expected)
        tolerance = 0.12 * error
        assert kappa.interval.low == pytest.approx(expected - 1.96 * error, abs=2 * tolerance)
        assert kappa.interval.high == pytest.approx(expected + 1.96 * error, abs=2 * tolerance)

    def test_interval_is_that_of_images_drawn_one_by_one(self):
        rng = np.random.default_rng(5)
        first, second = map(np.array, readings_of([[20, 4, 2], [3, 12, 1], [1, 2, 2]]))
        draws = rng.integers(0, len(first), (600, len(first)))
        values = [cohen_kappa_score(first[draw], second[draw], labels=LABELS) for draw in draws]
        interval = cohen_kappa(list(first), list(second), LABELS).interval
        assert interval == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.04)

    def test_is_the_same_each_time(self):
        labels = readings_of([[9, 2, 0], [1, 5, 0], [0, 0, 1]])
        assert cohen_kappa(*labels, LABELS) == cohen_kappa(*labels, LABELS)

    @pytest.mark.parametrize("labels", [([], []), (["normal"] * 5, ["normal"] * 5)])
    def test_is_not_defined_without_two_labels(self, labels):
        kappa = cohen_kappa(*labels, LABELS)
        assert all(math.isnan(number) for number in (kappa.value, *kappa.interval))
        assert kappa.n == len(labels[0])


class TestAgainstConsensus:
    READINGS = {  # noqa: RUF012
        #      1     2     3     4     5
        "A": {1: N, 2: A, 3: A, 4: U, 5: N},
        "B": {1: N, 2: A, 3: N, 4: A, 5: U},
        "C": {1: A, 2: A, 3: N, 4: A},
    }

    def test_by_hand(self):
        against = readers_against_others(self.READINGS)
        # Others of A: 1 tied, 2 abnormal, 3 normal, 4 abnormal, 5 nobody sure.
        assert against["A"] == ((2, 2), (0, 1), 2)
        # Others of B: 1 tied, 2 abnormal, 3 tied, 4 abnormal (A is unsure), 5 normal (A alone).
        assert against["B"] == ((2, 2), (0, 1), 2)
        # Others of C: 1 normal, 2 abnormal, 3 tied, 4 abnormal.
        assert against["C"] == ((2, 2), (0, 1), 1)

    def test_the_model_by_hand(self):
        read, below, refused = Decision.TO_READ, Decision.BELOW_THRESHOLD, Decision.REFUSED
        # All: 1 normal, 2 abnormal, 3 normal, 4 abnormal, 5 normal.
        decisions = {1: below, 2: read, 3: refused, 4: below, 5: below}
        against = model_against_readers(decisions, self.READINGS)
        assert against == ((1, 2), (2, 3), 0)
        assert against.sensitivity.value == 0.5
        low, high = against.specificity.interval
        assert (low, high) == pytest.approx((0.2077, 0.9385), abs=1e-4)  # Wilson for 2 of 3, by R's prop.test

    def test_nothing_read(self):
        against = readers_against_others({"A": {}, "B": {}})["A"]
        assert against.sensitivity.value is None
        assert against.sensitivity.interval is None

    def test_pairs_are_over_what_both_have_read(self):
        found = {(first, second): kappa for first, second, kappa in pairs(self.READINGS)}
        assert list(found) == [("A", "B"), ("A", "C"), ("B", "C")]
        assert [kappa.n for kappa in found.values()] == [5, 4, 4]
        expected = cohen_kappa_score(
            ["normal", "abnormal", "normal", "abnormal"], ["abnormal", "abnormal", "normal", "abnormal"]
        )
        assert found["B", "C"].value == pytest.approx(expected)
