"""Decisions on spoilt phantoms by the script of the benchmark, a few of each kind."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import pandas as pd
import pytest

pytestmark = pytest.mark.slow

SCRIPT = run_path(str(Path(__file__).resolve().parents[4] / "benchmarks" / "spoilt_images.py"))
AS_IT_IS = "as it is"


@pytest.fixture(scope="module")
def decided(calibrated, tmp_path_factory):
    """Two healthy phantoms and two sick ones, as they are and spoilt in each way."""
    files, output = (tmp_path_factory.mktemp(name) for name in ("spoilt", "list"))
    return SCRIPT["decide"](calibrated, SCRIPT["write_spoilt"](files, count=2, size=256, seed=77), output)


def test_all_files_are_decided_on(decided):
    assert len(decided) == 2 * 2 * (1 + len(SCRIPT["SPOILINGS"]))
    assert decided.decision.isin(["refused", "to be read", "below the calibrated threshold"]).all()


def test_good_ones_are_scored(decided):
    as_they_are = decided[decided.spoilt == AS_IT_IS]
    assert as_they_are.why.tolist() == [""] * 4


def test_spoilt_ones_are_refused(decided):
    passed = decided[(decided.spoilt != AS_IT_IS) & (decided.decision != "refused")]
    assert passed[["spoilt", "sick"]].to_numpy().tolist() == []


def test_summary():
    words = ["refused", "below the calibrated threshold", "refused", "to be read"]
    facts = {"path": list("abcd"), "spoilt": ["x", "x", "x", "y"], "sick": [False, False, False, True]}
    found = SCRIPT["summarize"](pd.DataFrame({**facts, "decision": words}))
    assert found.to_numpy().tolist() == [["x", False, 3, 2, 1], ["y", True, 1, 0, 0]]
