"""Wake-ups within one process.

A bell counts its rings, and each thread remembers the count at its last look,
so a ring between a look and the wait is not missed.
"""

from __future__ import annotations

import threading

LEAST_SECONDS = 0.01  # of a wait, so that no poll spins
RECHECK_SECONDS = 1.0  # a wake-up may get lost (another machine, a dropped connection); look anyway


class Bell:
    """Rung when something may have become leasable."""

    def __init__(self) -> None:
        self.recheck_seconds = RECHECK_SECONDS
        self._rung = threading.Condition()
        self._rings = 0
        self._local = threading.local()

    def ring(self) -> None:
        """Wake every waiting thread."""
        with self._rung:
            self._rings += 1
            self._rung.notify_all()

    def look(self) -> None:
        """Remember, for this thread, that it looks at the queue now."""
        self._local.seen = self._rings
        self._local.due = self.recheck_seconds

    def expect(self, seconds: float) -> None:
        """Remember, for this thread, that something falls due in so many seconds."""
        self._local.due = max(LEAST_SECONDS, min(seconds, self.recheck_seconds))

    def wait(self, timeout: float) -> bool:
        """Block until a ring since this thread's last look, its due time, or the timeout.

        True: look again. False: the timeout is over and nothing happened.
        """
        seen = getattr(self._local, "seen", self._rings)
        due = getattr(self._local, "due", self.recheck_seconds)
        with self._rung:
            rung = self._rung.wait_for(lambda: self._rings != seen, min(timeout, due))
        return rung or due < timeout
