"""F1 and accuracy at a threshold from validation images, as papers on anomaly detection report them.

The threshold is that of the highest F1 on validation, anomalib's own choice. F1 and accuracy depend on the share of
sick images, and can be compared on the same images only.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve

from anomalib_cxr.evaluation.scores import SICK, count_labels, no_roc_reason

from .intervals import QUANTILE, wald_interval, wilson_interval
from .operating_points import N_DRAWS, Estimate
from .screening_metrics import COLUMNS, NOTHING, Row, groups_of

F1, ACCURACY = "f1", "accuracy"


def evaluate_labels(validated: pd.DataFrame, tested: pd.DataFrame) -> pd.DataFrame:
    """Compute F1 and accuracy of test images at the threshold of the highest F1 on validation images.

    Args:
        validated: One row per validation image, with the columns of `tested`.
        tested: One row per test image, with the columns `source`, `label` and finite `score`, as for
            :func:`anomalib_cxr.evaluation.metrics.screening_metrics.evaluate_scores`.

    Returns:
        Two rows per group, `f1` and `accuracy`, with the columns of that function. Intervals are those of the test
        images at the chosen threshold: of accuracy Wilson's, of F1 from a parametric bootstrap of hits and false
        alarms; they leave out the choice of the threshold.

    Example:
        >>> validated = pd.DataFrame({"source": "a", "label": ["normal", "sick", "sick"], "score": [1.0, 2.0, 3.0]})
        >>> tested = pd.DataFrame({"source": "b", "label": ["normal", "normal", "sick"], "score": [1.5, 2.5, 2.2]})
        >>> evaluate_labels(validated, tested).set_index("metric").value.round(3).to_dict()
        {'f1': 0.667, 'accuracy': 0.667}
    """
    validated, tested = (table[table.label.notna()] for table in (validated, tested))
    rows = [row for group, part in groups_of(tested) for row in _measure(group, validated, part)]
    measured: pd.DataFrame = pd.DataFrame(rows, columns=COLUMNS)
    return measured


def f1_threshold(is_sick: np.ndarray, scores: np.ndarray) -> float:
    """Choose the threshold of the highest F1; of several the lowest, as anomalib does.

    Args:
        is_sick: True for sick images, bool, `(N,)`, one at least.
        scores: Finite, the higher the more likely sick, `(N,)`.

    Returns:
        Lowest score that counts as sick.

    Example:
        >>> f1_threshold(np.array([False, False, True, True]), np.array([1.0, 3.0, 2.0, 4.0]))
        2.0
    """
    precision, sensitivity, thresholds = precision_recall_curve(is_sick, scores)
    both = precision + sensitivity
    f1 = np.divide(2 * precision * sensitivity, both, out=np.zeros_like(both), where=both > 0)
    return float(thresholds[np.argmax(f1[:-1])])  # the last point has no threshold


def _measure(group: str, validated: pd.DataFrame, tested: pd.DataFrame) -> Iterator[Row]:
    n_normal, n_sick = count_labels(tested)
    row = {"group": group, "n_normal": n_normal, "n_sick": n_sick}
    reason = next(filter(None, map(no_roc_reason, (validated, tested))), None)
    if reason is not None:
        yield from (NOTHING | row | {"metric": metric, "note": reason} for metric in (F1, ACCURACY))
        return
    threshold = f1_threshold((validated.label == SICK).to_numpy(), validated.score.to_numpy(dtype=float))
    is_sick, called = (tested.label == SICK).to_numpy(), (tested.score >= threshold).to_numpy()
    hits, alarms = int((called & is_sick).sum()), int((called & ~is_sick).sum())
    right = hits + n_normal - alarms
    accuracy = Estimate(right / len(tested), *wilson_interval(right, len(tested)))
    for metric, estimate in ((F1, _f1(hits, alarms, n_normal, n_sick)), (ACCURACY, accuracy)):
        variance = ((estimate.high - estimate.low) / (2 * QUANTILE)) ** 2
        yield row | estimate._asdict() | {"metric": metric, "variance": variance, "note": ""}


def _f1(hits: int, alarms: int, n_normal: int, n_sick: int, seed: int = 0) -> Estimate:
    """Return F1 with its interval."""
    rng = np.random.default_rng(seed)
    drawn_hits = rng.binomial(n_sick, hits / n_sick, N_DRAWS)
    drawn_alarms = rng.binomial(n_normal, alarms / n_normal, N_DRAWS)
    variance = float((2 * drawn_hits / (drawn_hits + drawn_alarms + n_sick)).var())
    value = 2 * hits / (hits + alarms + n_sick)
    return Estimate(value, *wald_interval(value, variance, lowest=0.0))
