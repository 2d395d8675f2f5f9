"""The half of the port that both engines share: each call is work for a ledger, done in a transaction.

An engine adds how work is done (`_do`), how a signal is stored, and how to
prove that it can be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from common.clock import utc_text
from common.errors import QueueUnavailable
from relay.pending.base import (
    MODES,
    AckResult,
    DeadLetter,
    Mode,
    Refused,
    Stats,
    Told,
)
from relay.pending.promise import Patience, Promise
from relay.pending.writer import GroupWriter

POLL_NOTED_EVERY = timedelta(seconds=5)
HOUSEKEEP_EVERY = timedelta(minutes=10)


Work = Callable[[Any], Any]  # what to do with the engine's ledger: its tables within one transaction
Job = tuple[Any, bool]  # the work, or what an engine does in its place; whether it may make something leasable


class Front:
    """The Pending port, but for put, take, refuse, ready and close; see relay.pending.base for what it promises."""

    def __init__(self) -> None:
        self._patience = Patience()
        self._noted_at: datetime | None = None
        self._housekept_at: datetime | None = None

    def _do(self, work: Any, *, wakes: bool = False) -> Any:
        """Do the work in a transaction and return its result after the commit."""
        raise NotImplementedError

    def _post(self, work: Work) -> None:
        """Have the work done some time."""
        raise NotImplementedError

    def _promise(self, writer: GroupWriter[Any], job: Any, told: Told) -> None:
        """Have a writer do a job without waiting for it; `told` hears in time, whatever happens."""
        promise: Promise[Any] = Promise(job, told)
        try:
            writer.hand_in(promise)
        except QueueUnavailable as exc:
            promise.tell(exc)
        else:
            self._patience.watch(promise)

    def ack(self, acks: Sequence[tuple[str, str]], now: datetime) -> AckResult:
        result: AckResult = self._do(lambda ledger: ledger.ack(acks, now), wakes=True)
        return result

    def nack(self, id: str, lease: str, reason: str, retry_seconds: float, now: datetime) -> bool:
        return bool(self._do(lambda ledger: ledger.nack(id, lease, reason, retry_seconds, now), wakes=True))

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

    def dead(self, limit: int) -> list[DeadLetter]:
        return list(self._do(lambda ledger: ledger.dead(limit)))

    def requeue(self, id: str, now: datetime) -> bool:
        return bool(self._do(lambda ledger: ledger.requeue(id), wakes=True))

    def purge(self, state: Literal["pending", "dead"], before: datetime, now: datetime) -> int:
        return sum(iter(lambda: self._do(lambda ledger: ledger.purge(state, before, now)), 0))
