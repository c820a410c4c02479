"""Work on many files at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(job: Callable[[Item], Result], items: Sequence[Item], description: str) -> Iterator[Result]:
    """Run a job for each item on all cores, with a progress bar.

    Args:
        job: Function that releases the interpreter lock, as reading and decoding do.
        items: Its arguments.
        description: Text of the progress bar.

    Yields:
        Results in the order of the items.

    Example:
        >>> list(in_threads(len, ["a", "bc"], "Counting"))
        [1, 2]
    """
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from track(pool.map(job, items), description, total=len(items), transient=True)
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt must not wait for all of them
