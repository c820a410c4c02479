"""Pictures of a report: files beside the Markdown, and the same inside the HTML."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from PIL import Image

from anomalib_cxr.files import whole_file

FOLDER = "figures"
DPI = 150
"""Of the files; on screen a figure is as wide as its inches at 110 to the inch."""
ON_SCREEN = 110
SHEET_SIDE = 1600
"""Longest side of a residual sheet inside the HTML, in pixels."""


class Picture(NamedTuple):
    """A picture as the templates take it."""

    alt: str
    caption: str
    encoded: str
    """Base64, for the HTML."""
    format: str
    """`png` or `jpeg`."""
    width: int
    """On screen, in pixels."""
    path: str | None = None
    """Relative to the report; None of a picture that stays inside the HTML."""
    patients: bool = False
    """Whether it may show patients."""


def show_figure(figure: Figure, folder: Path, name: str, alt: str, caption: str) -> Picture:
    """Write a figure below the folder of a report, and return it for the templates.

    Args:
        figure: The figure.
        folder: Of the report; the file goes to its `figures/`.
        name: Of the file, without ending; letters that a link may not take are replaced.
        alt: What a reader who does not see it should know.
        caption: The words under it.
    """
    path = f"{FOLDER}/{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)}.png"
    with whole_file(folder / path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=DPI)
    encoded = base64.b64encode((folder / path).read_bytes()).decode()
    return Picture(alt, caption, encoded, "png", round(figure.get_figwidth() * ON_SCREEN), path)


def show_sheet(sheet: Path, alt: str, caption: str) -> Picture:
    """Return a residual sheet for the HTML alone: it may show patients, and no copy of it is left lying about.

    It is reduced and compressed: eleven sheets as they are would make a report of tens of megabytes.
    """
    memory = io.BytesIO()
    with Image.open(sheet) as image:
        picture = image.convert("RGB")
    picture.thumbnail((SHEET_SIDE, SHEET_SIDE))
    picture.save(memory, format="JPEG", quality=88)
    encoded = base64.b64encode(memory.getvalue()).decode()
    return Picture(alt, caption, encoded, "jpeg", min(picture.width, 1130), patients=True)


def remove_other_figures(pictures: Iterable[Picture], folder: Path) -> None:
    """Remove figures of an earlier report that this one no longer has."""
    kept = {picture.path for picture in pictures}
    for path in (folder / FOLDER).glob("*.png"):
        if f"{FOLDER}/{path.name}" not in kept:
            path.unlink()
