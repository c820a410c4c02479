"""Thresholds from validation on test images, against scikit-learn's ROC curve and confusion matrix."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from anomalib_cxr.evaluation.metrics.transferred import DRIFT, TRANSFERRED, evaluate_transferred


def drawn(seed, n_normal, n_sick, source="clinic", drift=0.0):
    rng = np.random.default_rng(seed)
    scores = np.r_[rng.normal(0, 1, n_normal), rng.normal(1.5, 1, n_sick)] + drift
    return pd.DataFrame({"source": source, "label": ["normal"] * n_normal + ["sick"] * n_sick, "score": scores})


@pytest.mark.parametrize("drift", [0.0, 1.0])
def test_rates_are_scikit_learns_at_the_threshold_of_its_roc_curve(drift):
    validated, tested = drawn(0, 40, 200), drawn(1, 300, 100, drift=drift)
    found = evaluate_transferred(validated, tested).set_index("metric")
    curve = roc_curve(validated.label == "sick", validated.score, drop_intermediate=False)
    for name, (rate, target) in TRANSFERRED.items():
        threshold = curve[2][curve[1] >= target - 1e-9].max()
        (tn, fp), (fn, tp) = confusion_matrix(tested.label == "sick", tested.score >= threshold)
        expected = {"sensitivity": tp / (tp + fn), "specificity": tn / (tn + fp)}[rate]
        assert found.value[name] == pytest.approx(expected)
        assert found.low[name] <= expected <= found.high[name]
    normal = [table.score[table.label == "normal"] for table in (validated, tested)]
    expected = roc_auc_score(np.arange(340) >= 40, pd.concat(normal))
    assert found.value[DRIFT] == pytest.approx(expected)
    assert (found.value[DRIFT] > 0.7) == (drift > 0)


def test_each_hospital_by_the_same_threshold():
    tested = pd.concat([drawn(1, 30, 20, "a"), drawn(2, 50, 40, "b", drift=3.0)])
    found = evaluate_transferred(drawn(0, 40, 200, "c"), tested)
    name = "transferred_specificity_98"
    by_group = found[found.metric == name].set_index("group").value
    assert set(by_group.index) == {"pooled", "a", "b"}
    assert by_group["b"] < by_group["a"]
    assert by_group["pooled"] == pytest.approx((30 * by_group["a"] + 50 * by_group["b"]) / 80)


def test_too_few_sick_images_are_told():
    found = evaluate_transferred(drawn(0, 5, 30), drawn(1, 5, 5)).set_index("metric")
    assert found.note["transferred_specificity_98"] == "no sick image of validation may be missed"
    assert not found.note["transferred_specificity_90"]


def test_a_class_that_is_missing_is_told():
    found = evaluate_transferred(drawn(0, 5, 0), drawn(1, 5, 5)).set_index("metric")
    rates = found.loc[list(TRANSFERRED)]
    assert rates.value.isna().all()
    assert set(rates.note) == {"5 normal and 0 sick images: a ROC curve needs both"}
    assert 0 <= found.value[DRIFT] <= 1
