"""Monitoring: whether the calibration still describes the X-rays that come in, as a page and as CSV."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Annotated, NamedTuple

from fastapi import APIRouter, Depends, Query, Request, Response

from anomalib_cxr.web.audit import Action, record
from anomalib_cxr.web.rendering import WorklistParameter, render_page
from anomalib_cxr.web.sessions import require_admin

if TYPE_CHECKING:  # SciPy delays the start
    from anomalib_cxr.screening.monitoring.comparison import MonitoredFigure
    from anomalib_cxr.screening.monitoring.monitor import Curve, MonitorResult

WIDTH, HEIGHT = 300, 150
"""Size of a plot in pixels, without its margins."""
MAX_WEEKS = 520
Weeks = Annotated[int, Query(ge=0, le=MAX_WEEKS)]
router = APIRouter(dependencies=[Depends(require_admin)])


class Plot(NamedTuple):
    """Cumulative shares of a figure as lines of an SVG picture."""

    name: str
    low: float
    """Value at the left."""
    high: float
    """Value at the right."""
    expected: str
    """Points of the line of the calibration."""
    found: str
    """Points of the line of what came in."""


class GroupRow(NamedTuple):
    """Figures of one group of X-rays."""

    by: str
    group: str
    figures: dict[str, MonitoredFigure]

    @property
    def drifts(self) -> bool:
        """True if one of the figures is drift."""
        return any(each.drift for each in self.figures.values())


@router.get("/monitor")
def show_monitor(request: Request, worklist: WorklistParameter, weeks: Weeks = 4) -> Response:
    """Return the page.

    Args:
        request: The request.
        worklist: The worklist.
        weeks: Number of weeks up to that of the newest X-ray; 0 for all.
    """
    from anomalib_cxr.screening.monitoring.comparison import FIGURES, LEAST  # noqa: PLC0415
    from anomalib_cxr.screening.monitoring.monitor import MonitorSettings, monitor_worklist  # noqa: PLC0415
    from anomalib_cxr.screening.monitoring.report import NAMES, describe_result  # noqa: PLC0415

    record(request, Action.AGREEMENT, detail="monitoring")
    values = {"weeks": weeks, "names": NAMES, "figures": FIGURES, "least": LEAST, "width": WIDTH, "height": HEIGHT}
    if worklist.reference() is None:
        return render_page(request, "monitor", {**values, "result": None})
    result = monitor_worklist(worklist, MonitorSettings(weeks))
    shown = {
        "result": result,
        "sentences": describe_result(result)[:-1],  # the last one is the notice, which the page has anyway
        "rows": group_rows(result),
        "plots": [plot_of(curve, NAMES[curve.figure]) for curve in result.curves],
        "verdicts": [each for each in result.comparisons if each.figure in NAMES and "called" in NAMES[each.figure]],
        "refusals": [each for each in result.comparisons if each.figure.startswith("refused: ")],
    }
    return render_page(request, "monitor", {**values, **shown})


@router.get("/monitor.csv")
def send_monitor(request: Request, worklist: WorklistParameter, weeks: Weeks = 4) -> Response:
    """Return all figures as CSV.

    Args:
        request: The request.
        worklist: The worklist.
        weeks: Number of weeks up to that of the newest X-ray; 0 for all.
    """
    from anomalib_cxr.screening.monitoring.monitor import MonitorSettings, monitor_worklist  # noqa: PLC0415
    from anomalib_cxr.screening.monitoring.report import csv_text  # noqa: PLC0415

    record(request, Action.EXPORT, detail="monitoring")
    text = csv_text(monitor_worklist(worklist, MonitorSettings(weeks)))
    headers = {"Content-Disposition": 'attachment; filename="monitor.csv"'}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


def group_rows(result: MonitorResult) -> list[GroupRow]:
    """Gather the comparisons of each group of X-rays.

    Args:
        result: Result of monitoring.
    """
    rows: dict[tuple[str, str], GroupRow] = {}
    for each in result.comparisons:
        rows.setdefault((each.by, each.group), GroupRow(each.by, each.group, {})).figures[each.figure] = each
    return list(rows.values())


def plot_of(curve: Curve, name: str) -> Plot:
    """Return the lines of a curve.

    Args:
        curve: Cumulative shares.
        name: Name of the figure.

    Example:
        >>> from anomalib_cxr.screening.monitoring.monitor import Curve
        >>> plot_of(Curve("score", [0.0, 1.0], [0.5, 1.0], [0.0, 1.0]), "score").expected
        '0.0,75.0 300.0,0.0'
    """
    low, high = curve.points[0], curve.points[-1]
    span = high - low or 1.0

    def line(shares: list[float]) -> str:
        return " ".join(
            f"{WIDTH * (point - low) / span:.1f},{HEIGHT * (1 - share):.1f}"
            for point, share in zip(curve.points, shares, strict=True)
            if not isnan(point)
        )

    return Plot(name, low, high, line(curve.expected), line(curve.found))
