"""Result of monitoring as a text and as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE
from anomalib_cxr.screening.worklist.tables import escape_csv_formula
from anomalib_cxr.utils.files import atomic_path

from .comparison import BELOW, FIGURES, LEAST, MISSED, REFUSED, SPOILT, MonitoredFigure
from .monitor import MonitorResult, Status

CSV = "monitor.csv"
"""Name of the file in the folder of the worklist."""
NAMES = {
    "score": "anomaly score",
    "lung_gray": "gray value in the lungs",
    "tissue_contrast": "contrast of tissue and lungs",
    BELOW: "below the threshold",
    REFUSED: "refused",
    SPOILT: "refused for their quality",
    MISSED: "called abnormal by a reader, of those below the threshold that were read",
    "abnormal_of_those_to_be_read": "called abnormal by a reader, of those to be read that were read",
}
"""Names of the figures for people."""
_STEP = "is_large"  # a step to the decision, which the table has in `psi` and in the shares


def write_csv(result: MonitorResult, folder: Path) -> Path:
    """Write all comparisons into the folder of a worklist, for its owner only.

    Args:
        result: The result.
        folder: Folder of the worklist.

    Returns:
        The file.
    """
    with atomic_path(folder / CSV, private=True) as unfinished:
        unfinished.write_text(csv_text(result), encoding="utf-8", newline="")
    return folder / CSV


def csv_text(result: MonitorResult) -> str:
    """Return all comparisons as CSV.

    Args:
        result: The result.
    """
    names = [name for name in MonitoredFigure._fields if name != _STEP]
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(names)
    for each in result.comparisons:
        table.writerow([escape_csv_formula(_cell(getattr(each, name))) for name in names])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if isinstance(value, float) and isnan(value) else value


def group_text(comparison: MonitoredFigure) -> str:
    """Return the group of a comparison in words.

    Args:
        comparison: The comparison.

    Example:
        >>> group_text(MonitoredFigure("week", "2026-01-26", "score", 60, 0.4))
        'week of 2026-01-26'
    """
    if comparison.by == "all":
        return "all X-rays"
    return f"week of {comparison.group}" if comparison.by == "week" else f"{comparison.by} {comparison.group}"


def describe_drifts(drifts: Sequence[MonitoredFigure]) -> list[str]:
    """Describe comparisons that are drift: numbers of the first group of each figure, and names of the others.

    Args:
        drifts: The comparisons.

    Returns:
        A sentence or two for each figure.
    """
    by_figure: dict[str, list[MonitoredFigure]] = {}
    for each in drifts:
        by_figure.setdefault(each.figure, []).append(each)
    return [
        _drift(first) + (f" Also: {', '.join(map(group_text, others))}." if others else "")
        for first, *others in by_figure.values()
    ]


def _drift(comparison: MonitoredFigure) -> str:
    name, group = NAMES[comparison.figure], group_text(comparison)
    sentence = f"{name[0].upper()}{name[1:]}, {group} ({comparison.n}): "
    if comparison.figure in FIGURES:
        return (
            f"{sentence}median {comparison.value:.3f}, in the calibration {comparison.expected:.3f}; distance "
            f"{comparison.distance:.2f}, PSI {comparison.psi:.2f}, corrected p {comparison.p_holm:.1g}."
        )
    return (
        f"{sentence}{100 * comparison.value:.1f} % (95 % interval {100 * comparison.low:.1f} to "
        f"{100 * comparison.high:.1f} %), expected {100 * comparison.expected:.1f} %; corrected p "
        f"{comparison.p_holm:.1g}."
    )


def describe_result(result: MonitorResult) -> list[str]:
    """Describe the result in sentences, the most important one first.

    Args:
        result: The result.

    Returns:
        The sentences.
    """
    return [*_summary(result), *describe_drifts(result.drifts), *_hints(result), BELOW_THRESHOLD_NOTICE]


def _summary(result: MonitorResult) -> list[str]:
    if not result.n:
        return ["No X-ray in the worklist."]
    summary = {
        Status.FINE: "No drift: the X-rays that came in are like those of the calibration.",
        Status.DRIFT: "Drift: the calibration no longer describes the X-rays that come in.",
        Status.TOO_FEW: f"Too few X-rays to tell: {result.n_scored} were scored, {LEAST} are needed.",
    }
    counted = f"{result.n} X-rays from {result.first} to {result.last}, {result.n_scored} of them scored"
    older = f"; {result.n_before} older ones are not looked at" if result.n_before else ""
    rate = f"{100 * result.settings.false_alarms:.3g} %"
    tests = f"{result.n_tests} tests, corrected by Holm's method for a rate of false alarms of {rate} a run"
    return [summary[result.status], f"{counted}{older}; {tests}."]


def _hints(result: MonitorResult) -> list[str]:
    """Return what helps to find the cause."""
    hints = []
    is_score = any(each.figure == "score" for each in result.drifts)
    if is_score and result.sick_share is not None:
        expected, fitted, distance = result.sick_share
        hints.append(
            f"The scores fit best to {100 * fitted:.0f} % sick people, where the calibration was told "
            f"{100 * expected:.3g} %; a distance of {distance:.2f} is left."
        )
    if result.n_unmeasured:
        hints.append(
            f"{result.n_unmeasured} X-rays were screened by an older version, without their exposure: it is not "
            "compared."
        )
    return hints
