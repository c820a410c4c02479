"""Cells that a spreadsheet would compute."""

from __future__ import annotations

import pytest

from anomalib_cxr.screening.worklist.tables import escape_csv_formula


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_formulas_become_text(start):
    assert escape_csv_formula(f"{start}1+1") == f"'{start}1+1"


@pytest.mark.parametrize("cell", ["", "a=1", " =1", "1-2", -0.5, 3, None])
def test_all_else_stays(cell):
    assert escape_csv_formula(cell) == cell
