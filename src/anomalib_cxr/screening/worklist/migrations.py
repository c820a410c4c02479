"""Formats of the SQLite file of a worklist, and the steps from each to the next one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from anomalib_cxr.errors import ScreeningError

FORMAT = 6
"""Format of the files that this version writes and reads; to be raised when older code cannot use the file."""
STEPS: Mapping[int, tuple[str, ...]] = {
    5: (
        "ALTER TABLE cases ADD COLUMN view TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE cases ADD COLUMN taken TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE cases ADD COLUMN lung_gray NUMERIC",
        "ALTER TABLE cases ADD COLUMN tissue_contrast NUMERIC",
        "CREATE TABLE reference (calibration TEXT PRIMARY KEY, content TEXT NOT NULL)",
    ),
}
"""SQL that brings a file of a format to the next one. What is published is never changed."""
OLDEST = min(STEPS)
"""Oldest format that can be upgraded."""


def other_format(file: Path, version: int) -> ScreeningError:
    """Return the error of a worklist that has another format than this version's.

    Args:
        file: The SQLite file.
        version: Its format.
    """
    if version in STEPS:
        return ScreeningError(
            f"{file}: format {version}, of an older version",
            f"format {FORMAT}",
            f"run `anomalib-cxr upgrade {file.parent}`, which keeps all rows and verdicts",
        )
    return ScreeningError(
        f"{file}: format {version}",
        f"format {FORMAT}, or from {OLDEST} on to be upgraded",
        "use the version of anomalib_cxr that wrote this one, or screen into another folder",
    )
