"""Tickets whose caller does not wait: a function gets the outcome, in time whatever the writer does."""

from __future__ import annotations

import threading
from collections import deque

from common.clock import SystemClock
from common.errors import QueueUnavailable
from relay.pending.base import PUT_SECONDS, MaybeStored, Told
from relay.pending.writer import GRACE_SECONDS, Job, Ticket

LOOK_SECONDS = 0.05  # how often those who wait are looked at
# When a promise is given up, so that its caller hears within PUT_SECONDS in any case.
PATIENCE_SECONDS = PUT_SECONDS - GRACE_SECONDS - 2 * LOOK_SECONDS

_clock = SystemClock()


class Promise(Ticket[Job]):
    """Work whose outcome is reported once: by the writer, or by Patience when it takes too long."""

    __slots__ = ("_hear", "_told", "until")

    def __init__(self, job: Job, hear: Told, seconds: float = PATIENCE_SECONDS) -> None:
        super().__init__(job)
        self._hear, self._told = hear, threading.Lock()
        self.until = _clock.monotonic() + seconds

    def answer(self, outcome: object) -> None:
        if self.seal():
            self._done.release()
            self.tell(outcome)

    def tell(self, outcome: object) -> None:
        """Report the outcome, unless one was reported before."""
        if self._told.acquire(blocking=False):
            self._hear(outcome)


class Patience:
    """Watches over promises that are given the same time, in a thread of its own that rests while there are none."""

    def __init__(self, look_seconds: float = LOOK_SECONDS) -> None:
        self._look_seconds = look_seconds
        self._open: deque[Promise[object]] = deque()  # in the order of their ends
        self._committing: deque[Promise[object]] = deque()  # given up, but already part of a commit
        self._some = threading.Event()
        self._start = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="pending-patience", daemon=True)

    def watch(self, promise: Promise[object]) -> None:
        self._open.append(promise)
        if not self._some.is_set():
            self._some.set()
        if self._thread.ident is None:
            with self._start:
                if self._thread.ident is None:
                    self._thread.start()

    def _run(self) -> None:
        pause = threading.Event()
        while self._some.wait():
            pause.wait(self._look_seconds)
            self.look()
            if not self._open and not self._committing:
                self._some.clear()
                if self._open:  # came just now, and found it set
                    self._some.set()

    def look(self) -> None:
        """Give up what has waited too long: taken back where that is possible, else it may have been stored."""
        for promise in _due(self._open):
            if promise.withdraw():
                promise.tell(QueueUnavailable("the queue did not get to it in time; nothing was stored"))
            else:
                promise.until += GRACE_SECONDS
                self._committing.append(promise)
        for promise in _due(self._committing):
            promise.tell(MaybeStored("the commit did not come back in time; send it again"))


def _due(promises: deque[Promise[object]]) -> list[Promise[object]]:
    """Take those out that are answered or whose time is up; return the latter."""
    now, due = _clock.monotonic(), []
    while promises and (promises[0].is_answered or promises[0].until <= now):
        promise = promises.popleft()
        if not promise.is_answered:
            due.append(promise)
    return due
