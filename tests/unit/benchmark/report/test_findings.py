"""What the report says in short."""

from __future__ import annotations

import numpy as np
import pytest

from anomalib_cxr.benchmark.report.comparisons import compare_systems
from anomalib_cxr.benchmark.report.findings import facts, findings, how_to_read
from anomalib_cxr.benchmark.report.measures import measure_runs
from anomalib_cxr.benchmark.report.results import read_results

from ..folders import score_rows

LABELS = ["normal"] * 40 + ["sick"] * 40
RISING = np.arange(80.0)
MIXED = np.arange(80) * 37 % 80.0
SOURCES = (["east"] * 20 + ["west"] * 20) * 2


@pytest.fixture
def words(benchmark_folder):
    """A system that knows everything, and one that knows nothing."""
    written = benchmark_folder({"perfect": 0.97, "guess": 0.9})
    written.done("perfect", score_rows(LABELS, RISING, SOURCES))
    written.done("guess", score_rows(LABELS, MIXED, SOURCES))
    results = read_results(written.folder)
    return findings(results, measure_runs(results), compare_systems(results))


def test_names_the_best_system(words):
    assert words[0].startswith("On xrays, by protocol (b), perfect has the highest AUROC: 1.000 [")


def test_counts_those_that_are_better_than_a_guess(words):
    assert "1 of 2 systems are above 0.5 with their whole interval: perfect." in words


def test_tells_which_reported_figures_are_borne_out(words):
    found = next(each for each in words if each.startswith("The reported figures"))
    assert "by -0.030 to +0." in found
    assert found.endswith("1 of 2 lie within its interval: perfect.")


def test_counts_the_pairs_that_differ(words):
    assert "1 of 1 pairs of systems differ, corrected for their number (p < 0.05)." in words


def test_tells_who_knows_the_hospital(words):
    start = "Most apart are the hospitals in the scores of perfect (west over east, either way): 1.000 ["
    assert words[-1].startswith(start)


def test_facts_join_what_the_runs_say(benchmark_folder):
    written = benchmark_folder(["a"], data={"x": {"note": "clean"}}, seeds=(0, 1))
    for seed, device in ((0, "cpu"), (1, "A GPU")):
        git = {"revision": "abc", "dirty": bool(seed)}
        record = {"device": device, "git": git, "date": f"2026-01-0{seed + 1}"}
        written.done("a", score_rows(LABELS, RISING), data="x", seed=seed, record=record)
    found = dict(facts(read_results(written.folder)))
    assert found["device"] == "cpu, A GPU"
    assert found["date"] == "2026-01-01 to 2026-01-02"
    assert found["revision"] == "abc, abc with changes that are not committed"
    assert found["data"] == "x (clean)"


def test_how_to_read_explains_both_protocols():
    assert {"Protocol (a), the dissertation's", "Protocol (b), honest"} <= {name for name, _ in how_to_read()}
