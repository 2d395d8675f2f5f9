"""Calls from one thread to another: to the server's main loop, and from it to threads that may block."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from gunicorn.workers.gthread import PollableMethodQueue

from common.logs import get_logger

log = get_logger(__name__)


class Wakeups(PollableMethodQueue):  # type: ignore[misc]
    """Calls from threads to the main loop: one wake-up for all that are made until it looks."""

    waking = False

    def defer(self, callback: Callable[..., None], *args: Any) -> None:
        """Have the main loop call this. First the entry, then the look at `waking`: none is forgotten."""
        self._queue.put(partial(callback, *args))
        if not self.waking:
            self.waking = True
            super().defer(_nothing)

    def run_callbacks(self, *unused: Any) -> None:
        """Call what was deferred so far. First `waking` ends, then the entries are counted.

        What these calls defer themselves comes with the next round: else a client that sends many requests at
        once would have them all answered before anybody else is heard.
        """
        with contextlib.suppress(BlockingIOError):  # it was read before
            os.read(self._read_fd, 64)
        self.waking = False
        for _ in range(self._queue.qsize()):
            self._queue.get_nowait()()

    def close(self) -> None:
        """Leave the pipe open: the process ends, and a thread that answers late must not write into what took its place."""


def _nothing() -> None:
    """Only wake up."""


class Threads:
    """Threads that do what may block; gunicorn's pool at a fraction of its cost."""

    def __init__(self, count: int) -> None:
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._count = count
        for number in range(count):
            threading.Thread(target=self._run, name=f"request-{number}", daemon=True).start()

    def put(self, call: Callable[[], None]) -> None:
        self._inbox.put(call)

    def shutdown(self, wait: bool = False) -> None:
        """End the threads when they have done what they have in hand."""
        for _ in range(self._count):
            self._inbox.put(None)

    def _run(self) -> None:
        while (call := self._inbox.get()) is not None:
            try:
                call()
            except Exception:  # a bug of ours; the thread is needed for the next request
                log.exception("request_failed")
