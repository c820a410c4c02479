"""Marks by which images that this package wrote, such as heatmaps, are not taken for radiographs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL.PngImagePlugin import PngInfo

from anomalib_cxr.errors import RadiographError
from anomalib_cxr.utils.files import private_file, private_folder

MARKER = ".written_by_anomalib_cxr"
"""Name of the file that marks a folder whose images this package wrote; a search leaves the folder out."""
_KEY, _WRITER = "Software", "anomalib_cxr"  # a keyword that the PNG standard has for the program


def mark_folder(folder: Path) -> None:
    """Mark a folder whose images are not to be taken for radiographs.

    Args:
        folder: The folder, created where it is missing, for its owner only.

    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp()) / "heatmaps"
        >>> mark_folder(folder)
        >>> [file.name for file in folder.iterdir()]
        ['.written_by_anomalib_cxr']
    """
    private_folder(folder)
    private_file(folder / MARKER)


def png_mark() -> PngInfo:
    """Return the text to save in a PNG file, so that it is recognized wherever it is moved."""
    info = PngInfo()
    info.add_text(_KEY, _WRITER)
    return info


def refuse_written(path: Path, info: Mapping[Any, Any]) -> None:
    """Refuse an image that this package wrote.

    Args:
        path: The file.
        info: Texts of the image, Pillow's `info`.

    Raises:
        RadiographError: The image has the mark of :func:`png_mark`.

    Example:
        >>> refuse_written(Path("chest.png"), {"Software": "Acme Viewer"})
    """
    if info.get(_KEY) == _WRITER:
        raise RadiographError(
            path,
            "written by anomalib_cxr, such as a heatmap",
            "the X-ray itself",
            "leave out the folder of an earlier screening or prediction",
        )
