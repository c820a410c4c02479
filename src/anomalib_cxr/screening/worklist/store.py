"""Worklist: screened cases in their order, and the readers' verdicts.

A case is the content of a file at a path. Where a file is screened again with another content, there is a new case; the
former one stays with its verdicts, superseded, and can be seen as history of the new one. The tables `worklist.csv` and
`worklist.json` are written from it. The images of a case are written before its row.
"""
# ruff: noqa: S608  # the names of columns are those of a dataclass; values are bound

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.calibration.reference import Reference
from anomalib_cxr.screening.case import Case, Decision, VerdictRecord
from anomalib_cxr.screening.fingerprint import FileFingerprint
from anomalib_cxr.utils.path_text import path_as_text

from .database import COLUMNS, CURRENT, SEARCH_TEXT, SORT_KEYS, WorklistDatabase
from .page_index import TOTALS, TRIGRAMS, trigram_query
from .search import search_key, search_text
from .verdicts import VERDICT_COLUMNS, VerdictStore, verdict_of

UPLOADS = "uploads"
"""Subfolder for files that are sent from the browser."""
DICOM, NAMES = "dicom", "names"
"""`Case.options` of a row that was written with DICOM objects, and with the patient's name and ID."""
_SELECT = f"SELECT id, {', '.join(COLUMNS)} FROM cases"
_RANK = ", ".join(SORT_KEYS)
_FALLING = f"ORDER BY {', '.join(f'{key} DESC' for key in SORT_KEYS)}"
_WRITTEN = (*COLUMNS, SEARCH_TEXT)
_UPSERT = f"""
INSERT INTO cases ({", ".join(_WRITTEN)}) VALUES ({", ".join("?" * len(_WRITTEN))})
ON CONFLICT (path, content) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _WRITTEN)}
"""
_SUPERSEDE = f"UPDATE cases SET superseded = ? WHERE path = ? AND content <> ? AND {CURRENT}"
_FINGERPRINT = FileFingerprint._fields
_REFUSED = Decision.REFUSED.value


@dataclass(frozen=True)
class CaseQuery:
    """Selection of current cases.

    Args:
        decision: Only cases with this decision; None for all.
        search: Only cases with this text in their path or UIDs, in any letter case and normal form; empty for all.
    """

    decision: Decision | None = None
    search: str = ""

    def selection(self) -> tuple[str, list[str]]:
        """Return `FROM` and `WHERE` in SQL, and the values to bind to their question marks."""
        source, parts, values = "cases", [CURRENT], []
        text = search_key(self.search)
        if trigrams := trigram_query(text):
            found = f"(SELECT rowid AS found FROM {TRIGRAMS} WHERE {TRIGRAMS} MATCH ?)"
            source = f"{found} CROSS JOIN cases ON id = found"  # in this order, which the planner must not turn round
            values.append(trigrams)
        if self.decision is not None:
            parts.append("decision = ?")
            values.append(self.decision.value)
        if text:
            parts.append(f"INSTR({SEARCH_TEXT}, ?)")
            values.append(text)
        return f"FROM {source} WHERE {' AND '.join(parts)}", values


ALL_CASES = CaseQuery()


class RecordedFile(NamedTuple):
    """Facts in the worklist about a file that was screened."""

    fingerprint: FileFingerprint
    content: str
    """SHA-256 of the file as it was scored; empty where it could not be read."""
    options: str
    """Options of the screening that its row depends on."""
    source: str
    """Kind of source."""
    subgroup: str
    """Group whose threshold was used."""
    is_scored: bool
    """Whether it has a score; False where it was refused."""


