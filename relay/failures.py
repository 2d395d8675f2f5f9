"""Wrong secrets, counted by address: a guesser is slowed down, a sender never is."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from threading import Lock

ALLOWED_FAILURES, WINDOW_SECONDS = 60, 60.0
MOST_ADDRESSES = 10_000  # beyond it the address not seen for longest is forgotten: memory stays flat


class FailureCounter:
    """Counts failures in a window of a minute that begins with an address's first."""

    def __init__(self, most: int = MOST_ADDRESSES) -> None:
        self._most = most
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()  # group -> (start, failures)
        self._lock = Lock()

    def add(self, address: str, now: float) -> tuple[int, int]:
        """Count one failure; return how many there are in the window, and after how many seconds to retry.

        The second number is 0 while the address is within its 60 a minute.
        """
        group = address_group(address)
        with self._lock:
            start, count = self._windows.pop(group, (now, 0))
            if now - start >= WINDOW_SECONDS:
                start, count = now, 0
            self._windows[group] = (start, count + 1)
            if len(self._windows) > self._most:
                self._windows.popitem(last=False)
        if count < ALLOWED_FAILURES:
            return count + 1, 0
        return count + 1, max(1, math.ceil(start + WINDOW_SECONDS - now))

    def __len__(self) -> int:
        return len(self._windows)


class LineLimit:
    """Lets at most so many log lines through a minute: a spray of requests fills no disk."""

    def __init__(self, most: int = 60) -> None:
        self._most, self._start, self._count = most, 0.0, 0

    def allows(self, now: float) -> bool:
        """Count one line; return whether it may be written. Two threads at once may let one more through."""
        if now - self._start >= WINDOW_SECONDS:
            self._start, self._count = now, 0
        self._count += 1
        return self._count <= self._most


def address_group(address: str) -> str:
    """Return what is counted as one sender: an IPv4 address, or an IPv6 network of one customer (/64).

    >>> address_group("2001:db8::1") == address_group("2001:db8::2"), address_group("::ffff:10.0.0.1")
    (True, '10.0.0.1')
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # whoever hides where he comes from is counted with his like
        return "unknown"
    if found.version == 6:
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
