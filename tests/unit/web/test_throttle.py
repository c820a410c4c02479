"""Waiting time after wrong passwords."""

from __future__ import annotations

import pytest

from anomalib_cxr.web import throttle as module
from anomalib_cxr.web.throttle import MAX_WAIT, Throttle, network_of


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_waiting_time_doubles_up_to_its_bound(clock):
    throttle = Throttle()
    waits = [throttle.fail("192.0.2.7") for _ in range(14)]
    assert waits == [0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, MAX_WAIT, MAX_WAIT]
    assert throttle.seconds_left("192.0.2.7") == MAX_WAIT
    clock.now += MAX_WAIT
    assert throttle.seconds_left("192.0.2.7") == 0


def test_of_others_do_not_count(clock):
    throttle = Throttle()
    for _ in range(5):
        throttle.fail("192.0.2.7")
        throttle.fail(network_of("2001:db8::1"))
    assert throttle.seconds_left("192.0.2.8") == 0
    assert throttle.seconds_left(network_of("2001:db8:0:1::1")) == 0
    assert throttle.seconds_left(network_of("2001:db8::ffff")) == throttle.seconds_left("192.0.2.7") == 2


def test_a_right_one_clears_them(clock):
    throttle = Throttle()
    for _ in range(5):
        throttle.fail("192.0.2.7")
    throttle.succeed("192.0.2.7")
    assert throttle.seconds_left("192.0.2.7") == 0


def test_keys_in_memory_are_bounded(clock, monkeypatch):
    monkeypatch.setattr(module, "_MAX_KEYS", 2)
    throttle = Throttle()
    for host in ("192.0.2.1",) * 5 + ("192.0.2.2", "192.0.2.3"):
        throttle.fail(host)
    assert throttle.seconds_left("192.0.2.1") == 0  # the one whose last failure is the oldest was dropped