class Worklist(VerdictStore):
    """Worklist in a folder, for its owner only; threads and processes may share it.

    Args:
        folder: Folder of the worklist.
        create: Create folder and file where they are missing.
        wait: Time in seconds to wait at most for another program that locks the file.

    Raises:
        ScreeningError: If there is no worklist, one of another format, or another file in its place.
        LockedWorklistError: If another program locks the file for longer, here and in each method.

    Example:
        >>> from tempfile import mkdtemp
        >>> worklist = Worklist(Path(mkdtemp()), create=True)
        >>> worklist.add([Case("/a.png", 1, 1, Decision.TO_READ, score=0.7, probability=0.2)])
        >>> [(number, case.path) for number, case in worklist.find()], worklist.count()
        ([(1, '/a.png')], 1)
    """

    def __init__(self, folder: Path | str, *, create: bool = False, wait: float = 60) -> None:
        self.folder = Path(folder)
        super().__init__(WorklistDatabase(self.folder, create=create, wait=wait))

    @property
    def file(self) -> Path:
        """The SQLite file."""
        return self._database.file

    def snapshot(self) -> AbstractContextManager[None]:
        """Let all that this thread reads in the block be of one state, as for a page; it also takes less time.

        What the methods that iterate return is of a state of its own.
        """
        return self._database.snapshot()

    def add(self, cases: Iterable[Case]) -> None:
        """Write cases, all or none.

        A known path with the same content keeps its number and its verdicts. With another content it becomes a new
        case, and the one with the former content is superseded.

        Args:
            cases: The cases, current ones, all of one calibration.

        Raises:
            ScreeningError: If there are rows of another calibration.
        """
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with self._database.open() as connection:
            connection.execute("BEGIN IMMEDIATE")  # no other calibration writes between the check and the rows
            (known,) = connection.execute("SELECT calibration FROM cases LIMIT 1").fetchone() or (None,)
            for case in cases:
                known = case.calibration if known is None else known
                if case.calibration != known:
                    raise self._other_calibration(known, case.calibration)
                row = [getattr(value, "value", value) for value in astuple(case)]
                connection.execute(_UPSERT, [*row, search_text(case)])
                connection.execute(_SUPERSEDE, [time, case.path, case.content])

    def recorded(self) -> dict[str, RecordedFile]:
        """Return what is known of each file in the worklist, by its path as text."""
        columns = f"path, content, options, source, subgroup, decision, {', '.join(_FINGERPRINT)}"
        rows = self._database.fetch(f"SELECT {columns} FROM cases WHERE {CURRENT}")
        return {
            path: RecordedFile(FileFingerprint(*values), content, options, source, subgroup, decision != _REFUSED)
            for path, content, options, source, subgroup, decision, *values in rows
        }

    def refresh(self, fingerprints: Mapping[str, FileFingerprint]) -> None:
        """Store new fingerprints of files whose content is still the one that was scored.

        Args:
            fingerprints: Fingerprints by the path as text.
        """
        settings = ", ".join(f"{name} = ?" for name in _FINGERPRINT)
        with self._database.open() as connection:
            connection.executemany(
                f"UPDATE cases SET {settings} WHERE path = ? AND {CURRENT}",
                [(*fingerprint, path) for path, fingerprint in fingerprints.items()],
            )

    def forget_names(self) -> None:
        """Take patients' names and IDs out of all cases, superseded ones too."""
        with self._database.open() as connection:
            connection.execute(
                "UPDATE cases SET patient_id = '', patient_name = '', options = TRIM(REPLACE(options, ?, '')) "
                "WHERE patient_id <> '' OR patient_name <> '' OR options LIKE ?",
                [NAMES, f"%{NAMES}%"],
            )

    def refuse_other_calibration(self, identity: str) -> None:
        """Refuse to mix rows of two models, or of two calibrations of one model.

        Args:
            identity: `Calibration.identity` of the rows to come.

        Raises:
            ScreeningError: If there are rows of another calibration.
        """
        rows = self._database.fetch("SELECT calibration FROM cases LIMIT 1")  # all are of one
        if rows and rows[0][0] != identity:
            raise self._other_calibration(rows[0][0], identity)

    def keep_reference(self, calibration: str, reference: Reference) -> None:
        """Keep the reference of the calibration that the rows are of; the same one again changes nothing.

        Args:
            calibration: `Calibration.identity`.
            reference: Its reference.
        """
        with self._database.open() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO reference (calibration, content) VALUES (?, ?)",
                [calibration, reference.model_dump_json()],
            )

    def reference(self) -> Reference | None:
        """Return the reference of the calibration that the rows are of; None without rows, or without one kept."""
        command = "SELECT content FROM reference WHERE calibration = (SELECT calibration FROM cases LIMIT 1)"
        rows = self._database.fetch(command)
        return Reference.model_validate_json(rows[0][0]) if rows else None

    def _other_calibration(self, known: str, given: str) -> ScreeningError:
        return ScreeningError(
            f"{self.file}: rows of another model or calibration, {known[:12]}",
            f"rows of the calibration {given[:12]} only: scores and thresholds of two cannot be compared",
            "choose another folder for the worklist",
        )

    def case(self, number: int) -> Case | None:
        """Return a case by its number, a superseded one too; None where there is none.

        Args:
            number: Number of the case.
        """
        rows = self._database.fetch(f"{_SELECT} WHERE id = ?", [number])
        return _case(rows[0]) if rows else None

    def number_of(self, path: Path | str) -> int | None:
        """Return the number of the current case of a file; None where there is none.

        Args:
            path: The file, absolute.
        """
        rows = self._database.fetch(f"SELECT id FROM cases WHERE path = ? AND {CURRENT}", [path_as_text(path)])
        return int(rows[0][0]) if rows else None

    def earlier(self, number: int) -> list[tuple[int, Case]]:
        """Return the superseded cases of the same path, whose X-rays are other ones than that of the case.

        Args:
            number: Number of a case.

        Returns:
            Numbers and cases, the last superseded one first. `verdicts(number)` of each has its verdicts.
        """
        rows = self._database.fetch(
            f"{_SELECT} WHERE path = (SELECT path FROM cases WHERE id = ?) AND id <> ? AND NOT {CURRENT} "
            "ORDER BY superseded DESC, id DESC",
            [number, number],
        )
        return [(row[0], _case(row)) for row in rows]

    def find(self, query: CaseQuery = ALL_CASES, limit: int = -1, offset: int = 0) -> list[tuple[int, Case]]:
        """Find cases: those to be read, those below the threshold, refused ones; each by falling unclipped score.

        Args:
            query: Selection of cases.
            limit: Number of cases at most; -1 for all.
            offset: Number of cases to skip.

        Returns:
            Numbers and cases.
        """
        selection, values = query.selection()
        numbers = f"SELECT id {selection} {_FALLING} LIMIT ? OFFSET ?"
        rows = self._database.fetch(f"{_SELECT} WHERE id IN ({numbers}) {_FALLING}", [*values, limit, offset])
        return [(row[0], _case(row)) for row in rows]

    def cases(self) -> Iterator[Case]:
        """Iterate over all current cases in the order of :meth:`find`, as they were when this began.

        Yields:
            One case at a time.
        """
        with self._database.open() as connection:
            yield from map(_case, connection.execute(f"{_SELECT} WHERE {CURRENT} {_FALLING}"))

    def facts(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return some facts of all current cases, in the order in which they came.

        Args:
            names: Names of fields of :class:`~anomalib_cxr.screening.case.Case`, and `id` for the number of the case.

        Raises:
            KeyError: If there is no such field.
        """
        if unknown := set(names) - {"id", *COLUMNS}:
            raise KeyError(*unknown)
        return self._database.fetch(f"SELECT {', '.join(names)} FROM cases WHERE {CURRENT} ORDER BY id")

    def verdicts_with_cases(self) -> Iterator[tuple[VerdictRecord, Case]]:
        """Iterate over all verdicts in the order in which they were given, as they were when this began.

        Yields:
            A verdict, and the case that it is on, which may be superseded.
        """
        columns = ", ".join(f"cases.{name}" for name in ("id", *COLUMNS))
        command = f"SELECT {VERDICT_COLUMNS}, {columns} FROM verdicts JOIN cases ON cases.id = case_id"
        with self._database.open() as connection:
            for row in connection.execute(f"{command} ORDER BY verdicts.id"):
                yield verdict_of(row[:5]), _case(row[5:])

    def first_unread(self, query: CaseQuery = ALL_CASES) -> int | None:
        """Return the number of the first case without a verdict; None where all have one.

        Args:
            query: Selection of cases.
        """
        selection, values = query.selection()
        unread = "NOT EXISTS (SELECT 1 FROM verdicts WHERE case_id = cases.id)"
        rows = self._database.fetch(f"SELECT id {selection} AND {unread} {_FALLING} LIMIT 1", values)
        return int(rows[0][0]) if rows else None

    def count(self, query: CaseQuery = ALL_CASES) -> int:
        """Return the number of cases in a selection.

        Args:
            query: Selection of cases.
        """
        if not query.search:
            counts = self.counts()
            return sum(counts.values()) if query.decision is None else counts[query.decision]
        selection, values = query.selection()
        ((count,),) = self._database.fetch(f"SELECT COUNT(*) {selection}", values)
        return int(count)

    def neighbors(self, number: int, query: CaseQuery = ALL_CASES) -> tuple[int | None, int | None]:
        """Return the numbers of the cases before and after a case in the order of a selection.

        Args:
            number: Number of the case, which need not be in the selection.
            query: Selection of cases.

        Returns:
            The numbers; None at either end.
        """
        rows = self._database.fetch(f"SELECT decision, {_RANK} FROM cases WHERE id = ?", [number])
        if not rows:
            return None, None
        decision, *rank = rows[0]
        before, values_before = _beside(query, Decision(decision), rank, ">", "ASC")
        after, values_after = _beside(query, Decision(decision), rank, "<", "DESC")
        command = f"SELECT {before}, {after}"
        ((previous, following),) = self._database.fetch(command, [*values_before, *values_after])
        return previous, following

    def counts(self, day: str = "") -> dict[Decision, int]:
        """Return the number of cases by decision.

        Args:
            day: Only cases screened on this day, UTC, such as `2026-01-31`; empty for all.

        Returns:
            A number for each decision.
        """
        command = f"SELECT decision, SUM(cases) FROM {TOTALS} WHERE day BETWEEN ? AND ? GROUP BY decision"
        counts = dict(self._database.fetch(command, [day, f"{day}\uffff"]))
        return {decision: int(counts.get(decision.value, 0)) for decision in Decision}


def _beside(
    query: CaseQuery, decision: Decision, rank: Sequence[Any], sign: str, direction: str
) -> tuple[str, list[Any]]:
    """Return the number of the case beside one of a decision and rank, as SQL that finds its place in the index.

    First of those that differ in the last sort key alone, then in the last two, then in all; these have another
    decision.
    """
    parts, bound = [], []
    for last in range(len(SORT_KEYS) - 1, -1, -1):
        if last and query.decision not in {None, decision}:
            continue
        # The first key tells the decision; with both in a condition, SQLite would not use the index for the others.
        selection, values = replace(query, decision=None if last else query.decision).selection()
        conditions = " AND ".join([*(f"{key} = ?" for key in SORT_KEYS[:last]), f"{SORT_KEYS[last]} {sign} ?"])
        order = ", ".join(f"{key} {direction}" for key in SORT_KEYS[last:])
        parts.append(f"(SELECT id {selection} AND {conditions} ORDER BY {order} LIMIT 1)")
        bound += [*values, *rank[: last + 1]]
    return f"COALESCE({', '.join([*parts, 'NULL'])})", bound


def _case(row: Sequence[Any]) -> Case:
    values = dict(zip(COLUMNS, row[1:], strict=True))
    return Case(**{**values, "decision": Decision(values["decision"])})
