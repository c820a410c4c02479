"""Empty figures of one style without global state of matplotlib, and their files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from anomalib_cxr.utils.files import atomic_path

CAPTION = "For research, not a medical device."
BLUE, RED, GREEN, GRAY = "#1f77b4", "#d62728", "#2ca02c", "#777777"
DPI = 110


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure with the disclaimer as its caption.

    Args:
        width: In inches.
        height: In inches.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.supxlabel(CAPTION, fontsize=8, color=GRAY)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically.

    Args:
        figure: The figure.
        path: File to write.
    """
    with atomic_path(path) as unfinished:
        figure.savefig(unfinished, format="png")
