"""Work on many files at the same time."""

from __future__ import annotations

import os
import threading
import time

import pytest

from anomalib_cxr.utils.threads import in_order, in_threads


def test_results_are_in_order_however_long_each_takes():
    second_is_done = threading.Event()

    def job(number):
        if number == 0:
            assert second_is_done.wait(60)
        second_is_done.set()
        return number

    if (os.cpu_count() or 1) < 2:
        pytest.skip("needs two threads")
    assert list(in_threads(job, [0, 1, 2], "Counting")) == [0, 1, 2]


def test_an_error_ends_the_run_and_what_was_not_begun():
    begun = []

    def job(number):
        begun.append(number)
        if number == 0:
            raise ValueError("damaged")
        time.sleep(0.01)

    with pytest.raises(ValueError, match="damaged"):
        list(in_threads(job, range(10_000), "Counting"))
    assert len(begun) < 10_000


class TestInOrder:
    def test_results_are_in_order_however_long_each_takes(self):
        second_is_done = threading.Event()

        def job(number):
            if number == 0:
                assert second_is_done.wait(60)
            second_is_done.set()
            return number

        assert list(in_order(job, iter([0, 1, 2]), 2)) == [0, 1, 2]

    def test_no_more_than_one_item_waits_for_a_thread(self):
        asked = []
        results = in_order(abs, (asked.append(number) or number for number in range(1000)), 3)
        assert [next(results) for _ in range(5)] == list(range(5))
        assert len(asked) == 8
        results.close()

    def test_an_error_comes_in_its_place(self):
        results = in_order(lambda number: 1 // number, iter([1, 0, 1]), 2)
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
