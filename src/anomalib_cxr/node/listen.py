"""The node as a whole: reception, screening, sending, and the end by a signal."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from anomalib_cxr.screening.calibration.record import Calibration
from anomalib_cxr.screening.case import NOTICE
from anomalib_cxr.screening.pipeline.resumption import unscreened
from anomalib_cxr.screening.pipeline.screener import ScreenerSettings
from anomalib_cxr.screening.worklist.store import Worklist

from .destinations import Destination
from .lifecycle import stopped_by_signal, worklist_of_node
from .quiet import QuietQueue
from .receiver import Receiver, ReceiverSettings
from .screening import ScreeningLoop
from .sending import sending
from .spool import FOLDER, Spool

_LOCK = ".listen.lock"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodeSettings:
    """Settings of a node.

    Args:
        screening: Settings of the screening.
        receiver: Settings of the reception.
        quiet: Seconds without a further object after which a study is screened.
        send: Destinations of results.
    """

    screening: ScreenerSettings
    receiver: ReceiverSettings
    quiet: float = 10.0
    send: tuple[Destination, ...] = ()


def listen(settings: NodeSettings) -> None:
    """Receive X-rays and screen them until SIGINT or SIGTERM.

    Args:
        settings: Settings of the node.

    Raises:
        ScreeningError: If a setting, the model, the worklist or the port cannot be used.
    """
    output = settings.screening.output
    settings.receiver.check()
    with stopped_by_signal() as stop, worklist_of_node(settings.screening, _LOCK) as (worklist, calibration):
        spool = Spool(output.resolve() / FOLDER)
        spool.remove_unfinished()
        queue = QuietQueue(settings.quiet)
        receiver = Receiver(settings.receiver, spool, lambda stored: queue.add(stored.study, stored.path))
        try:
            loop = ScreeningLoop(settings.screening, calibration, worklist, queue)
            _resume(spool, queue, worklist, settings.screening, calibration)
            receiver.start()
            logger.info(
                "Listening: AE title %s at %s, port %d  (Ctrl-C to stop). %s",
                settings.receiver.ae_title,
                settings.receiver.host,
                receiver.port,
                NOTICE,
            )
            with sending(settings.send, worklist, spool.folder, stop):
                loop.run(stop)
        finally:
            receiver.close()
    logger.info("Stopped. Worklist: %s", output)


def _resume(
    spool: Spool, queue: QuietQueue, worklist: Worklist, settings: ScreenerSettings, calibration: Calibration
) -> None:
    """Put received objects that are not in the worklist into the queue: a node before this one was ended."""
    study_of: dict[Path, str] = {stored.path: stored.study for stored in spool.objects()}
    waiting = unscreened(study_of, worklist, settings, calibration)
    for path in waiting:
        queue.add(study_of[path], path)
    if waiting:
        logger.info("Received before and not screened yet: %d objects", len(waiting))
