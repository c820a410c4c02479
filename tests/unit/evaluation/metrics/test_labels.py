"""F1 and accuracy at a threshold from validation, against scikit-learn, torchmetrics and anomalib's own threshold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import F1AdaptiveThreshold
from sklearn.metrics import accuracy_score, f1_score
from torchmetrics.functional.classification import binary_accuracy, binary_f1_score

from anomalib_cxr.evaluation.metrics.labels import ACCURACY, F1, evaluate_labels, f1_threshold


def drawn(seed, n_normal, n_sick, source="clinic", digits=6):
    rng = np.random.default_rng(seed)
    scores = np.r_[rng.normal(0, 1, n_normal), rng.normal(1.5, 1, n_sick)].round(digits)
    return pd.DataFrame({"source": source, "label": ["normal"] * n_normal + ["sick"] * n_sick, "score": scores})


@pytest.mark.parametrize("digits", [6, 0], ids=["distinct", "ties"])
def test_threshold_is_anomalibs(digits):
    validated = drawn(0, 40, 30, digits=digits)
    metric = F1AdaptiveThreshold(fields=["pred_score", "gt_label"])
    scores, labels = torch.tensor(validated.score.to_numpy()), torch.tensor((validated.label == "sick").to_numpy())
    metric.update(ImageBatch(image=torch.zeros(70, 3, 1, 1), pred_score=scores, gt_label=labels))
    found = f1_threshold((validated.label == "sick").to_numpy(), validated.score.to_numpy())
    assert found == pytest.approx(metric.compute().item())


def test_threshold_has_the_highest_f1_of_all():
    validated = drawn(3, 50, 20)
    is_sick = (validated.label == "sick").to_numpy()
    highest = max(f1_score(is_sick, validated.score >= threshold) for threshold in validated.score)
    found = f1_threshold(is_sick, validated.score.to_numpy())
    assert f1_score(is_sick, validated.score >= found) == pytest.approx(highest)


def test_figures_are_scikit_learns_and_torchmetrics():
    validated, tested = drawn(0, 40, 30), pd.concat([drawn(1, 60, 30, "a"), drawn(2, 30, 90, "b")])
    found = evaluate_labels(validated, tested).set_index(["group", "metric"])
    threshold = f1_threshold((validated.label == "sick").to_numpy(), validated.score.to_numpy())
    for group, part in [("pooled", tested), *tested.groupby("source")]:
        is_sick, called = (part.label == "sick").to_numpy(), (part.score >= threshold).to_numpy()
        tensors = torch.tensor(called).int(), torch.tensor(is_sick).int()
        for metric, ours, theirs in (
            (F1, f1_score, binary_f1_score),
            (ACCURACY, accuracy_score, binary_accuracy),
        ):
            row = found.loc[(group, metric)]
            assert row.value == pytest.approx(ours(is_sick, called))
            assert row.value == pytest.approx(theirs(*tensors).item())
            assert 0 <= row.low < row.value < row.high <= 1
            assert (row.n_normal, row.n_sick) == ((~is_sick).sum(), is_sick.sum())


def test_interval_of_f1_covers_as_often_as_it_says():
    """The oracle: F1 of a thousand other test sets, at the same threshold."""
    validated, tested = drawn(0, 40, 30), drawn(1, 100, 100)
    row = evaluate_labels(validated, tested).set_index("metric").loc[F1]
    threshold = f1_threshold((validated.label == "sick").to_numpy(), validated.score.to_numpy())
    others = [drawn(seed, 100, 100) for seed in range(2, 202)]
    spread = np.std([f1_score(table.label == "sick", table.score >= threshold) for table in others])
    assert row.variance**0.5 == pytest.approx(spread, rel=0.2)


def test_without_a_class_there_is_a_reason_and_no_figure():
    found = evaluate_labels(drawn(0, 5, 0), drawn(1, 5, 5))
    assert list(found.metric) == [F1, ACCURACY]
    assert found.value.isna().all()
    assert found.note.str.contains("0 sick").all()
