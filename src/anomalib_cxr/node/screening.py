"""Screening of the files that a node receives, one after the other, for as long as it runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from threading import Event

from anomalib_cxr.data.reading.content import read_content
from anomalib_cxr.errors import RadiographError, ScreeningError
from anomalib_cxr.screening.calibration.record import Calibration
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.fingerprint import NO_FINGERPRINT, fingerprint_of
from anomalib_cxr.screening.pipeline.resumption import row_options
from anomalib_cxr.screening.pipeline.screener import ScreenerSettings
from anomalib_cxr.screening.pipeline.screening_process import ScreeningProcess, UnscreenableFileError
from anomalib_cxr.screening.worklist.lock import worklist_lock
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.screening.worklist.tables import write_tables
from anomalib_cxr.utils.path_text import path_as_text

from .quiet import QuietQueue

TRIES = 2
"""Times that a file is tried before it is a refused case: what ended the process may have been another program."""
PAUSES = (1.0, 5.0, 15.0, 60.0)
"""Seconds to wait after the first, second, ... failure that no file is the reason of; then the last one."""
TABLE_SECONDS = 60.0
"""Seconds between two writings of the tables, which are written whole."""
_TICK = 0.2
logger = logging.getLogger(__name__)


class ScreeningLoop:
    """Loop that screens the files of a queue into a worklist.

    A file is in the queue or in the worklist: what fails for a reason beside the file, such as a locked worklist, a
    model that was moved or a full disk, is logged and tried again. A file that ends or holds the process is a refused
    case.

    Args:
        settings: Settings of the screening.
        calibration: Calibration of the model.
        worklist: The worklist.
        queue: Queue of files.
        on_pass: Function that is called in each pass, such as one that looks for new files; it may add to the queue.
    """

    def __init__(
        self,
        settings: ScreenerSettings,
        calibration: Calibration,
        worklist: Worklist,
        queue: QuietQueue,
        on_pass: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._calibration = settings, calibration
        self._worklist, self._queue, self._on_pass = worklist, queue, on_pass
        self._process = ScreeningProcess(
            settings.model,
            settings.output,
            settings.hospital,
            device=settings.device,
            any_source=settings.any_source,
            dicom=settings.dicom,
            names=settings.names,
        )
        self._files: list[Path] = []
        self._failures = 0
        self._tables_due: float | None = None

    def run(self, stop: Event, *, until_empty: bool = False) -> None:
        """Screen until the end is asked for; the tables have all rows then.

        Args:
            stop: Event that asks for the end, after the file that is being screened.
            until_empty: End also as soon as no file waits.
        """
        try:
            while not stop.is_set():
                self._on_pass()
                self._files += self._queue.take()
                if self._files:
                    self._screen_waiting(stop)
                elif until_empty and not self._queue:
                    return
                else:
                    stop.wait(_TICK)
                self._write_tables()
        finally:
            self._process.close()
            self._write_tables(at_end=True)

    def _screen_waiting(self, stop: Event) -> None:
        """Screen the files that were taken from the queue, unless another screening writes to the worklist."""
        try:
            with worklist_lock(self._settings.output):
                while self._files and not stop.is_set():
                    self._worklist.add(self._cases(self._files[0]))
                    del self._files[0]
                    self._failures = 0
                    self._tables_due = self._tables_due or time.monotonic() + TABLE_SECONDS
        except (ScreeningError, OSError) as error:
            self._pause(stop, error.found if isinstance(error, ScreeningError) else f"{error}")

    def _pause(self, stop: Event, reason: str) -> None:
        seconds = PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        logger.warning("%d files wait, tried again in %g s: %s", len(self._files) + len(self._queue), seconds, reason)
        stop.wait(seconds)

    def _cases(self, file: Path) -> Sequence[Case]:
        for _ in range(TRIES):
            try:
                cases = self._process.cases(file)
            except UnscreenableFileError as error:  # noqa: PERF203  # once or twice a file
                reason = error.found
            else:
                for case in cases:
                    logger.info("%s: %s", case.decision_text, path_as_text(file))
                return cases
        logger.warning("Refused %s: %s", path_as_text(file), reason)
        return [self._refused(file, reason)]

    def _refused(self, file: Path, reason: str) -> Case:
        """Return the case of a file that cannot be screened; nothing of it is decoded here."""
        try:
            content = read_content(file)
        except RadiographError:
            content = None
        fingerprint = NO_FINGERPRINT if content is None else fingerprint_of(content)
        return Case(
            path=path_as_text(file),
            **fingerprint._asdict(),
            content="" if content is None else content.sha256,
            decision=Decision.REFUSED,
            why=f"cannot be screened: {reason}",
            model=self._calibration.model,
            calibration=self._calibration.identity,
            screened=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            options=row_options(self._settings, self._calibration, ""),
        )

    def _write_tables(self, *, at_end: bool = False) -> None:
        if self._tables_due is None or (time.monotonic() < self._tables_due and not at_end):
            return
        try:
            write_tables(self._worklist, self._calibration, names=self._settings.names)
        except (ScreeningError, OSError) as error:
            logger.warning("The tables could not be written, and are tried again: %s", error)
            self._tables_due = time.monotonic() + TABLE_SECONDS
        else:
            self._tables_due = None
