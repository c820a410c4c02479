"""Queue of files that are to be screened as soon as nothing more comes of their group, such as a study."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock


class QuietQueue:
    """Files by group; a group is released when nothing was added to it for some time. Threads may share it.

    Args:
        seconds: Quiet period after the last file of a group.
        clock: Function that returns the time in seconds.

    Example:
        >>> now = 0.0
        >>> queue = QuietQueue(10, lambda: now)
        >>> queue.add("study", Path("a.dcm"))
        >>> queue.take()
        []
        >>> now = 10.0
        >>> queue.take(), len(queue)
        ([PosixPath('a.dcm')], 0)
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._lock = Lock()
        self._groups: dict[str, dict[Path, None]] = {}  # files once each, in the order in which they came
        self._last: dict[str, float] = {}

    def __len__(self) -> int:
        """Return the number of files that wait."""
        with self._lock:
            return sum(map(len, self._groups.values()))

    def add(self, group: str, path: Path) -> None:
        """Add a file; the quiet period of its group begins anew.

        Args:
            group: Name of the group.
            path: The file, which may be in the queue already.
        """
        with self._lock:
            self._groups.setdefault(group, {})[path] = None
            self._last[group] = self._clock()

    def take(self) -> list[Path]:
        """Remove the groups that have been quiet for long enough.

        Returns:
            Their files, those of a group together, the group that has been quiet longest first.
        """
        with self._lock:
            limit = self._clock() - self._seconds
            quiet = sorted((last, group) for group, last in self._last.items() if last <= limit)
            for _, group in quiet:
                del self._last[group]
            return [path for _, group in quiet for path in self._groups.pop(group)]
