"""Processes of one task each, which do not outlive the process that starts them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from threading import Thread
from typing import Any

TERMINATED = 128 + signal.SIGTERM
"""Exit status after SIGTERM, as shells have it."""


def start_process(task: Callable[..., Any], *arguments: Any, daemon: bool = False) -> SpawnProcess:
    """Start a task in a new process, which ends with this one, even if this one is killed.

    Args:
        task: An importable function, or a method of an object that can be pickled.
        arguments: Arguments of the task.
        daemon: Do not wait for the task when this process ends. It cannot start processes then, as data loaders do.

    Returns:
        The process.

    Example:
        >>> process = start_process(print, "another process")
        >>> process.join()
        >>> process.exitcode
        0
    """
    process = get_context("spawn").Process(target=_run_task, args=(task, arguments), daemon=daemon)
    process.start()
    return process


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end this process by `SystemExit`, with its clean-ups: as Ctrl-C does, and at once.

    Lightning otherwise lets a training survive the signal until its next batch, and the validation or a fit within one
    batch for minutes. Its handler calls this one. Only for the main thread, which signals interrupt.

    Yields:
        Nothing.
    """

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one must not end the clean-up
        sys.exit(TERMINATED)

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _run_task(task: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    task(*arguments)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
