"""Results that are to be sent, in the database of the worklist: a row for each result and destination."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from anomalib_cxr.screening.case import REPORTED_SOURCES, Case, Decision
from anomalib_cxr.screening.worklist.database import CURRENT, WorklistDatabase
from anomalib_cxr.screening.worklist.store import Worklist

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY,
    case_id INTEGER NOT NULL REFERENCES cases (id),
    result TEXT NOT NULL,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due REAL NOT NULL,
    error TEXT NOT NULL,
    UNIQUE (case_id, result, destination)
)""",
    "CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (state, due)",
)
_RESULT_COLUMNS = ("path", "content", "model", "calibration", "options", "subgroup", "decision")
_RESULT = " || char(10) || ".join(_RESULT_COLUMNS)
"""What the UIDs of the objects of a case are derived from, as SQL: another result is sent again.

Path and content belong to it: SQLite gives the number of a case that was purged to another one.
"""
_IS_REPORTED = " OR ".join(
    [f"decision <> '{Decision.REFUSED.value}'", *(f"source LIKE '{source}%'" for source in REPORTED_SOURCES)]
)
"""`Case.is_reported` as SQL."""
_IS_SENT = f"{CURRENT} AND source LIKE 'DICOM %' AND ({_IS_REPORTED})"


class State(str, Enum):
    """State of a delivery."""

    WAITING = "waiting"
    SENT = "sent"
    DEAD = "dead"


class Delivery(NamedTuple):
    """Result that is to be sent to a destination."""

    number: int
    case_id: int
    destination: str
    """Name of the destination."""
    state: State
    attempts: int
    due: float
    """Time of the next attempt, in seconds since the epoch."""
    error: str
    """Reason of the last failure; empty where there was none."""


class DeliveryStore:
    """Queue of deliveries of a worklist, which survives restarts. Worklists without one get it.

    Args:
        worklist: The worklist.
    """

    def __init__(self, worklist: Worklist) -> None:
        self._worklist = worklist
        self._database = WorklistDatabase(worklist.folder)
        with self._database.open() as connection:
            for command in _SCHEMA:
                connection.execute(command)

    def enqueue(self, destinations: Iterable[str], folder: str) -> int:
        """Queue the results of cases for each destination that has no delivery of them yet.

        Of the refused ones only X-rays count, and of all only DICOM: a picture has no patient and no study.

        What waits for a case that was purged, or screened again with another result, is taken out.

        Args:
            destinations: Names of the destinations.
            folder: Only cases whose paths begin with this text, such as those that a node received; empty for all.

        Returns:
            Number of new deliveries.
        """
        new = 0
        with self._database.open() as connection:
            connection.execute(
                f"""DELETE FROM deliveries WHERE state = ? AND NOT EXISTS
                (SELECT 1 FROM cases WHERE cases.id = case_id AND {_RESULT} = result)""",  # noqa: S608
                [State.WAITING.value],
            )
            for name in destinations:
                new += connection.execute(
                    f"""INSERT OR IGNORE INTO deliveries (case_id, result, destination, state, attempts, due, error)
                    SELECT id, {_RESULT}, ?, ?, 0, 0, '' FROM cases
                    WHERE {_IS_SENT} AND substr(path, 1, ?) = ? ORDER BY id""",  # noqa: S608  # values are bound
                    [name, State.WAITING.value, len(folder), folder],
                ).rowcount
        return new

    def due(self, destination: str, now: float, limit: int = 20) -> list[tuple[Delivery, Case]]:
        """Return the deliveries that are to be tried now, those that wait longest first.

        Args:
            destination: Name of the destination.
            now: Time in seconds since the epoch.
            limit: Number of deliveries at most.

        Returns:
            Deliveries and their cases.
        """
        found = self._find("destination = ? AND state = 'waiting' AND due <= ? ORDER BY due, id", [destination, now])
        pairs = [(delivery, self._worklist.case(delivery.case_id)) for delivery in found[:limit]]
        return [(delivery, case) for delivery, case in pairs if case is not None]

    def all(self, *states: State) -> list[Delivery]:
        """Return the deliveries in some states.

        Args:
            states: The states; all where none is given.

        Returns:
            Deliveries in the order in which they were queued.
        """
        marks = ", ".join("?" * len(states)) or "SELECT state FROM deliveries"
        return self._find(f"state IN ({marks}) ORDER BY id", [state.value for state in states])

    def counts(self) -> dict[tuple[str, State], int]:
        """Return the number of deliveries by destination and state."""
        rows = self._database.fetch("SELECT destination, state, COUNT(*) FROM deliveries GROUP BY destination, state")
        return {(destination, State(state)): int(count) for destination, state, count in rows}

    def sent(self, numbers: Sequence[int]) -> None:
        """Note that deliveries have arrived.

        Args:
            numbers: Their numbers.
        """
        self._update("state = 'sent', attempts = attempts + 1, error = ''", [], numbers)

    def failed(self, numbers: Sequence[int], error: str, due: float | None) -> None:
        """Note that deliveries have failed.

        Args:
            numbers: Their numbers.
            error: The reason.
            due: Time of the next attempt, in seconds since the epoch; None for none: they are dead letters.
        """
        state = State.DEAD if due is None else State.WAITING
        self._update(
            "state = ?, attempts = attempts + 1, error = ?, due = ?", [state.value, error, due or 0.0], numbers
        )

    def revive(self) -> int:
        """Let all dead letters wait again, as if they had never been tried.

        Returns:
            Their number.
        """
        dead = [delivery.number for delivery in self.all(State.DEAD)]
        self._update("state = 'waiting', attempts = 0, due = 0", [], dead)
        return len(dead)

    def _find(self, condition: str, values: Sequence[object]) -> list[Delivery]:
        columns = "id, case_id, destination, state, attempts, due, error"
        rows = self._database.fetch(f"SELECT {columns} FROM deliveries WHERE {condition}", values)  # noqa: S608  # bound
        return [Delivery(*row)._replace(state=State(row[3])) for row in rows]

    def _update(self, change: str, values: Sequence[Any], numbers: Sequence[int]) -> None:
        with self._database.open() as connection:
            command = f"UPDATE deliveries SET {change} WHERE id = ?"  # noqa: S608  # values are bound
            connection.executemany(command, [[*values, number] for number in numbers])


def describe_deliveries(store: DeliveryStore) -> str:
    """Describe a queue: numbers by destination, and a line for each result that waits after a failure or is dead.

    Args:
        store: The queue.

    Returns:
        A text of lines.
    """
    lines = [f"{name}: {count} {state.value}" for (name, state), count in sorted(store.counts().items())]
    for delivery in store.all(State.DEAD, State.WAITING):
        if delivery.error:
            what = "not sent" if delivery.state is State.DEAD else "waits"
            lines.append(
                f"case {delivery.case_id} to {delivery.destination}: {what} after {delivery.attempts} attempts: "
                f"{delivery.error}"
            )
    return "\n".join(lines) or "no results to send"
