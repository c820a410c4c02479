"""Queue of groups that are released when nothing more comes."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

A, B, C = Path("a"), Path("b"), Path("c")


def test_a_group_waits_for_its_last_file(queue, clock):
    queue.add("study", A)
    clock.now = 9
    queue.add("study", B)
    clock.now = 18
    assert queue.take() == []
    clock.now = 19
    assert queue.take() == [A, B]
    assert queue.take() == []


def test_groups_wait_apart_and_the_longest_quiet_one_is_first(queue, clock):
    queue.add("late", A)
    queue.add("early", B)
    clock.now = 1
    queue.add("late", C)
    clock.now = 10
    assert queue.take() == [B]
    clock.now = 11
    assert queue.take() == [A, C]


def test_a_file_that_comes_twice_is_there_once(queue, clock):
    queue.add("study", A)
    queue.add("study", A)
    assert len(queue) == 1
    clock.now = 10
    assert queue.take() == [A]


def test_threads_lose_nothing(queue, clock):
    def fill(name):
        for number in range(500):
            queue.add(name, Path(name, str(number)))

    threads = [Thread(target=fill, args=(str(name),)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock.now = 10
    assert len(set(queue.take())) == 2000
