"""Sending of results to a destination, with attempts that become rarer, for as long as the node runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.case import Case
from anomalib_cxr.screening.worklist.store import Worklist

from .deliveries import Delivery, DeliveryStore, describe_deliveries
from .destinations import Destination, Send
from .dicomweb import RejectedError, UnreachableError
from .result_objects import write_objects

BACK_OFF = (5.0, 30.0, 120.0, 300.0, 900.0)
"""Seconds until the second, third, ... attempt; then the last one."""
REJECTED_ATTEMPTS = 3
"""Attempts of a result that a destination does not take, or whose X-ray is gone; then it is a dead letter."""
UNREACHABLE_ATTEMPTS = 700
"""Attempts while a destination is down, which take a week; then a result is a dead letter."""
_TICK = 0.5
logger = logging.getLogger(__name__)


class SendingLoop:
    """Loop that sends the results of a worklist to one destination.

    A result whose arrival was not noted, since the node was killed, is sent again: by its UIDs the destination knows
    that it is the same.

    Args:
        destination: The destination.
        deliveries: Queue of deliveries.
        worklist: Folder of the worklist.
        below: Only results of X-rays below this folder; None for all of the worklist.
        clock: Function that returns the time in seconds since the epoch.
    """

    def __init__(
        self,
        destination: Destination,
        deliveries: DeliveryStore,
        worklist: Path,
        below: Path | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._destination, self._deliveries, self._clock = destination, deliveries, clock
        self._worklist, self._below = worklist, "" if below is None else f"{below}/"

    def run(self, stop: Event) -> None:
        """Send until the end is asked for.

        Args:
            stop: Event that asks for the end, after the result that is being sent.
        """
        while not stop.is_set():
            try:
                busy = self.send_due(stop)
            except ScreeningError as error:  # the worklist is locked, or the disk is full
                logger.warning("Sending to %s waits: %s", self._destination.name, error.found)
                busy = False
            if not busy:
                stop.wait(_TICK)

    def send_due(self, stop: Event | None = None) -> bool:
        """Send what is due now.

        Args:
            stop: Event that asks for the end.

        Returns:
            True if there was anything, and the destination is up.

        Raises:
            ScreeningError: If the worklist cannot be used.
        """
        self._deliveries.enqueue([self._destination.name], self._below)
        due = self._deliveries.due(self._destination.name, self._clock())
        if not due:
            return False
        waiting = [delivery for delivery, _ in due]
        try:
            with self._destination.session() as send:
                while waiting and not (stop and stop.is_set()):
                    delivery, case = due[len(due) - len(waiting)]
                    self._send_one(send, delivery, case)
                    del waiting[0]
        except UnreachableError as error:
            self._fail(waiting, f"{error}", UNREACHABLE_ATTEMPTS)
            return False
        return True

    def _send_one(self, send: Send, delivery: Delivery, case: Case) -> None:
        try:
            files = write_objects(case, self._worklist)
        except ScreeningError as error:
            self._fail([delivery], error.found, REJECTED_ATTEMPTS)
            return
        try:
            send(files)
        except RejectedError as error:
            self._fail([delivery], f"{error}", REJECTED_ATTEMPTS)
        else:
            self._deliveries.sent([delivery.number])
            logger.info("Sent to %s: result of case %d", self._destination.name, delivery.case_id)

    def _fail(self, failed: list[Delivery], reason: str, limit: int) -> None:
        """Note failures, each with the time of its next attempt."""
        dead = 0
        for delivery in failed:
            attempts = delivery.attempts + 1
            due = None if attempts >= limit else self._clock() + BACK_OFF[min(attempts, len(BACK_OFF)) - 1]
            dead += due is None
            self._deliveries.failed([delivery.number], reason, due)
        logger.warning(
            "Not sent to %s: %d results, %d of them for good: %s", self._destination.name, len(failed), dead, reason
        )


@contextmanager
def sending(destinations: Sequence[Destination], worklist: Worklist, below: Path | None, stop: Event) -> Iterator[None]:
    """Send results in threads, one for each destination, so that none that is slow holds up the others.

    Args:
        destinations: The destinations.
        worklist: The worklist.
        below: Only results of X-rays below this folder; None for all of the worklist.
        stop: Event that asks for the end; it is set when the block ends.

    Yields:
        Nothing.
    """
    store = DeliveryStore(worklist)
    loops = [SendingLoop(destination, store, worklist.folder, below) for destination in destinations]
    threads = [Thread(target=loop.run, args=(stop,), daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def send_results(destinations: Sequence[Destination], worklist: Worklist) -> None:
    """Send the results of a worklist now; what cannot be sent waits for the next time.

    Args:
        destinations: The destinations.
        worklist: The worklist.

    Raises:
        ScreeningError: If the worklist cannot be used.
    """
    store = DeliveryStore(worklist)
    for destination in destinations:
        loop = SendingLoop(destination, store, worklist.folder, None)
        while loop.send_due():
            pass
    logger.info("%s", describe_deliveries(store))
