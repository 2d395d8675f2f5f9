"""One thread that writes, many callers that wait: group commit.

A commit costs a trip to the disk whatever it holds, so everything that came
in during one trip shares the next. The promise is in the order: a caller is
answered after the commit that holds its work, or told that nothing was stored.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from common.errors import QueueUnavailable
from relay.pending.base import PUT_SECONDS, MaybeStored

Job = TypeVar("Job")
BATCH = 512  # jobs of one commit
GRACE_SECONDS = 0.2  # for a commit that is on its way when the time is up


class Ticket(Generic[Job]):
    """One caller's work and its answer. Who claims it first decides: its caller withdraws it, or the writer
    seals it, that is, takes it into a commit.

    Two plain locks: a Future does the same at three times the cost, and each alert pays it.
    """

    __slots__ = ("_claim", "_done", "_outcome", "job", "sealed", "withdrawn")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.sealed: bool | None = None  # None: not tried yet
        self.withdrawn = False
        self._outcome: object = None
        self._claim, self._done = threading.Lock(), threading.Lock()
        self._done.acquire()

    def withdraw(self) -> bool:
        """Take the work back; False if it is already part of a commit."""
        self.withdrawn = self._claim.acquire(blocking=False)
        return self.withdrawn

    def seal(self) -> bool:
        """Take the caller's right to withdraw away; False if it already has withdrawn."""
        if self.sealed is None:
            self.sealed = self._claim.acquire(blocking=False)
        return self.sealed

    def answer(self, outcome: object) -> None:
        """Hand the outcome over; an exception is raised in the caller."""
        if self.seal():
            self._outcome = outcome
            self._done.release()

    @property
    def is_answered(self) -> bool:
        return not self._done.locked()

    def result(self, seconds: float) -> Any:
        """Return the outcome, or raise it; only its caller asks, and only once after it was answered.

        Raises:
            TimeoutError: It was not answered in time.
        """
        if not self._done.acquire(timeout=seconds):
            raise TimeoutError
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def committed(self, seconds: float) -> Any:
        """Return the outcome of what cannot be withdrawn any more, or raise it.

        Raises:
            MaybeStored: Its commit did not come back in time.
        """
        try:
            return self.result(seconds)
        except TimeoutError:
            raise MaybeStored("the commit did not come back in time; send it again") from None


def seal_all(tickets: list[Ticket[Job]]) -> list[Ticket[Job]]:
    """Seal every ticket and return those that nobody withdrew."""
    return [ticket for ticket in tickets if ticket.seal()]


def fail_all(tickets: list[Ticket[Job]], error: QueueUnavailable) -> None:
    """Answer every ticket with the same error, each with its own copy: a raised one gets a traceback."""
    for ticket in tickets:
        ticket.answer(type(error)(str(error)))


class GroupWriter(Generic[Job]):
    """Hands the tickets that came in meanwhile to `run`, in its own thread, batch after batch.

    `run` must answer every ticket, after its commit. `again` is called after
    each batch, and when there was none for as long as `idle_seconds` says; it
    returns tickets to be run once more.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[list[Ticket[Job]]], None],
        *,
        again: Callable[[], list[Ticket[Job]]] = list,
        idle_seconds: Callable[[], float | None] = lambda: None,
        finish: Callable[[], None] = lambda: None,
    ) -> None:
        self._run, self._again, self._idle_seconds, self._finish = run, again, idle_seconds, finish
        self._inbox: queue.SimpleQueue[Ticket[Job] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._start = threading.Lock()
        self._closed = False

    def submit(self, job: Job, seconds: float = PUT_SECONDS) -> Any:
        """Return the job's result after its commit.

        Raises:
            QueueUnavailable: Not started within the time, so it never will be.
            MaybeStored: Its commit was on its way when the time was up.
        """
        ticket = self.post(job)
        with contextlib.suppress(TimeoutError):  # then see below
            return ticket.result(seconds - GRACE_SECONDS)
        if ticket.withdraw():
            raise QueueUnavailable(f"the queue did not get to it within {seconds:.1f} s; nothing was stored")
        return ticket.committed(GRACE_SECONDS)

    def post(self, job: Job) -> Ticket[Job]:
        """Hand a job in without waiting."""
        ticket = Ticket(job)
        self.hand_in(ticket)
        return ticket

    def hand_in(self, ticket: Ticket[Job]) -> None:
        """Hand a ticket in without waiting."""
        if self._closed:
            raise QueueUnavailable("the queue is closed")
        self._inbox.put(ticket)
        self._ensure_running()

    def close(self, seconds: float = PUT_SECONDS) -> None:
        """Finish what was handed in, then end the thread."""
        self._closed = True
        self._inbox.put(None)
        self._ensure_running()
        self._thread.join(seconds)

    def _ensure_running(self) -> None:
        if self._thread.ident is not None:
            return
        with self._start:
            if self._thread.ident is None:
                self._thread.start()

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            self._run_safely(batch)
            self._run_safely(self._again())
        self._finish()

    def _run_safely(self, batch: list[Ticket[Job]]) -> None:
        try:
            if batch:
                self._run(batch)
        except Exception as exc:  # a fault in one batch must not end the thread
            for ticket in batch:
                if not ticket.is_answered:
                    ticket.answer(exc)

    def _next_batch(self) -> list[Ticket[Job]] | None:
        """Return what came in, [] when nothing did for a while, None at the end."""
        try:
            ticket = self._inbox.get(timeout=self._idle_seconds())
        except queue.Empty:
            return []
        batch: list[Ticket[Job]] = []
        while ticket is not None:
            batch.append(ticket)
            if len(batch) >= BATCH or self._inbox.empty():
                return batch
            ticket = self._inbox.get()
        if batch:
            self._inbox.put(None)  # what came before the end is still written
        return batch or None
