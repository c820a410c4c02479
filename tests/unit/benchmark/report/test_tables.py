"""Facts of a report, and tables that other libraries can check; the others are tested in the whole report."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from anomalib_cxr.benchmark.report.measures import compare_systems, measure_runs
from anomalib_cxr.benchmark.report.results import read_results
from anomalib_cxr.benchmark.report.tables import report_tables, run_facts

from ..folders import drawn_scores, score_rows


@pytest.fixture
def tables(benchmark_folder):
    """Tables of a system with maps and shares of its loss, and of one without either."""
    written = benchmark_folder(["ours", "theirs"], seeds=(0, 1, 2))
    for seed in (0, 1, 2):
        scores = drawn_scores(np.random.default_rng(seed), sickness=1.0)
        shares = pd.DataFrame({"epoch": [0, 1], "val_auroc": [0.5, 0.6], "share_adv": [0.1, 0.2 + 0.1 * seed]})
        written.done("ours", scores, shares, seed=seed)
        rows = [(weights, 1, "pixel_aupro", value + seed / 10) for weights, value in (("best", 0.5), ("last", 0.0))]
        maps = pd.DataFrame(rows, columns=["weights", "epoch", "metric", "value"])
        maps.to_csv(written.place("ours", seed=seed) / "maps.csv", index=False)
        written.done("theirs", scores, seed=seed)
    results = read_results(written.folder)
    return report_tables(results, measure_runs(results), compare_systems(results))


def test_metrics_of_papers_have_mean_and_standard_deviation(tables):
    (table,) = tables["literature"]
    ours, theirs = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    drawn = [drawn_scores(np.random.default_rng(seed), sickness=1.0) for seed in (0, 1, 2)]
    tested = [scores[(scores.subset == "test") & (scores.weights == "best")] for scores in drawn]
    values = [roc_auc_score(scores.label == "sick", scores.score) for scores in tested]
    assert ours["AUROC"] == f"{np.mean(values):.3f} \N{PLUS-MINUS SIGN} {np.std(values, ddof=1):.3f}"
    assert ours["AUPRO"] == "0.600 \N{PLUS-MINUS SIGN} 0.100"
    assert theirs["AUPRO"] == "-"
    assert {"F1", "accuracy", "average precision"} <= set(table.columns)
    assert "pixel Dice" not in table.columns
    assert "an F1 of 0.67 and an accuracy of 0.50" in table.caption


def test_shares_of_the_loss_are_those_of_the_last_epoch(tables):
    (table,) = tables["shares"]
    assert table.columns == ["system", "features", "codes", "reconstruction"]
    assert table.rows == [["ours", "30 %", "-", "-"]]


def test_facts_join_what_the_runs_say(benchmark_folder):
    written = benchmark_folder(["a"], data={"x": {"note": "clean"}}, seeds=(0, 1))
    for seed, device in ((0, "cpu"), (1, "A GPU")):
        git = {"revision": "abc", "dirty": bool(seed)}
        record = {"device": device, "git": git, "date": f"2026-01-0{seed + 1}"}
        written.done("a", score_rows(["normal", "sick"], np.arange(2.0)), data="x", seed=seed, record=record)
    found = dict(run_facts(read_results(written.folder)))
    assert found["device"] == "cpu, A GPU"
    assert found["date"] == "2026-01-01 to 2026-01-02"
    assert found["revision"] == "abc, abc with uncommitted changes"
    assert found["data"] == "x (clean)"
