"""Hot folders: what is copied into them is screened as soon as it does not change any more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from anomalib_cxr.data.reading.discovery import FoundFiles, find_radiographs
from anomalib_cxr.errors import DatasetError
from anomalib_cxr.screening.case import NOTICE
from anomalib_cxr.screening.pipeline.resumption import unscreened
from anomalib_cxr.screening.pipeline.screener import ScreenerSettings
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.screening.worklist.tables import write_left_out
from anomalib_cxr.utils.path_text import path_as_text

from .lifecycle import stopped_by_signal, worklist_of_node
from .quiet import QuietQueue
from .screening import ScreeningLoop

if TYPE_CHECKING:  # an extra
    from .destinations import Destination

LOCK = ".watch.lock"
SECONDS = 1.0
"""Seconds between two searches of the folders, at least; ten times as long as a search takes where that is more."""
_State = tuple[int, int]
logger = logging.getLogger(__name__)


class FolderWatch:
    """Search of folders for files that are new or have changed, by size and time: it works on network drives, too.

    Args:
        folders: The folders, absolute.
        queue: Queue that they are added to, each file as a group of its own.
        on_left_out: Function that is called with the files that are left out, by the reason, when these change.
        clock: Function that returns the time in seconds.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        queue: QuietQueue,
        on_left_out: Callable[[Mapping[str, Sequence[Path]]], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folders, self._queue, self._clock = folders, queue, clock
        self._on_left_out = on_left_out
        self._known: dict[Path, _State] = {}
        self._left_out: Mapping[str, Sequence[Path]] = {}
        self._due = clock()

    def find(self) -> list[Path]:
        """Search the folders now.

        Returns:
            All files that may be radiographs. From here on only those that come or change are added to the queue.
        """
        files = self._search()
        self._known = {file: state for file in files if (state := _state(file)) is not None}
        return files

    def look(self) -> None:
        """Search the folders, if it is time to, and add what is new or has changed to the queue."""
        began = self._clock()
        if began < self._due:
            return
        files = self._search()
        for file in files:
            state = _state(file)
            if state is not None and self._known.get(file) != state:
                self._known[file] = state
                self._queue.add(str(file), file)
        for file in self._known.keys() - set(files):
            del self._known[file]
        ended = self._clock()
        self._due = ended + max(SECONDS, 10 * (ended - began))

    def _search(self) -> list[Path]:
        files: dict[Path, None] = {}
        left_out: dict[str, list[Path]] = {}
        for folder in self._folders:
            found = FoundFiles([], {"not to be read": [folder]})
            with suppress(OSError):
                found = find_radiographs(folder)
            files |= dict.fromkeys(found.files)
            for reason, paths in found.left_out.items():
                left_out.setdefault(reason, []).extend(paths)
        if left_out != self._left_out:
            self._left_out = left_out
            self._on_left_out(left_out)
        return list(files)


def _state(file: Path) -> _State | None:
    try:
        status = file.stat()
    except OSError:  # it went away since the search
        return None
    return status.st_size, status.st_mtime_ns


def watch_folders(
    folders: Sequence[Path], settings: ScreenerSettings, quiet: float, send: Sequence[Destination] = ()
) -> None:
    """Screen what is in folders and comes into them, until SIGINT or SIGTERM.

    Args:
        folders: The folders.
        settings: Settings of the screening.
        quiet: Seconds for which a file must not have changed.
        send: Destinations of results.

    Raises:
        DatasetError: If a folder does not exist.
        ScreeningError: If the model or the worklist cannot be used, or is watched for already.
    """
    wrong = [folder for folder in folders if not folder.is_dir()]
    if wrong:
        raise DatasetError("paths that are no folders", "folders to watch", "correct them", {"no folder": wrong})
    with stopped_by_signal() as stop, worklist_of_node(settings, LOCK) as (worklist, calibration):
        queue = QuietQueue(quiet)
        watch = FolderWatch(
            [folder.absolute() for folder in folders], queue, lambda left_out: write_left_out(settings.output, left_out)
        )
        loop = ScreeningLoop(settings, calibration, worklist, queue, on_pass=watch.look)
        for file in unscreened(watch.find(), worklist, settings, calibration):
            queue.add(str(file), file)
        logger.info("Watching: %s  (Ctrl-C to stop). %s", ", ".join(map(path_as_text, folders)), NOTICE)
        with _sending(send, worklist, stop):
            loop.run(stop)
    logger.info("Stopped. Worklist: %s", settings.output)


def _sending(destinations: Sequence[Destination], worklist: Worklist, stop: Event) -> AbstractContextManager[None]:
    if not destinations:
        return nullcontext()
    from .sending import sending  # noqa: PLC0415  # an extra

    return sending(destinations, worklist, None, stop)
