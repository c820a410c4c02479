"""Curves of several runs: alignment by epoch, and ROC curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import auc, roc_auc_score

from anomalib_cxr.benchmark.report.curves import align_epochs, roc_curves

from ..folders import score_rows

LABELS = ["normal"] * 4 + ["sick"] * 4


class TestMeanRoc:
    def test_area_of_one_run_is_its_auroc(self):
        rng = np.random.default_rng(0)
        table = score_rows(["normal"] * 100 + ["sick"] * 80, np.r_[rng.normal(0, 1, 100), rng.normal(1, 1, 80)])
        curves = roc_curves([table])
        assert auc(curves.grid, curves.mean) == pytest.approx(
            roc_auc_score(table.label == "sick", table.score), abs=0.001
        )

    def test_is_the_mean_of_the_sensitivities_at_each_fall_out(self):
        perfect = score_rows(LABELS, np.arange(8.0))
        useless = score_rows(LABELS, np.ones(8))
        curves = roc_curves([perfect, useless])
        assert curves.mean[1:] == pytest.approx((1 + curves.grid[1:]) / 2)
        low, high = curves.range
        assert low[1:] == pytest.approx(curves.grid[1:])
        assert high[1:] == pytest.approx(np.ones(101))

    def test_runs_without_both_classes_are_left_out(self):
        assert roc_curves([score_rows(["sick"] * 3, [1.0, 2.0, 3.0])]) is None


class TestCurvesOf:
    def test_runs_of_different_length(self):
        tables = [
            pd.DataFrame({"epoch": [0, 1, 2], "l": [3.0, 2.0, np.inf]}),
            pd.DataFrame({"epoch": [0, 2], "l": [1.0, 5.0]}),
            pd.DataFrame({"epoch": [0], "other": [1.0]}),
        ]
        curves = align_epochs(tables, "l")
        assert curves.grid.tolist() == [0, 1, 2]
        assert curves.mean.tolist() == [2.0, 2.0, 5.0]
        assert [edge.tolist() for edge in curves.range] == [[1.0, 2.0, 5.0], [3.0, 2.0, 5.0]]
