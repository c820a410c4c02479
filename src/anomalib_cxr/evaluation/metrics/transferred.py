"""Thresholds chosen on validation images, applied to test images: sensitivity, specificity, and drift of the scores.

The specificity at a sensitivity is too high if the threshold was chosen on the test images themselves. Here it is
chosen as in use, on other images, which may be of another hospital.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from anomalib_cxr.evaluation.scores import NORMAL, SICK, count_labels, no_roc_reason

from .delong import estimate_auroc
from .intervals import QUANTILE
from .operating_points import rates_at, threshold_at
from .screening_metrics import COLUMNS, NOTHING, POOLED, Row, groups_of

TARGETS = (0.90, 0.98)
"""Sensitivities on validation that thresholds are chosen for."""
DRIFT = "auroc_of_validation"
TRANSFERRED = {
    f"transferred_{rate}_{100 * target:.0f}": (rate, target)
    for target in TARGETS
    for rate in ("sensitivity", "specificity")
}
"""Rate and target of each metric, by its name."""


def evaluate_transferred(validated: pd.DataFrame, tested: pd.DataFrame) -> pd.DataFrame:
    """Compute the rates on test images of thresholds chosen on validation images.

    Args:
        validated: One row per validation image, with the columns of `tested`; other images than those.
        tested: One row per test image, with the columns `source`, `label` and finite `score`, as for
            :func:`anomalib_cxr.evaluation.metrics.screening_metrics.evaluate_scores`.

    Returns:
        One row per group and metric, with the columns of that function. Metrics:

        - `transferred_sensitivity_90`, `transferred_specificity_90`, and the same for 98: rates on test at the highest
          threshold that reaches 90 or 98 % sensitivity on validation. The Wilson interval is that of the test images
          and leaves out the choice of the threshold.
        - `auroc_of_validation`, pooled only: the probability that a normal test image scores above a normal validation
          image. Scores that do not drift from one set to the other have 0.5.

    Example:
        >>> validated = pd.DataFrame({"source": "a", "label": ["normal", "sick", "sick"], "score": [1.0, 2.0, 3.0]})
        >>> tested = pd.DataFrame({"source": "b", "label": ["normal", "normal", "sick"], "score": [1.5, 2.5, 2.2]})
        >>> evaluate_transferred(validated, tested).set_index("metric").value.to_dict()
        {'transferred_sensitivity_90': 1.0, 'transferred_specificity_90': 0.5, 'transferred_sensitivity_98': 1.0,
         'transferred_specificity_98': 0.5, 'auroc_of_validation': 1.0}
    """
    validated, tested = (table[table.label.notna()] for table in (validated, tested))
    rows = [row for group, part in groups_of(tested) for row in _rates(group, validated, part)]
    measured: pd.DataFrame = pd.DataFrame([*rows, _drift(validated, tested)], columns=COLUMNS)
    return measured


def _rates(group: str, validated: pd.DataFrame, tested: pd.DataFrame) -> Iterator[Row]:
    n_normal, n_sick = count_labels(tested)
    reason = next(filter(None, map(no_roc_reason, (validated, tested))), None)
    for name, (rate, target) in TRANSFERRED.items():
        row = {"group": group, "metric": name, "n_normal": n_normal, "n_sick": n_sick}
        if reason is not None:
            yield NOTHING | row | {"note": reason}
            continue
        chosen = threshold_at(_scores(validated, SICK), target)
        rates = rates_at((tested.label == SICK).to_numpy(), tested.score.to_numpy(dtype=float), chosen.threshold)
        estimate = rates.sensitivity if rate == "sensitivity" else rates.specificity
        variance = ((estimate.high - estimate.low) / (2 * QUANTILE)) ** 2
        note = "no sick image of validation may be missed" if chosen.catches_all else ""
        yield row | estimate._asdict() | {"variance": variance, "note": note}


def _drift(validated: pd.DataFrame, tested: pd.DataFrame) -> Row:
    before, after = _scores(validated, NORMAL), _scores(tested, NORMAL)
    row = {"group": POOLED, "metric": DRIFT, "n_normal": len(before) + len(after), "n_sick": 0}
    scores = np.r_[before, after]
    if not len(before) or not len(after) or not all(map(math.isfinite, scores)):
        return NOTHING | row | {"note": "normal images of both sets with finite scores are needed"}
    return row | estimate_auroc(np.arange(len(scores)) >= len(before), scores)._asdict() | {"note": ""}


def _scores(table: pd.DataFrame, label: str) -> np.ndarray:
    return table.score[table.label == label].to_numpy(dtype=float)
