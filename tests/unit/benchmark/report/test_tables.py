"""Facts of a report; its tables are tested in the whole report."""

from __future__ import annotations

import numpy as np

from anomalib_cxr.benchmark.report.results import read_results
from anomalib_cxr.benchmark.report.tables import run_facts

from ..folders import score_rows


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
