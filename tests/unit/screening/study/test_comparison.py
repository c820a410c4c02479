"""Comparison of two models against permutations, bootstrap and counts by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.study.comparison import compare_models

N = 160
IS_SICK = np.arange(N) >= 100


def images_of(raw_scores, is_sick, threshold, **others):
    """Return scored images; the score itself is only for the decision, and ties."""
    score = np.clip(raw_scores, threshold - 0.1, threshold + 0.1)
    return pd.DataFrame({"is_sick": is_sick, "raw_score": raw_scores, "score": score, "threshold": threshold, **others})


@pytest.fixture
def models():
    """Two models that share most of their noise; the second one is better."""
    rng = np.random.default_rng(1)
    shared = rng.normal(size=N)
    scores = [gap * IS_SICK + shared + rng.normal(0, 0.7, N) for gap in (1.0, 1.5)]
    return [images_of(own, IS_SICK, np.sort(own[IS_SICK])[3]) for own in scores]


def row_of(table, figure):
    return table.set_index("figure").loc[figure]


def test_auroc_against_permutations(models):
    """Under the hypothesis of no difference the models may be exchanged image by image, after ranking [Venkatraman]."""
    found = row_of(compare_models(*models), "AUROC")
    aurocs = [roc_auc_score(IS_SICK, model.raw_score) for model in models]
    assert [found["first"], found["second"]] == pytest.approx(aurocs)
    assert found.difference == pytest.approx(aurocs[1] - aurocs[0])
    ranks = np.stack([model.raw_score.rank() for model in models])
    rng, differences = np.random.default_rng(0), []
    for _ in range(2000):
        swapped = np.where(rng.random(N) < 0.5, ranks, ranks[::-1])
        differences.append(np.diff([roc_auc_score(IS_SICK, own) for own in swapped]).item())
    assert found.p == pytest.approx(np.mean(np.abs(differences) >= abs(found.difference)), abs=0.02)


def test_interval_against_bootstrap(models):
    found = row_of(compare_models(*models), "AUROC")
    rng, drawn = np.random.default_rng(0), []
    for _ in range(1000):
        chosen = np.r_[rng.choice(100, 100), 100 + rng.choice(60, 60)]
        drawn.append(np.diff([roc_auc_score(IS_SICK[chosen], model.raw_score[chosen]) for model in models]).item())
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.015)


def test_changed_decisions(models):
    table = compare_models(*models)
    read = [model.score >= model.threshold for model in models]
    for figure, rows, right in (
        ("sensitivity", IS_SICK, read),
        ("specificity", ~IS_SICK, [~own for own in read]),
    ):
        found = row_of(table, figure)
        first, second = (own[rows] for own in right)
        assert (found.n, found["first"], found["second"]) == (rows.sum(), first.mean(), second.mean())
        lost, won = (first & ~second).sum(), (second & ~first).sum()
        assert (found.only_first, found.only_second) == (lost, won)
        assert found.p == pytest.approx(min(1, 2 * binom.cdf(min(lost, won), lost + won, 0.5)))
    assert row_of(table, "specificity").only_second > 0


def test_a_model_against_itself(models):
    table = compare_models(models[0], models[0].copy())
    assert (table.p == 1).all()
    assert (table.difference == 0).all()
    assert table.only_first.sum() == table.only_second.sum() == 0


def test_patients_are_counted(models):
    """Each image twice, as two of one patient: the second copy must change nothing."""
    alone = compare_models(*models)
    twice = [
        pd.concat([model.assign(patient=np.arange(N)), model.assign(patient=np.arange(N))], ignore_index=True)
        for model in models
    ]
    pd.testing.assert_frame_equal(compare_models(*twice), alone)


def test_one_missed_image_is_a_missed_patient():
    facts = ([True, True, False], 0.5)
    table = compare_models(*(images_of(own, *facts, patient=list("aab")) for own in ([0.9, 0.4, 0.1], [0.6, 0.5, 0.1])))
    assert (row_of(table, "sensitivity")["first"], row_of(table, "sensitivity")["second"]) == (0, 1)


def test_images_of_both_only(models):
    table = compare_models(models[0].iloc[:150], models[1].iloc[10:])
    assert table.n.tolist() == [140, 50, 90]
    with pytest.raises(ScreeningError, match="100 normal and 0 sick ones that both models scored"):
        compare_models(models[0], models[1].iloc[:100])
