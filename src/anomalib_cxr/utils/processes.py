"""Processes of one task each, which do not outlive the process that starts them."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from threading import Thread
from typing import Any


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


def _run_task(task: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    task(*arguments)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
