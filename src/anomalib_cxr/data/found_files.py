"""Which files of a folder may be X-rays, by their names alone; imports nothing that takes time."""

from __future__ import annotations

from pathlib import Path

from .dicomdir import DICOMDIR

# fmt: off
_NO_PICTURES = frozenset({
    ".cfg", ".csv", ".db", ".doc", ".docx", ".htm", ".html", ".ini", ".json", ".log", ".md", ".pdf", ".rtf",
    ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".yaml", ".yml",
})
# fmt: on


def _may_be_radiograph(file: Path) -> bool:
    """Tell whatever may be a radiograph, of any name, from what clearly is none."""
    return file.suffix.lower() not in _NO_PICTURES and file.name != DICOMDIR


def radiograph_files(folder: Path) -> tuple[list[Path], int]:
    """Find whatever may be a radiograph in a folder and all folders in it.

    Args:
        folder: The folder. Hidden files, texts and tables by their suffix, and a `DICOMDIR` are passed over.

    Returns:
        The files, sorted, and how many others were passed over, hidden ones not counted.
    """
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    paths = [file for file in files if _may_be_radiograph(file)]
    return paths, len(files) - len(paths)
