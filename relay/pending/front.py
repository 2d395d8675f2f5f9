"""The half of the port that both engines share: each call is work for a ledger, done in a transaction.

An engine adds how work is done (`_begin`, `_do`), how a signal is stored, how
a poll waits, and how to prove that signals can be stored.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from common.clock import utc_text
from common.errors import QueueUnavailable
from relay.pending.base import (
    BEGINNING,
    MODES,
    AckResult,
    DeadLetter,
    Leased,
    Mode,
    Notice,
    Refused,
    Stats,
    Told,
    Wish,
    outcome_of,
)
from relay.pending.promise import Patience, Promise
from relay.pending.writer import GroupWriter

POLL_NOTED_EVERY = timedelta(seconds=5)
HOUSEKEEP_EVERY = timedelta(minutes=10)


Work = Callable[[Any], Any]  # what to do with the engine's ledger: its tables within one transaction
Job = tuple[Any, bool]  # the work, or what an engine does in its place; whether it may make something leasable


class Front(ABC):
    """The Pending port, but for put, poll, ready and close; see relay.pending.base for what it promises."""

    def __init__(self) -> None:
        self._patience = Patience()
        self._noted_at: datetime | None = None
        self._housekept_at: datetime | None = None

    @abstractmethod
    def _do(self, work: Any, *, wakes: bool = False) -> Any:
        """Do the work in a transaction and return its result after the commit."""

    @abstractmethod
    def _begin(self, work: Work, told: Told, *, wakes: bool = False) -> None:
        """Have the work done in a transaction; its result or error is told after the commit, in time."""

    @abstractmethod
    def _post(self, work: Work) -> None:
        """Queue the work; nobody waits for it."""

    @abstractmethod
    def poll(self, wish: Wish, told: Told) -> None:
        """Lease; see relay.pending.base.Pending."""

    def _promise(self, writer: GroupWriter[Any], job: Any, told: Told) -> None:
        """Have a writer do a job without waiting for it; `told` hears in time, whatever happens."""
        self._hand_in(writer, Promise(job, told), self._patience)

    def _hand_in(self, writer: GroupWriter[Any], promise: Promise[Any], patience: Patience) -> None:
        try:
            writer.hand_in(promise)
        except QueueUnavailable as exc:
            promise.tell(exc)
        else:
            patience.watch(promise)

    def take(self, wish: Wish) -> list[Leased]:
        return list(_result_of(partial(self.poll, wish)))

    def finish(self, acks: Sequence[tuple[str, str]], now: datetime, told: Told) -> None:
        self._begin(lambda ledger: ledger.ack(acks, now), told, wakes=True)

    def ack(self, acks: Sequence[tuple[str, str]], now: datetime) -> AckResult:
        result: AckResult = _result_of(partial(self.finish, acks, now))
        return result

    def give_back(self, id: str, lease: str, reason: str, retry_seconds: float, now: datetime, told: Told) -> None:
        self._begin(lambda ledger: ledger.nack(id, lease, reason, retry_seconds, now), told, wakes=True)

    def nack(self, id: str, lease: str, reason: str, retry_seconds: float, now: datetime) -> bool:
        return bool(_result_of(partial(self.give_back, id, lease, reason, retry_seconds, now)))

    def refuse(self, refused: Refused, told: Told) -> None:
        self._begin(lambda ledger: ledger.refuse(refused), told)

    def note(self, notice: Notice, told: Told) -> None:
        self._begin(lambda ledger: ledger.note(notice), told)

    def notices(self, now: datetime, told: Told) -> None:
        self._begin(lambda ledger: ledger.notices(now), told)

    def heard(self, ids: Sequence[int], told: Told) -> None:
        self._begin(lambda ledger: ledger.heard(ids), told)

    def stats(self, now: datetime) -> Stats:
        stats: Stats = self._do(lambda ledger: ledger.stats(now))
        return stats

    def note_poll(self, now: datetime) -> None:
        if self._noted_at is not None and abs(now - self._noted_at) < POLL_NOTED_EVERY:
            return
        self._noted_at = now
        with contextlib.suppress(QueueUnavailable):  # it is closed, and so is the relay
            self._post(lambda ledger: ledger.set("last_poll_at", utc_text(now)))
            if self._housekept_at is None or abs(now - self._housekept_at) >= HOUSEKEEP_EVERY:
                self._housekept_at = now
                self._post(lambda ledger: ledger.housekeep(now))

    def set_mode(self, mode: Mode) -> None:
        if mode not in MODES:
            raise ValueError(f"the mode must be one of {', '.join(MODES)}, was {mode!r}")
        self._do(lambda ledger: ledger.set("mode", mode), wakes=True)

    def refused(self, limit: int) -> list[Refused]:
        return list(self._do(lambda ledger: ledger.refused(limit)))

    def dead(self, limit: int, since: datetime = BEGINNING) -> list[DeadLetter]:
        return list(self._do(lambda ledger: ledger.dead(limit, since)))

    def requeue(self, id: str, now: datetime) -> bool:
        return bool(self._do(lambda ledger: ledger.requeue(id), wakes=True))

    def purge(self, state: Literal["pending", "dead"], before: datetime, now: datetime) -> int:
        return sum(iter(lambda: self._do(lambda ledger: ledger.purge(state, before, now)), 0))


def _result_of(call: Callable[[Told], None]) -> Any:
    """Wait for what a work tells, in this thread; an error is raised."""
    outcome = outcome_of(call)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
