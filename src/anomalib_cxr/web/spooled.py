"""Answer that is written at once and sent as fast as the browser takes it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryFile
from threading import Condition, Thread

CHUNK = 2**16
"""Bytes that are sent at a time."""


class Spooled:
    """Parts of an answer, which a thread writes into a file while they are read from it.

    A slow browser thus holds nothing that the parts are made from, such as a connection to a database, and the first
    part need not wait for the last one.

    Args:
        parts: The parts; they are taken in one thread, which also closes them.
        folder: Folder of the file, which has no name there.

    Raises:
        Exception: What the first part raises; what a later one raises is raised in place of the rest.

    Example:
        >>> from tempfile import mkdtemp
        >>> b"".join(Spooled((part for part in (b"a,", b"b")), Path(mkdtemp())))
        b'a,b'
    """

    def __init__(self, parts: Generator[bytes, None, None], folder: Path) -> None:
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115  # `__iter__` closes it
        self._changed = Condition()
        self._written, self._is_complete = 0, False
        self._error: BaseException | None = None
        Thread(target=self._fill, args=[parts], daemon=True).start()
        self._wait_beyond(0)
        if self._error is not None:
            self._file.close()
            raise self._error

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the answer, in chunks of its own."""
        sent = 0
        with self._file:
            while self._wait_beyond(sent):
                with self._changed:
                    self._file.seek(sent)
                    chunk = self._file.read(CHUNK)
                sent += len(chunk)
                yield chunk
            if self._error is not None:
                raise self._error

    def _fill(self, parts: Generator[bytes, None, None]) -> None:
        try:
            with closing(parts):
                for part in parts:
                    with self._changed:
                        self._file.seek(self._written)
                        self._file.write(part)
                        self._written += len(part)
                        self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001  # raised where it is read
            self._error = error
        finally:
            with self._changed:
                self._is_complete = True
                self._changed.notify_all()

    def _wait_beyond(self, sent: int) -> bool:
        """Wait until more than a number of bytes are written; False where there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._written > sent or self._is_complete)
            return self._written > sent
