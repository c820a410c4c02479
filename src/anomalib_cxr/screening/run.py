"""A whole screening: what is new is looked at, a batch of rows at a time, and the tables are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from rich.progress import Progress

from anomalib_cxr.errors import ScreeningError

from .case import Case
from .record import Calibration
from .station import stamp_of
from .tables import write_tables
from .worklist import Worklist

LOCK = ".screening.lock"
Engine = Callable[[Sequence[Path]], Iterator[list[Case]]]
"""Screens files, and yields their cases in batches, in any order."""


def screen(
    files: Sequence[Path], output: Path, calibration: Calibration, engine: Engine, *, names: bool = False
) -> Worklist:
    """Screen files into a worklist; goes on where it was stopped.

    Args:
        files: Absolute paths. Those that are in the list already, and were not changed since, are left alone.
        output: Folder of the worklist.
        calibration: Of the model.
        engine: What does the work.
        names: Tell patients' names and IDs in the tables.

    Raises:
        ScreeningError: If another screening writes there, or another model did, or it cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with FileLock(output / LOCK, timeout=0):
            worklist = Worklist(output, create=True)
            refuse_other_model(worklist, calibration)
            try:
                _add(worklist, engine, unscreened(files, worklist))
            finally:  # also after an interruption: what is in the list is in the tables
                write_tables(worklist, calibration, names=names)
            return worklist
    except Timeout as error:
        raise ScreeningError(
            f"{output}: another screening writes there", "one at a time", "wait for it, or choose another --output"
        ) from error
    except OSError as error:
        raise ScreeningError(
            f"{output}: cannot be written ({error})",
            "a place with enough free space and the right to write",
            "free space and start again: it goes on where it stopped, no row is lost",
        ) from error


def refuse_other_model(worklist: Worklist, calibration: Calibration) -> None:
    """Refuse to put the rows of two models into one list.

    Raises:
        ScreeningError: If there are rows of another model.
    """
    others = worklist.models() - {calibration.model}
    if others:
        raise ScreeningError(
            f"{worklist.file}: rows of another model or calibration, {', '.join(sorted(each[:12] for each in others))}",
            f"rows of {calibration.model[:12]} only",
            "choose another --output",
        )


def unscreened(files: Iterable[Path], worklist: Worklist) -> list[Path]:
    """Return the files that are not in the list, or were changed since they were screened."""
    known = worklist.stamps()
    return [file for file in files if known.get(str(file)) != tuple(stamp_of(file))]


def _add(worklist: Worklist, engine: Engine, files: Sequence[Path]) -> None:
    with Progress() as progress:
        task = progress.add_task("Screening", total=len(files))
        for cases in engine(files):
            worklist.add(cases)
            progress.advance(task, len(cases))
