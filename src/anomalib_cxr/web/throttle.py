"""Waiting time after wrong passwords."""

from __future__ import annotations

import time
from ipaddress import IPv6Address, ip_address, ip_network

FREE_ATTEMPTS = 3
"""Wrong passwords that cost no waiting time."""
MAX_WAIT = 300
"""Waiting time after a wrong password in seconds, at most."""
_MAX_KEYS = 10_000  # in memory


class Throttle:
    """Waiting time between wrong passwords, doubled with each, for each key: an address, or a name.

    Example:
        >>> throttle = Throttle()
        >>> waits = [throttle.fail("192.0.2.7") for _ in range(6)]
        >>> waits, throttle.seconds_left("192.0.2.7") > 3, throttle.seconds_left("192.0.2.8")
        ([0, 0, 0, 1, 2, 4], True, 0.0)
    """

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}  # number, and when the next attempt is admitted

    def fail(self, key: str) -> int:
        """Count a wrong password.

        Args:
            key: Address that sent it, or name that it was for.

        Returns:
            Seconds to wait.
        """
        failures = self._failures.pop(key, (0, 0.0))[0] + 1
        excess = failures - FREE_ATTEMPTS
        wait = 0 if excess <= 0 else min(2 ** min(excess - 1, 16), MAX_WAIT)
        self._failures[key] = failures, time.monotonic() + wait
        while len(self._failures) > _MAX_KEYS:
            del self._failures[next(iter(self._failures))]  # the one that failed the longest time ago
        return wait

    def succeed(self, key: str) -> None:
        """Forget the wrong passwords of a key.

        Args:
            key: Address that sent the right one, or name that it was for.
        """
        self._failures.pop(key, None)

    def seconds_left(self, key: str) -> float:
        """Return the seconds until another password is admitted.

        Args:
            key: Address that sends it, or name that it is for.
        """
        return max(0.0, self._failures.get(key, (0, 0.0))[1] - time.monotonic())


def network_of(host: str) -> str:
    """Return an IPv4 address as it is, and of an IPv6 address the network, in which a machine has any number of them.

    Args:
        host: Address.

    Example:
        >>> network_of("192.0.2.7"), network_of("2001:db8::7"), network_of("testclient")
        ('192.0.2.7', '2001:db8::/64', 'testclient')
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else host
