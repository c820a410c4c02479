"""Threads never hold more than there is, and all get their turn."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import pytest

from anomalib_cxr.utils.budget import Budget


@pytest.mark.parametrize("amounts", [[40, 60, 70, 10, 100, 90, 30, 0] * 4, [500, 200] * 4])
def test_never_more_than_the_total_at_once(amounts):
    budget, lock, held, highest = Budget(100), Lock(), [], []

    def hold(amount):
        with budget.reserve(amount):
            with lock:
                held.append(min(amount, 100))
                highest.append(sum(held))
            time.sleep(0.002)
            with lock:
                held.remove(min(amount, 100))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, amounts))
    assert len(highest) == len(amounts)
    assert max(highest) <= 100
    assert budget.left == 100


def test_an_exception_gives_it_back():
    budget = Budget(100)
    with pytest.raises(KeyError), budget.reserve(60):
        raise KeyError
    assert budget.left == 100
