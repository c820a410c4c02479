"""The table of figures, against scikit-learn and the functions that each figure comes from."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_cxr.errors import ScoreError
from anomalib_cxr.evaluation.metrics.operating_points import operating_point
from anomalib_cxr.evaluation.metrics.screening_metrics import COLUMNS, METRICS, evaluate_scores

COUNTS = {
    ("montgomery", "normal"): 16,
    ("montgomery", "sick"): 50,
    ("shenzhen", "normal"): 54,
    ("shenzhen", "sick"): 245,
}


def make_table(counts, seed=0):
    rng = np.random.default_rng(seed)
    rows = [(source, label) for (source, label), count in counts.items() for _ in range(count)]
    table = pd.DataFrame(rows, columns=["source", "label"]).sample(frac=1, random_state=seed)
    table["score"] = rng.standard_normal(len(table)) + (table.label == "sick") + 0.5 * (table.source == "shenzhen")
    table["image"] = [f"{number}.png" for number in range(len(table))]
    return table


@pytest.fixture
def table():
    return make_table(COUNTS)


def row_of(found, group, metric):
    (row,) = found[(found.group == group) & (found.metric == metric)].itertuples()
    return row


def test_a_row_for_each_group_and_metric(table):
    found = evaluate_scores(table)
    assert list(found.columns) == COLUMNS
    places = {(group, metric) for group in ("pooled", "montgomery", "shenzhen") for metric in METRICS[:-1]}
    assert set(zip(found.group, found.metric, strict=True)) == places | {
        ("shenzhen over montgomery", "auroc_of_hospital")
    }
    assert ((found.low <= found.value) & (found.value <= found.high) & (found.variance > 0)).all()


@pytest.mark.parametrize("group", ["pooled", "montgomery", "shenzhen"])
def test_figures_are_those_of_the_group(table, group):
    found = evaluate_scores(table)
    part = table if group == "pooled" else table[table.source == group]
    is_sick = (part.label == "sick").to_numpy()
    assert row_of(found, group, "auroc").value == pytest.approx(roc_auc_score(is_sick, part.score))
    precision = row_of(found, group, "average_precision")
    assert precision.value == pytest.approx(average_precision_score(is_sick, part.score))
    assert (precision.n_normal, precision.n_sick) == ((~is_sick).sum(), is_sick.sum())
    expected = operating_point(is_sick, part.score.to_numpy(), 0.98).specificity
    specificity = row_of(found, group, "specificity_at_98")
    assert (specificity.value, specificity.low, specificity.high) == expected


def test_hospital_is_told_on_normal_images_alone(table):
    normal = table[table.label == "normal"]
    row = row_of(evaluate_scores(table), "shenzhen over montgomery", "auroc_of_hospital")
    assert row.value == pytest.approx(roc_auc_score(normal.source == "shenzhen", normal.score))
    assert (row.n_normal, row.n_sick) == (70, 0)


def test_more_hospitals_are_told_apart_in_pairs(table):
    counts = {(source, label): 9 for source in "cab" for label in ("normal", "sick")}
    found = evaluate_scores(make_table(counts), ["auroc_of_hospital"])
    assert found.group.tolist() == ["b over a", "c over a", "c over b"]


def test_one_hospital_is_not_repeated(table):
    found = evaluate_scores(table[table.source == "shenzhen"])
    assert set(found.group) == {"pooled"}


def test_unknown_hospitals_and_labels(table):
    table.loc[table.index[:5], "source"] = None
    table.loc[table.index[5:9], "label"] = None
    row = row_of(evaluate_scores(table), "pooled", "auroc")
    assert row.n_normal + row.n_sick == len(table) - 4


def test_a_group_of_one_class_says_so_and_invents_nothing(table):
    found = evaluate_scores(table[(table.source == "shenzhen") | (table.label == "normal")])
    rows = found[found.group == "montgomery"]
    assert len(rows) == len(METRICS) - 1
    assert rows[["value", "low", "high", "variance"]].isna().all(axis=None)
    assert set(rows.note) == {"16 normal and 0 sick images: a ROC curve needs both"}
    assert row_of(found, "pooled", "auroc").note == ""


def test_says_where_no_sick_image_may_be_missed(table):
    found = evaluate_scores(table)
    assert row_of(found, "montgomery", "specificity_at_99").note == "no sick image may be missed"
    assert row_of(found, "pooled", "specificity_at_99").note == ""


def test_says_where_there_is_no_interval():
    table = pd.DataFrame({"source": None, "label": ["normal", "normal", "sick"], "score": [1.0, 2.0, 3.0]})
    row = row_of(evaluate_scores(table), "pooled", "average_precision")
    assert (row.value, row.note) == (1, "no interval: perfect separation, or one image of a class")


def test_hundreds_of_tables_take_minutes(table):
    start = time.process_time()
    evaluate_scores(table)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        ("score", np.nan, r"scores that are not finite, 2 of 365: 7\.png, 9\.png"),
        ("label", "tuberculosis", r"unknown labels, 2 of 365: 7\.png, 9\.png"),
    ],
)
def test_refuses_and_names_the_images(table, column, value, found):
    table.loc[table.index[[7, 9]], column] = value
    with pytest.raises(ScoreError, match=found):
        evaluate_scores(table)
