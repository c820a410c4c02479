"""Resumption of a screening: which files still have to be screened, and which again.

A row holds as long as its file has the content that was scored, and the options that it depends on are those of the
command: `--any_source` decides on X-rays from other sources, `--hospital` chooses the threshold, and `--dicom` and
`--names` ask for more than a former screening may have kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import track

from anomalib_cxr.data.reading.content import read_content
from anomalib_cxr.errors import RadiographError
from anomalib_cxr.screening.calibration.record import Calibration
from anomalib_cxr.screening.fingerprint import FileFingerprint, fingerprint_of
from anomalib_cxr.screening.worklist.store import DICOM, NAMES, RecordedFile, Worklist
from anomalib_cxr.utils.path_text import path_as_text

if TYPE_CHECKING:
    from .screener import ScreenerSettings

logger = logging.getLogger(__name__)
ANY_SOURCE = "any_source"
_REFRESHED = 256  # fingerprints that are stored at a time


def row_options(settings: ScreenerSettings, calibration: Calibration, source: str) -> str:
    """Return the options that the row of an X-ray depends on.

    Args:
        settings: Settings of the screener.
        calibration: Calibration of the model.
        source: Kind of source of the X-ray; empty where it cannot be read.

    Returns:
        Their names, separated by spaces.
    """
    options = {
        ANY_SOURCE: settings.any_source and source not in calibration.validated.sources,
        DICOM: settings.dicom,
        NAMES: settings.names and source.startswith("DICOM"),
    }
    return " ".join(name for name, is_set in options.items() if is_set)


def unscreened(
    files: Iterable[Path], worklist: Worklist, settings: ScreenerSettings, calibration: Calibration
) -> list[Path]:
    """Return the files that are not in the worklist, have changed, or whose row other options decided.

    A file of the same content whose times have changed is not screened again: the worklist then gets its new
    fingerprint.

    Args:
        files: Absolute paths.
        worklist: The worklist.
        settings: Settings of the screener.
        calibration: Calibration of the model.

    Returns:
        Those to screen, in the order given.
    """
    recorded = worklist.recorded()
    remaining: list[Path] = []
    touched: dict[str, FileFingerprint] = {}
    n_by_options = 0
    for file in track(list(files), "Looking for changes", transient=True):
        path = path_as_text(file)
        row = recorded.get(path)
        if row is not None and not _options_hold(row, settings, calibration):
            n_by_options += 1
        elif row is not None and row.fingerprint == fingerprint_of(file):
            continue
        elif row is not None and (fingerprint := _fingerprint_of_same(file, row)) is not None:
            touched[path] = fingerprint
            if len(touched) == _REFRESHED:
                _store(touched, worklist)
            continue
        remaining.append(file)
    _store(touched, worklist)
    if n_by_options:
        logger.info("Screened again, since their rows depend on the options given now: %d files", n_by_options)
    return remaining


def _options_hold(row: RecordedFile, settings: ScreenerSettings, calibration: Calibration) -> bool:
    """Return whether the row is the one that the options of now give, and nothing is missing that they ask for."""
    had, wanted = (set(options.split()) for options in (row.options, row_options(settings, calibration, row.source)))
    if (ANY_SOURCE in had) != (ANY_SOURCE in wanted) or not wanted - {ANY_SOURCE} <= had:
        return False
    return not (row.is_scored and calibration.grouping == "hospital" and row.subgroup != settings.hospital)


def _fingerprint_of_same(file: Path, row: RecordedFile) -> FileFingerprint | None:
    """Return the new fingerprint of a file whose content is the one that was scored; None where it is another."""
    try:
        content = read_content(file)
    except RadiographError:
        return None
    return fingerprint_of(content) if content.sha256 == row.content else None


def _store(touched: dict[str, FileFingerprint], worklist: Worklist) -> None:
    worklist.refresh(touched)
    touched.clear()
