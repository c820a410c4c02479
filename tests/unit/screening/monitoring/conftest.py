"""The simulated hospital of the benchmark, and worklists in which its X-rays are rows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.worklist.store import Worklist

BENCHMARKS = Path(__file__).resolve().parents[4] / "benchmarks"


@pytest.fixture(scope="session")
def hospital():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import monitor_alarms  # noqa: PLC0415  # a script

        yield monitor_alarms
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def fill(tmp_path, hospital):
    """Make a worklist of X-rays that a change of the hospital has befallen."""

    def fill(n=300, seed=1, folder="out", **change):
        rng = np.random.default_rng(seed)
        reference, rows = hospital.draw_reference(rng), hospital.draw_rows(rng, n, change)
        worklist = Worklist(tmp_path / folder, create=True)
        worklist.add([_case(rows, place) for place in range(n)])
        worklist.keep_reference("c" * 64, reference)
        return worklist

    return fill


def _case(rows, place):
    decision = Decision(rows.decision[place])
    figures = {name: getattr(rows, name)[place] for name in ("score", "lung_gray", "tissue_contrast")}
    known = {} if decision is Decision.REFUSED else {name: float(value) for name, value in figures.items()}
    return Case(
        f"/xrays/{place}.dcm",
        1,
        1,
        decision,
        why=rows.why[place],
        source=rows.machine[place],
        view=rows.view[place],
        screened=f"{rows.week[place]}T10:00:00+00:00",
        content=f"{place:064x}",
        calibration="c" * 64,
        **known,
    )
