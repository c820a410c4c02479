"""Figures on disk, whole or not there at all."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from anomalib_cxr.files import whole_file


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, format="png")
