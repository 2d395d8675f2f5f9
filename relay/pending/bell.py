"""Wake-ups within one process, for polls that hold no thread.

A bell counts its rings, and each poll remembers the count at its look, so a
ring between a look and the wait is not missed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from common.clock import SystemClock

LEAST_SECONDS = 0.01  # of a wait, so that no poll spins
RECHECK_SECONDS = 1.0  # a wake-up may get lost (another machine, a dropped connection); look anyway
Woken = Callable[[], None]
_clock = SystemClock()


class Bell:
    """Rung when something may have become leasable."""

    def __init__(self) -> None:
        self.recheck_seconds = RECHECK_SECONDS
        self._changed = threading.Condition()
        self._rings = 0
        self._waiting: list[tuple[float, Woken]] = []  # until when (monotonic), who
        self._thread = threading.Thread(target=self._run, name="pending-bell", daemon=True)
        self._closed = False

    def look(self) -> int:
        """Return what to pass to `wait`: how often it was rung before the caller's look at the queue."""
        return self._rings

    def wait(self, seen: int, seconds: float, woken: Woken) -> None:
        """Have `woken` called once, in any thread: at a ring since the look, or after so many seconds.

        It must not raise and not block.
        """
        with self._changed:
            waits = self._rings == seen and not self._closed
            if waits:
                self._waiting.append((_clock.monotonic() + min(seconds, self.recheck_seconds), woken))
                self._changed.notify()
                if self._thread.ident is None:
                    self._thread.start()
        if not waits:
            woken()

    def ring(self) -> None:
        """Wake everybody who waits."""
        with self._changed:
            self._rings += 1
            waiting, self._waiting = self._waiting, []
        for _, woken in waiting:
            woken()

    def close(self) -> None:
        """Wake everybody; nobody waits from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self.ring()

    def _run(self) -> None:
        """Wake those whose time is up."""
        while not self._closed:
            for woken in self._due():
                woken()

    def _due(self) -> list[Woken]:
        with self._changed:
            if self._closed:
                return []
            first = min((until for until, _ in self._waiting), default=None)
            now = _clock.monotonic()
            if first is None or first > now:
                self._changed.wait(None if first is None else first - now)
                return []
            due = [woken for until, woken in self._waiting if until <= now]
            self._waiting = [each for each in self._waiting if each[0] > now]
            return due
