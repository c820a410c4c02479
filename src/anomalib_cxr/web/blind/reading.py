"""Blind reading of a worklist: which X-rays, in which order, by whom, and which verdicts were given blind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Literal, NamedTuple

import numpy as np
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.case import Case, VerdictRecord
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.utils.files import atomic_path
from anomalib_cxr.web.accounts import Accounts, Role

READING = "blind_reading.json"


class BlindCase(BaseModel):
    """X-ray of a blind reading."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    number: int
    """Number of its case in the worklist."""
    content: str
    """SHA-256 of the file when the reading was opened."""


class BlindReading(BaseModel):
    """Blind reading, as it was opened; the order of the X-rays never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1] = 1
    seed: int
    """Seed of the order."""
    opened: str
    """UTC, ISO 8601."""
    closed: str = ""
    """UTC, ISO 8601; empty while it is open."""
    readers: tuple[str, ...]
    """Names of the accounts that read."""
    cases: tuple[BlindCase, ...]
    """X-rays in the order in which all readers see them."""
    verdicts_before: int
    """Number of verdicts in the worklist when the reading was opened, which do not count."""
    verdicts_at_end: int | None = None
    """Number of verdicts in the worklist when it was closed; later ones do not count."""


class Progress(NamedTuple):
    """Progress of a reader in a blind reading."""

    verdicts: dict[int, VerdictRecord]
    """Verdicts that were given blind, by the position of the X-ray, from 1."""
    unread: list[int]
    """Positions without a verdict. X-rays that were replaced since are not among them."""


class BlindReadings:
    """Blind reading in the folder of a worklist; there is one at most.

    Args:
        worklist: The worklist.
    """

    def __init__(self, worklist: Worklist) -> None:
        self.worklist = worklist
        self.file = worklist.folder / READING

    def load(self) -> BlindReading | None:
        """Return the reading, an open or a closed one; None where there is none.

        Raises:
            ScreeningError: If its file cannot be read.
        """
        try:
            return BlindReading.model_validate_json(self.file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise ScreeningError(
                f"{self.file}: {error}",
                "a blind reading, as `anomalib-cxr blind open` writes it",
                "restore it from a backup; until then the page shows nothing, since it cannot know who reads blind",
            ) from error

    def open(self, seed: int, readers: Sequence[str] = ()) -> BlindReading:
        """Open a reading of all current X-rays that can be shown, refused ones too, in a random order.

        Args:
            seed: Seed of the order: the same X-rays and seed give the same order.
            readers: Names of the accounts that read; by default those with the role of a reader.

        Returns:
            The reading.

        Raises:
            ScreeningError: If there is one already, a reader has no account, or there is no X-ray to read.
        """
        names = self._checked(readers)
        with self._lock():
            if self.file.exists():
                raise ScreeningError(
                    f"a blind reading in {self.file}",
                    "one for each worklist, so that its figures stay",
                    "screen into another folder for another reading",
                )
            found = sorted((case.content, number) for number, case in self.worklist.find() if case.height)
            if not found:
                raise ScreeningError(f"no X-ray in {self.worklist.file}", "X-rays to read", "screen some first")
            # By content, not by number or path: neither the order of the screening nor that of the names is kept.
            order = np.random.default_rng(seed).permutation(len(found))
            reading = BlindReading(
                seed=seed,
                opened=_now(),
                readers=names,
                cases=tuple(BlindCase(number=found[index][1], content=found[index][0]) for index in order),
                verdicts_before=self.worklist.count_verdicts(),
            )
            self._write(reading)
        return reading

    def close(self) -> BlindReading:
        """Close the reading: its readers see the worklist again, and later verdicts do not count.

        Returns:
            The reading.

        Raises:
            ScreeningError: If none is open.
        """
        with self._lock():
            reading = self.load()
            if reading is None or reading.closed:
                raise ScreeningError(
                    f"no open reading in {self.worklist.folder}", "one", "run `anomalib-cxr blind open` first"
                )
            end = {"closed": _now(), "verdicts_at_end": self.worklist.count_verdicts()}
            closed = reading.model_copy(update=end)
            self._write(closed)
        return closed

    def progress(self, reading: BlindReading) -> dict[str, Progress]:
        """Return where each reader stands.

        A verdict is blind until its reader has read all X-rays: before, the server shows them nothing else. The last
        blind one counts, so that a slip can be corrected.

        Args:
            reading: The reading.

        Returns:
            Progress by the reader's name.
        """
        positions = {case.number: position for position, case in enumerate(reading.cases, start=1)}
        gone = {positions[case.number] for case in reading.cases if self.shown(case) is None}
        records = self.worklist.verdicts()[reading.verdicts_before : reading.verdicts_at_end]
        return {name: _progress(name, records, positions, gone) for name in reading.readers}

    def shown(self, case: BlindCase) -> Case | None:
        """Return the case of an X-ray; None where it was replaced, or the worklist was made anew.

        Args:
            case: X-ray of the reading.
        """
        now = self.worklist.case(case.number)
        return now if now is not None and now.content == case.content and not now.superseded else None

    def is_blind(self, name: str) -> bool:
        """Return whether nothing of the model or of others may be shown to an account.

        Args:
            name: Name of the account; empty for somebody who is not known, to whom nothing is shown while it is open.
        """
        reading = self.load()
        if reading is None or reading.closed:
            return False
        return not name or (name in reading.readers and bool(self.progress(reading)[name].unread))

    def _checked(self, readers: Sequence[str]) -> tuple[str, ...]:
        accounts = Accounts(self.worklist.folder)
        known = {account.name: account.role for account in accounts.all()}
        found = {name: accounts.find(name) for name in readers}
        if missing := [name for name, account in found.items() if account is None]:
            raise ScreeningError(
                f"no account for {', '.join(missing)}",
                f"accounts of the worklist: {', '.join(known) or 'none'}",
                "run `anomalib-cxr users add NAME --role reader`",
            )
        names = (
            [account.name for account in found.values() if account is not None]
            if readers
            else [name for name, role in known.items() if role is Role.READER]
        )
        if not names:
            raise ScreeningError(
                f"no account of a reader in {self.worklist.folder}",
                "an account for each reader: whoever can type another one's name is not blind",
                "run `anomalib-cxr users add NAME --role reader`, and an admin to see the results",
            )
        return tuple(dict.fromkeys(names))

    def _lock(self) -> FileLock:
        return FileLock(self.file.with_name(f".{READING}.lock"), mode=0o600)

    def _write(self, reading: BlindReading) -> None:
        with atomic_path(self.file, private=True) as unfinished:
            unfinished.write_text(reading.model_dump_json(indent=1), encoding="utf-8")


def _progress(name: str, records: Sequence[VerdictRecord], positions: dict[int, int], gone: set[int]) -> Progress:
    verdicts: dict[int, VerdictRecord] = {}
    unread = set(positions.values()) - gone
    for record in records:
        position = positions.get(record.case_id)
        if position is None or record.reader != name:
            continue
        verdicts[position] = record
        unread.discard(position)
        if not unread:
            break
    return Progress(verdicts, sorted(unread))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
