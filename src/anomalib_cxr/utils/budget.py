"""A bound of what several threads hold at the same time, such as memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Budget:
    """Amount that threads share; who wants more than is left waits until others are done.

    Args:
        total: The amount.

    Example:
        >>> pixels = Budget(100)
        >>> with pixels.reserve(70):
        ...     pixels.left
        30
        >>> pixels.left
        100
    """

    def __init__(self, total: int) -> None:
        self.total = self.left = total
        self._changed = Condition()

    @contextmanager
    def reserve(self, amount: int) -> Iterator[None]:
        """Take a part for the time of a block; more than the total counts as the total.

        Args:
            amount: The part.

        Yields:
            Nothing.
        """
        amount = min(amount, self.total)
        with self._changed:
            self._changed.wait_for(lambda: self.left >= amount)
            self.left -= amount
        try:
            yield
        finally:
            with self._changed:
                self.left += amount
                self._changed.notify_all()
