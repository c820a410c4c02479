"""Start and end of what runs until it is stopped: one of a kind at a worklist, ended by a signal."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

from filelock import FileLock, Timeout

from anomalib_cxr.deploy.runtime import graph_of
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.calibration.record import Calibration, read_calibration
from anomalib_cxr.screening.pipeline.screener import ScreenerSettings
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.utils.files import private_folder

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def worklist_of_node(settings: ScreenerSettings, lock: str) -> Iterator[tuple[Worklist, Calibration]]:
    """Open a worklist for a node, which is the only one that writes there.

    Args:
        settings: Settings of the screening.
        lock: Name of the lock file, which the kinds of nodes differ in.

    Yields:
        The worklist, and the calibration of the model.

    Raises:
        ScreeningError: If another node is at it, or the model or the worklist cannot be used.
    """
    calibration = read_calibration(graph_of(settings.model).parent)
    calibration.refuse_hospital(settings.hospital)
    try:
        private_folder(settings.output)
        with FileLock(settings.output / lock, timeout=0, mode=0o600):
            worklist = Worklist(settings.output, create=True)
            worklist.refuse_other_calibration(calibration.identity)
            if calibration.reference is not None:
                worklist.keep_reference(calibration.identity, calibration.reference)
            if not settings.names:
                worklist.forget_names()
            yield worklist, calibration
    except Timeout as error:
        raise ScreeningError(
            f"{settings.output}: another node writes there", "one at a time", "end it, or choose another folder"
        ) from error
    except OSError as error:
        raise ScreeningError(
            f"{settings.output}: cannot be written ({error})",
            "a folder with enough free space and the right to write",
            "free space and start again: it goes on where it stopped, nothing is lost",
        ) from error


@contextmanager
def stopped_by_signal() -> Iterator[Event]:
    """Let SIGINT and SIGTERM set an event instead of ending the process at once.

    Yields:
        The event.
    """
    stop = Event()

    def ask(_number: int, _frame: Any) -> None:
        stop.set()

    former = {number: signal.signal(number, ask) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
