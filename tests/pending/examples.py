"""Signals for tests: name only what matters."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.pending.base import Accepted, Leased, NewSignal, Pending, Wish, outcome_of

START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
_numbers = itertools.count(1)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def signal(
    symbol: str = "EURUSD", *, key: str | None = None, what: object = None, now: datetime = START, **fields: Any
) -> NewSignal:
    """Return a new signal; the same `what` makes the same fingerprint, none a fingerprint of its own."""
    number = next(_numbers)
    content = hashlib.sha256(repr(number if what is None else what).encode()).hexdigest()
    defaults: dict[str, Any] = {
        "id": f"{number:026d}", "symbol": symbol, "action": "open", "dedupe_key": key, "fingerprint": content,
        "received_at": now, "expires_at": now + timedelta(seconds=90), "headers": {"webhook-id": str(number)},
        "payload": f'{{"n":{number}}}',
    }  # fmt: skip
    return NewSignal(**(defaults | fields))


def fill(queue: Pending, *symbols: str, **fields: Any) -> list[str]:
    """Put one signal a symbol and return their ids."""
    return [put(queue, signal(symbol, **fields), fields.get("now", START)).id for symbol in symbols]


def put(queue: Pending, new: NewSignal, now: datetime) -> Accepted:
    """Put one signal and wait for its commit; raise what it is refused with."""
    outcome = outcome_of(lambda told: queue.put(new, now, told))
    if isinstance(outcome, Exception):
        raise outcome
    assert isinstance(outcome, Accepted)
    return outcome


def take(queue: Pending, now: datetime = START, *, limit: int = 10, seconds: float = 10) -> list[Leased]:
    """Lease what there is, without waiting."""
    return queue.take(Wish(limit, seconds, lambda: now, 0, lambda: True))


def housekeep(queue: Any, now: datetime) -> int:
    """Forget as the queue does by itself now and then; return how many."""
    return int(queue._do(lambda ledger: ledger.housekeep(now)))


def ids(leased: list[Leased]) -> list[str]:
    return [one.id for one in leased]


def acks(leased: list[Leased]) -> list[tuple[str, str]]:
    return [(one.id, one.lease) for one in leased]
