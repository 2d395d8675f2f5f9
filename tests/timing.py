"""Bounds on time that hold on a busy machine too: what the machine takes away from us is not counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_STEP = 0.005


class _Yardstick:
    """A thread that wants to run every few milliseconds, and adds up how much later it runs."""

    def __init__(self) -> None:
        self.late = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Yardstick:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._over.wait(_STEP):
            now = time.monotonic()
            self.late += max(0.0, now - last - 2 * _STEP)
            last = now


@contextmanager
def in_time(seconds: float, elsewhere: float = 4.0) -> Iterator[None]:
    """Hold that a block takes at most so many seconds, the time taken off in which this process could not run.

    Where it takes longer all the same, another process may have been held up in its stead (a relay under test): up
    to `elsewhere` times the bound is allowed for that as far as the yardstick saw any stall at all. An idle machine
    gets the bound itself.
    """
    began = time.monotonic()
    with _Yardstick() as yardstick:
        yield
        took = time.monotonic() - began
    allowed = seconds + yardstick.late * elsewhere
    assert took <= allowed, f"took {took:.3f} s; {seconds} s are allowed, and {yardstick.late:.3f} s we could not run"
