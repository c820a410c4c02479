"""Report of a calibration study: tables as CSV, and a page of HTML that needs no network."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from matplotlib.figure import Figure

from anomalib_cxr.evaluation.canvas import BLUE, GRAY, new_figure
from anomalib_cxr.screening.calibration.record import Calibration
from anomalib_cxr.utils.files import atomic_path

from .comparison import Comparison
from .groups import LEAST, count_patients, group_table
from .questions import reliability_at, sick_images_needed, who_target
from .thresholds import Place, threshold_table

PAGE = "study.html"
"""Name of the page."""
_GOALS = (0.9, 0.95, 0.98, 0.99)
_ROWS = 40  # thresholds on the page, at most; the CSV file has all


def write_study(
    folder: Path,
    scored: pd.DataFrame,
    calibration: Calibration,
    place: Place,
    comparison: Comparison | None = None,
) -> Path:
    """Write the report of a study.

    Args:
        folder: Folder to write: `study.html`, `thresholds.csv`, `groups.csv`, `sick_needed.csv`, `reliability.csv`, and
            `comparison.csv` of a comparison.
        scored: Calibration images: `is_sick`, `score`, `hospital`, `view`, `sex`, `age`, and perhaps `patient`.
        calibration: Record of the calibration with these images.
        place: Prevalence and costs.
        comparison: Comparison of a second model on the same images.

    Returns:
        Path of the page.
    """
    people = count_patients(scored)
    is_sick, scores = people.is_sick.to_numpy(bool), people.score.to_numpy(float)
    threshold = calibration.label_threshold
    confidence = next(iter(calibration.thresholds.values())).confidence
    tables = {
        "thresholds": threshold_table(is_sick, scores, place),
        "groups": group_table(scored, threshold),
        "sick_needed": sick_images_needed(_GOALS, confidence),
        "reliability": reliability_at(calibration.reliability, calibration.probability.share, place.prevalence),
    }
    if comparison is not None:
        tables["comparison"] = comparison.table
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        with atomic_path(folder / f"{name}.csv") as unfinished:
            table.to_csv(unfinished, index=False)
    environment = Environment(
        loader=PackageLoader("anomalib_cxr.screening.study"), undefined=StrictUndefined, autoescape=select_autoescape()
    )
    reported = tables["groups"].dropna()
    page = environment.get_template(f"{PAGE}.jinja").render(
        unit="patients" if "patient" in scored else "images",
        n_sick=int(is_sick.sum()),
        n_normal=int((~is_sick).sum()),
        least=LEAST,
        second=comparison,
        n_thresholds=len(tables["thresholds"]),
        calibrated=threshold_table(is_sick, scores, place, [threshold]),
        n_small=len(tables["groups"]) - len(reported),
        calibration=calibration,
        place=place,
        threshold=threshold,
        confidence=confidence,
        target=who_target(is_sick, scores),
        roc=_as_png(roc_figure(tables["thresholds"])),
        **tables | {"thresholds": _some(tables["thresholds"]), "groups": reported},
    )
    with atomic_path(folder / PAGE) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return folder / PAGE


def roc_figure(thresholds: pd.DataFrame) -> Figure:
    """Plot the ROC curve with the band that holds for all thresholds together.

    Args:
        thresholds: Result of :func:`anomalib_cxr.screening.study.thresholds.threshold_table`.

    Returns:
        The figure.
    """
    figure = new_figure(5, 5)
    axes = figure.subplots()
    alarms, low, high = (1 - thresholds[f"specificity{end}"] for end in ("", "_high", "_low"))
    axes.plot(low, thresholds.sensitivity_high, color=BLUE, linewidth=0.8, linestyle=":", label="95 % band")
    axes.plot(high, thresholds.sensitivity_low, color=BLUE, linewidth=0.8, linestyle=":")
    axes.plot(alarms, thresholds.sensitivity, color=BLUE, drawstyle="steps-pre")
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle=":")
    axes.set(xlabel="share of normal images that are read", ylabel="sensitivity")
    axes.legend(loc="lower right")
    return figure


def _as_png(figure: Figure) -> str:
    content = BytesIO()
    figure.savefig(content, format="png")
    return base64.b64encode(content.getvalue()).decode()


def _some(table: pd.DataFrame) -> pd.DataFrame:
    """Return rows evenly spaced, the first and the last among them."""
    step = max(1, -(-len(table) // _ROWS))
    some: pd.DataFrame = table.iloc[sorted({*range(0, len(table), step), len(table) - 1})]
    return some
