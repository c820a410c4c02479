"""Audit log of the page of a worklist: who saw, judged, uploaded, exported and signed in, one entry a line.

Each entry has the hash of the one before it, so that none can be changed, taken out or put in between without the rest
telling. An entry names cases by their number and content; it has no image, no file name and no patient's name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from enum import Enum
from io import BufferedRandom
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from fastapi import Request
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from anomalib_cxr.errors import AuditError, LockedWorklistError
from anomalib_cxr.utils.files import private_file

from .sessions import account_of

AUDIT = "audit.jsonl"
BEGINNING = "0" * 64
"""What the first entry has in place of the hash of the one before it."""
_WAIT = 5  # seconds; an entry takes some milliseconds
_MAX_ENTRY = 64 * 1024  # bytes


class Action(str, Enum):
    """Kind of an entry."""

    SIGN_IN = "signed in"
    WRONG_PASSWORD = "wrong password"  # noqa: S105
    SIGN_OUT = "signed out"
    LIST = "saw list"
    CASE = "saw case"
    IMAGE = "saw image"
    VERDICT = "gave verdict"
    NOT_SAVED = "verdict not saved"
    UPLOAD = "sent image"
    SCREENED = "image screened"
    AGREEMENT = "saw agreement"
    EXPORT = "exported"
    PURGE = "purged"
    RECOVERED = "recovered"
    """The line before was broken off, as by a power cut; `detail` is its hash."""


class Entry(BaseModel):
    """One line of the log."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    number: int
    """1 for the first entry."""
    time: str
    """UTC, ISO 8601."""
    who: str
    """Name of the account; empty where nobody signs in."""
    host: str
    """Address that it came from."""
    action: Action
    cases: tuple[int, ...] = ()
    """Numbers of the cases."""
    content: str = ""
    """SHA-256 of the file of the case; empty for several."""
    detail: str = ""
    """Kind of image or verdict, or what was exported."""
    previous: str
    """Hash of the entry before."""
    hash: str = ""
    """SHA-256 of all other fields, as JSON with sorted keys and without blanks."""

    def with_hash(self) -> Entry:
        """Return the entry with the hash of its fields."""
        fields = self.model_dump(mode="json", exclude={"hash"})
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return self.model_copy(update={"hash": hashlib.sha256(text.encode()).hexdigest()})


class AuditLog:
    """Audit log in the folder of a worklist; threads and processes may share it.

    Args:
        folder: Folder of the worklist.

    Example:
        >>> from tempfile import mkdtemp
        >>> log = AuditLog(Path(mkdtemp()))
        >>> log.write("Ada", "192.0.2.7", Action.CASE, cases=[3])
        >>> log.write("Ada", "192.0.2.7", Action.VERDICT, cases=[3], detail="normal")
        >>> [(entry.number, entry.who, entry.action.value, entry.cases) for entry in log.verified()]
        [(1, 'Ada', 'saw case', (3,)), (2, 'Ada', 'gave verdict', (3,))]
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / AUDIT
        self._turn = Lock()

    def write(
        self, who: str, host: str, action: Action, cases: Sequence[int] = (), content: str = "", detail: str = ""
    ) -> None:
        """Append an entry; it is on the disk when this returns.

        Args:
            who: Name of an account; empty where nobody signs in.
            host: Address that it came from.
            action: What was done.
            cases: Numbers of the cases.
            content: SHA-256 of the file of the case.
            detail: Kind of image or verdict, or what was exported.

        Raises:
            LockedWorklistError: If another program keeps the log locked.
            OSError: If it cannot be written.
        """
        try:
            with self._alone():
                private_file(self.file)
                with self.file.open("rb+") as file:
                    *whole, torn = _tail(file).split(b"\n")
                    last = _last_entry(whole, self.file)
                    previous, number = (BEGINNING, 0) if last is None else (last.hash, last.number)
                    if torn:
                        digest = hashlib.sha256(torn).hexdigest()
                        entry = _entry(number + 1, "", "", Action.RECOVERED, (), "", digest, previous)
                        _append(file, entry, b"\n")
                        previous, number = entry.hash, entry.number
                    _append(file, _entry(number + 1, who, host, action, tuple(cases), content, detail, previous))
        except Timeout as error:
            raise LockedWorklistError(
                f"{self.file}: locked by another program for more than {_WAIT} s",
                "a log that no other program keeps locked, since nothing is shown or saved that is not logged",
                "close the other program, such as a backup, and try again",
            ) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other threads and processes from the log; by the lock of a file alone, some threads would starve."""
        lock = FileLock(self.file.with_name(f".{AUDIT}.lock"), timeout=_WAIT, mode=0o600)
        if not self._turn.acquire(timeout=_WAIT):
            raise Timeout(lock.lock_file)
        try:
            with lock:
                yield
        finally:
            self._turn.release()

    def verified(self) -> Iterator[Entry]:
        """Iterate over all entries, each checked against the one before it.

        Yields:
            The entries.

        Raises:
            AuditError: At the first entry that is not what was written, or does not follow the one before it.
        """
        previous, number, broken = BEGINNING, 0, b""
        with self.file.open("rb") as file:
            for line, text in enumerate(file, start=1):
                entry = _parsed(text)
                if entry is None and not broken:
                    broken = text  # right only if the next entry tells of it
                    continue
                is_next = entry is not None and (entry.number, entry.previous) == (number + 1, previous)
                if (
                    entry is None
                    or not is_next
                    or entry.with_hash().hash != entry.hash
                    or _is_unexplained(broken, entry)
                ):
                    raise self._changed(line, number)
                previous, number, broken = entry.hash, entry.number, b""
                yield entry
        if broken:
            raise self._changed(number + 1, number)

    def _changed(self, line: int, number: int) -> AuditError:
        return AuditError(
            f"{self.file}, line {line}: not the entry that was written after entry {number}",
            "entries that follow each other, each with the hash of the one before it",
            f"take a backup whose log goes on after entry {number}, keep this file as evidence, and find out who can "
            "write it",
        )


