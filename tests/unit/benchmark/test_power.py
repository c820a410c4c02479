"""`benchmarks/power.py`: the power of paired tests, corrected as the table's p values are."""

from __future__ import annotations

import sys
from pathlib import Path
from runpy import run_path

import pandas as pd
import pytest
from scipy.stats import t

SCRIPT = run_path(str(Path(__file__).resolve().parents[3] / "benchmarks" / "power.py"))
WIDTH, FREEDOM = 0.08, 12.0


@pytest.fixture
def table(tmp_path):
    """Return the file of a table of two data sets with three pairs each, and one pair at a shift."""
    error = WIDTH / t.ppf(0.975, FREEDOM)
    row = {"weights": "best", "difference": 0.05, "low": 0.05 - WIDTH, "high": 0.05 + WIDTH}
    rows = [{"data": data, "shift": None, **row} for data in ("a", "a", "a", "b", "b", "b")]
    rows.append({"data": "a", "shift": "noise", **row})
    frame = pd.DataFrame(rows).assign(p=2 * t.sf(0.05 / error, FREEDOM))
    frame.to_csv(tmp_path / "comparisons.csv", index=False)
    return tmp_path / "comparisons.csv"


def test_corrects_for_the_pairs_of_each_data_set(table, monkeypatch, capsys):
    """Six pairs of two data sets are corrected as three, since the report corrects each data set by itself."""
    monkeypatch.setattr(sys, "argv", ["power.py", str(table), "--difference", "0.1"])
    SCRIPT["main"]()
    uncorrected, corrected = (SCRIPT["power"](0.1, WIDTH, FREEDOM, level) for level in (0.05, 0.05 / 3))
    assert corrected < uncorrected < 1
    assert capsys.readouterr().out.splitlines() == [
        f"uncorrected: mean {uncorrected:.3f}, median {uncorrected:.3f} of 6 pairs",
        f"corrected for 3 pairs: mean {corrected:.3f}, median {corrected:.3f} of 6 pairs",
    ]
