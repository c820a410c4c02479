"""Alarms of `anomalib-cxr monitor` on simulated worklists: how many are false, and which changes are noticed.

Usage: python benchmarks/monitor_alarms.py OUTPUT.csv [RUNS]

A simulated hospital has two machines of different exposure and two views. Scores of sick people are higher, and those
of one machine. A calibration has 300 healthy and 100 sick images, and a prevalence of 5 %. Each run draws a calibration
and a worklist of four weeks.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anomalib_cxr.screening.calibration.reference import Reference
from anomalib_cxr.screening.case import Decision
from anomalib_cxr.screening.monitoring.monitor import MonitorSettings, monitor_rows
from anomalib_cxr.screening.monitoring.rows import MonitoredRows

PREVALENCE = 0.05
THRESHOLD = 0.35
SECOND, AP = 0.3, 0.4
"""Share of X-rays of the second machine, and of view AP."""
CHANGES: Mapping[str, Mapping[str, float]] = {
    "none": {},
    "lungs darker by 0.02, a third of their spread": {"gray": -0.02},
    "lungs darker by 0.05": {"gray": -0.05},
    "contrast lower by a tenth": {"contrast": -0.04},
    "10 % sick people": {"prevalence": 0.1},
    "20 % sick people": {"prevalence": 0.2},
    "30 % sick people": {"prevalence": 0.3},
    "scores higher by half a spread": {"score": 0.05},
    "10 % refused as blurred": {"blurred": 0.1},
}


def draw(rng: np.random.Generator, is_sick: np.ndarray, change: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Draw machine, view, exposure and score of people."""
    n = len(is_sick)
    second = rng.random(n) < SECOND
    return {
        "machine": np.where(second, "DICOM DX, ACME X-100", "DICOM CR, ACME C-7").astype(object),
        "view": np.where(rng.random(n) < AP, "AP", "PA").astype(object),
        "score": np.clip(rng.normal(0.3, 0.1, n) + 0.25 * is_sick + 0.03 * second + change.get("score", 0), 0, 1),
        "lung_gray": np.clip(rng.normal(0.3, 0.06, n) + 0.08 * second + change.get("gray", 0), 0, 1),
        "tissue_contrast": np.clip(rng.normal(0.4, 0.06, n) - 0.03 * second + change.get("contrast", 0), -1, 1),
    }


def draw_reference(rng: np.random.Generator, n_normal: int = 300, n_sick: int = 100) -> Reference:
    """Draw the reference of a calibration."""
    is_sick = np.arange(n_normal + n_sick) >= n_normal
    columns = {name: tuple(column.tolist()) for name, column in draw(rng, is_sick, {}).items()}
    return Reference(
        **columns,
        is_sick=tuple(is_sick.tolist()),
        is_below=tuple(score < THRESHOLD for score in columns["score"]),
        refused_normal=int(rng.binomial(n_normal, 0.02)),
        refused_sick=int(rng.binomial(n_sick, 0.02)),
        prevalence=PREVALENCE,
        sensitivity=0.95,
    )


def draw_rows(rng: np.random.Generator, n: int, change: Mapping[str, float]) -> MonitoredRows:
    """Draw the rows of a worklist of four weeks."""
    columns: dict[str, Any] = draw(rng, rng.random(n) < change.get("prevalence", PREVALENCE), change)
    refused = rng.random(n) < change.get("blurred", 0.02)
    decision = np.where(columns["score"] < THRESHOLD, Decision.BELOW_THRESHOLD.value, Decision.TO_READ.value)
    for name in ("score", "lung_gray", "tissue_contrast"):
        columns[name] = np.where(refused, np.nan, columns[name])
    return MonitoredRows(
        **columns,
        week=np.datetime64("2026-01-05") + 7 * rng.integers(0, 4, n).astype("timedelta64[D]"),
        decision=np.where(refused, Decision.REFUSED.value, decision).astype(object),
        why=np.where(refused, "blurred: the lungs lack fine detail", "").astype(object),
        verdict=np.full(n, "", object),
    )


def measure(change: Mapping[str, float], n: int, runs: int, false_alarms: float) -> tuple[float, float]:
    """Return the share of runs with an alarm, and with a significant test, however small the difference."""
    alarms = significant = 0
    settings = MonitorSettings(false_alarms=false_alarms)
    for seed in range(runs):
        rng = np.random.default_rng((seed, n))
        result = monitor_rows(draw_rows(rng, n, change), draw_reference(rng), settings)
        alarms += bool(result.drifts)
        significant += any(each.p_holm < false_alarms for each in result.comparisons)
    return alarms / runs, significant / runs


def main(output: Path, runs: int = 300) -> None:
    """Measure all changes at several sizes, and write a table; a third of the runs where something changes."""
    with output.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["change", "xrays", "stated_rate", "runs", "alarms", "significant"])
        for name, change in CHANGES.items():
            for n in (200, 1000):
                for rate in (0.01, 0.05) if name == "none" else (0.01,):
                    count = runs if name == "none" else runs // 3
                    row = [name, n, rate, count, *measure(change, n, count, rate)]
                    print(*row, flush=True)  # noqa: T201
                    table.writerow(row)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