def record(request: Request, action: Action, cases: Sequence[int] = (), content: str = "", detail: str = "") -> None:
    """Append what a request does to the log of its worklist.

    Args:
        request: The request, which was admitted.
        action: What it does.
        cases: Numbers of the cases.
        content: SHA-256 of the file of the case.
        detail: Kind of image or verdict, or what is exported.
    """
    account = account_of(request)
    log: AuditLog = request.app.state.audit
    host = request.client.host if request.client else ""
    log.write("" if account is None else account.name, host, action, cases, content, detail)


def _entry(
    number: int, who: str, host: str, action: Action, cases: tuple[int, ...], content: str, detail: str, previous: str
) -> Entry:
    return Entry(
        number=number,
        time=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        who=who,
        host=host,
        action=action,
        cases=cases,
        content=content,
        detail=detail,
        previous=previous,
    ).with_hash()


def _append(file: BufferedRandom, entry: Entry, before: bytes = b"") -> None:
    text = before + entry.model_dump_json().encode() + b"\n"
    if len(text) > _MAX_ENTRY:
        raise ValueError(f"an entry of {len(text)} bytes")
    file.seek(0, os.SEEK_END)
    file.write(text)
    file.flush()
    os.fsync(file.fileno())


def _tail(file: BinaryIO) -> bytes:
    """Return the end of the file, which holds its last whole entry and what may have been broken off behind it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 4 * _MAX_ENTRY))
    return file.read()


def _last_entry(lines: Sequence[bytes], path: Path) -> Entry | None:
    """Return the entry of the last of the whole lines at the end of the file; None without any."""
    if not lines:
        return None
    entry = _parsed(lines[-1])
    if entry is None:
        raise AuditError(
            f"{path}: a last line that is no entry",
            "the log as it was written",
            "run `anomalib-cxr audit verify`; nothing is shown or saved until the log can be continued",
        )
    return entry


def _parsed(text: bytes) -> Entry | None:
    try:
        return Entry.model_validate_json(text)
    except ValidationError:
        return None


def _is_unexplained(broken: bytes, entry: Entry) -> bool:
    """Return whether the entry after a broken line does not tell of it, or tells of another or of none."""
    if entry.action is not Action.RECOVERED:
        return bool(broken)
    return hashlib.sha256(broken.removesuffix(b"\n")).hexdigest() != entry.detail
