"""Work on many files at the same time, with results in their order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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


def in_order(job: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Compute results in threads, one item more ahead than there are threads, whatever the number of items.

    Args:
        job: Function of an item.
        items: The items, asked for in the thread of the caller.
        threads: Number of threads.

    Yields:
        Results in the order of the items. An exception of the function is raised in the place of its result.

    Example:
        >>> list(in_order(str.upper, "abc", 2))
        ['A', 'B', 'C']
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(job, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
