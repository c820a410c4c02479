"""Screening of received files in a process of its own, so that no file can hold or end a server."""

from __future__ import annotations

import logging
import signal
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anomalib_cxr.errors import CxrError, ScreeningError
from anomalib_cxr.screening.case import Case
from anomalib_cxr.utils.processes import start_process

if TYPE_CHECKING:
    from anomalib_cxr.screening.pipeline.screener import Screener

FILE_SECONDS = 120.0
"""Seconds in which a file must be screened."""
START_SECONDS = 300.0
"""Seconds in which the model must be loaded."""
_EXPECTED = "a model and a file that can be read in time, and in the memory of this machine"
_NEXT_STEP = "screen the file by `anomalib-cxr screen` to learn more"
logger = logging.getLogger(__name__)


class _Answer(NamedTuple):
    """Answer of the process about a file: its cases, or the parts of an error."""

    cases: list[Case]
    refusal: tuple[str, str, str] | None = None
    by_file: bool = False
    """Whether the file is the reason of the error, which comes again with it."""


class UnscreenableFileError(ScreeningError):
    """A file ended the process, held it for too long, or failed in it, while the model and the worklist are sound."""


class _NotReceivedError(ScreeningError):
    """The process ended before it received a file, which therefore did not end it."""


class ScreeningProcess:
    """Process that screens one file at a time, and is replaced when it fails or a file takes too long.

    Args:
        model: Folder of the calibrated model.
        output: Folder of the worklist.
        hospital: Hospital whose threshold holds, where the calibration has one for each.
        seconds: Time limit of a file.
        options: Further settings of :class:`anomalib_cxr.screening.pipeline.screener.ScreenerSettings`, such as
            `names`.

    Raises:
        ScreeningError: If the model is not calibrated, the hospital is needed and unknown, or the worklist has rows of
            another model.
    """

    def __init__(
        self, model: Path, output: Path, hospital: str = "", *, seconds: float = FILE_SECONDS, **options: Any
    ) -> None:
        self.seconds = seconds
        self._arguments = (model, output, {"hospital": hospital, **options})
        self._start()

    @property
    def pid(self) -> int | None:
        """Number of the process, another one after it was replaced."""
        return self._process.pid

    def cases(self, path: Path) -> list[Case]:
        """Screen a file; its heatmap is written.

        Args:
            path: The file.

        Returns:
            Its cases.

        Raises:
            UnscreenableFileError: If the file cannot be screened, or not in time.
            ScreeningError: If the model or the folder of the worklist cannot be used by now.
        """
        if not self._process.is_alive():
            self.close()
            self._start()
        try:
            return self._exchange(path, self.seconds)
        except _NotReceivedError:  # it was ending, and still counted as alive
            self._start()
            return self._exchange(path, self.seconds)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _start(self) -> None:
        self._connection, other = Pipe()
        self._process = start_process(_serve, other, *self._arguments, daemon=True)
        other.close()  # so that the end of the process is seen
        self._exchange(None, START_SECONDS)

    def _exchange(self, path: Path | None, seconds: float) -> list[Case]:
        """Send a file and receive its cases; None only waits until the model is loaded."""
        failure: type[ScreeningError] = ScreeningError if path is None else UnscreenableFileError
        ending = f"took longer than {seconds:g} s"
        answer: _Answer | None = None
        received, deadline = False, time.monotonic() + seconds
        try:
            self._connection.send(path)
            while answer is None and self._connection.poll(max(0.0, deadline - time.monotonic())):
                answer = self._connection.recv()  # first None, when the path is received
                received = True
        except (EOFError, OSError):
            self._process.join()
            ending = f"ended with code {self._process.exitcode}"
            failure = failure if received else _NotReceivedError
        if answer is None:
            self.close()
            logger.warning("The process that screens files %s; another one is started for the next file", ending)
            raise failure(f"a process that {ending}", _EXPECTED, _NEXT_STEP)
        if answer.refusal is not None:
            raise (UnscreenableFileError if answer.by_file else ScreeningError)(*answer.refusal)
        return answer.cases


def _serve(connection: Connection, model: Path, output: Path, options: dict[str, Any]) -> None:
    """Load the model, then screen each path that comes; send what comes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process
    screener = None
    while True:
        try:
            path = connection.recv()
        except EOFError:  # the other side is done
            return
        connection.send(None)  # received: what ends the process from here on is told
        try:
            if screener is None:
                screener = _load(model, output, options)
            cases = [] if path is None else [case for cases in screener.cases([path]) for case in cases]
            answer = _Answer(cases)
        except CxrError as error:
            answer = _Answer([], (error.found, error.expected, error.next_step))
        except OSError as error:  # of a folder that is written; what cannot be read is refused as a case
            answer = _Answer([], (f"{output}: {error.strerror}", "a folder that can be written", "free space"))
        except Exception as error:  # noqa: BLE001  # the model stays loaded for the next file
            logger.error("A file could not be screened: %s", type(error).__name__)  # noqa: TRY400  # one line
            reason = f"an internal error, {type(error).__name__}"
            answer = _Answer([], (reason, _EXPECTED, _NEXT_STEP), by_file=path is not None)
        connection.send(answer)


def _load(model: Path, output: Path, options: dict[str, Any]) -> Screener:
    from anomalib_cxr.screening.pipeline.screener import (  # noqa: PLC0415  # OpenVINO, in this process alone
        Screener,
        ScreenerSettings,
    )
    from anomalib_cxr.screening.worklist.store import Worklist  # noqa: PLC0415

    screener = Screener(ScreenerSettings(model, output, **options))
    Worklist(output).refuse_other_calibration(screener.calibration.identity)
    return screener
