"""What the queue decides about delivery, as functions of what it read. Both engines share them.

The engines lock and read, ask here, write, commit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from common.clock import parse_utc, utc_text
from common.errors import AnotherConsumer
from relay.pending.base import MAX_ATTEMPTS, MAX_HOLD, MAX_LEASE_SECONDS, MAX_RETRY_SECONDS, Consumer, Mode

EXHAUSTED = "leased 5 times and never acked"
OVERTAKEN = "held by close-only mode, then overtaken by a later signal of its symbol"
PURGE_CHUNK = 2000  # signals of one transaction, so that accepting goes on meanwhile
HOUSEKEEP_STEP = timedelta(days=1)
CLAIM_EVERY = timedelta(seconds=5)  # how often a consumer's claim is renewed


@dataclass(frozen=True, slots=True)
class Waiting:
    """An unfinished signal that may be next."""

    seq: int
    id: str
    symbol: str
    attempts: int
    lease: str | None  # of its last holder
    held_until: datetime | None
    reason: str | None  # of its last nack
    received_at: datetime
    headers: str  # JSON
    payload: str


@dataclass(slots=True)
class Picked:
    """Which signals to lease; or, first, what blocks the head of a line and must go."""

    leased: list[Waiting] = field(default_factory=list)
    exhausted: list[Waiting] = field(default_factory=list)
    held_heads: list[str] = field(default_factory=list)  # symbols that were taken for ready

    @property
    def is_final(self) -> bool:
        return not self.exhausted and not self.held_heads

    def heads_to_move(self) -> dict[str, int]:
        """Return symbol -> how many of its signals are finished."""
        return dict.fromkeys(self.held_heads, 0) | Counter(row.symbol for row in self.exhausted)


def is_held(until: datetime | None, now: datetime) -> bool:
    """True if a lease or a retry still holds a signal back.

    An end further away than any hold may last was written by a clock that
    has since gone back, and holds nothing.
    """
    return until is not None and now < until <= now + MAX_HOLD


def pick(rows: Iterable[Waiting], limit: int, now: datetime) -> Picked:
    """Choose what to lease from the lines of ready symbols, in order of acceptance.

    1. Behind a signal that is held, all later ones of its symbol wait. A held
       one at the head of its line means that the clock was set back since
       its symbol was found ready.
    2. A signal without leases left is exhausted; those behind it go on.
    3. Otherwise it is leased, until there are `limit`.

    Only a final choice may be leased: else symbols took part that are not
    ready, perhaps in the place of others.
    """
    picked, begun, blocked = Picked(), set[str](), set[str]()
    for row in rows:
        if row.symbol in blocked:
            continue
        if is_held(row.held_until, now):
            blocked.add(row.symbol)
            picked.held_heads += [row.symbol] if row.symbol not in begun else []
        elif row.attempts >= MAX_ATTEMPTS:
            picked.exhausted.append(row)
        else:
            picked.leased.append(row)
        begun.add(row.symbol)
        if len(picked.leased) >= limit:
            break
    return picked


def delivered_as(mode: Mode, consumer: Consumer | None) -> Mode:
    """Return the mode in which a consumer is served: one that refuses entries by itself gets them in close-only mode too."""
    return "open" if mode == "close-only" and consumer is not None and consumer.refuses_entries else mode


def claim(before: str | None, consumer: Consumer, now: datetime) -> str | None:
    """Return a consumer's claim on the queue as it is to be stored, None if the stored one is fresh enough.

    A claim in the future by more than the silence was written by a clock that has since gone back, and holds nobody off.

    Raises:
        AnotherConsumer: Another one claimed it, and is not silent yet.
    """
    holder, _, at = (before or "").partition(" ")
    since = now - parse_utc(at) if at else timedelta.max
    if holder != consumer.id and abs(since) < consumer.silence:
        left = math.ceil((consumer.silence - since).total_seconds())
        raise AnotherConsumer(
            f"executor {holder} fetched from this queue {since.total_seconds():.0f} s ago, and this is {consumer.id}: run one "
            "executor only. If that one has stopped, this one takes over automatically.",
            max(1, left),
        )
    if holder == consumer.id and timedelta(0) <= since < CLAIM_EVERY:
        return None
    return f"{consumer.id} {utc_text(now)}"


def may_ack(state: str, holder: str | None, lease: str) -> bool:
    """True if this lease finishes a signal: it is finished, or the lease is its last one.

    That its time is over does not matter while nobody else has it.
    """
    return state == "acked" or (state in ("leased", "dead") and holder == lease)


def exhausted_reason(row: Waiting) -> str:
    """Return why a signal is dead, with the executor's last reason."""
    return f"{EXHAUSTED}; last given back because: {row.reason}" if row.reason else EXHAUSTED


def lease_end(now: datetime, seconds: float) -> datetime:
    """Return when a lease taken now ends."""
    return now + timedelta(seconds=min(max(seconds, 0.001), MAX_LEASE_SECONDS))


def retry_at(now: datetime, seconds: float) -> datetime | None:
    """Return until when a nacked signal waits, None for not at all."""
    return now + timedelta(seconds=min(seconds, MAX_RETRY_SECONDS)) if seconds > 0 else None


def housekeep_until(now: datetime, last: datetime | None) -> datetime:
    """Return up to which instant the queue believes the clock when it forgets signals.

    It goes on by at most a day a run: a clock that is wrong for an hour
    must not cost the memory of a month.
    """
    return now if last is None else min(now, last + HOUSEKEEP_STEP)


def percentile(sorted_seconds: list[float], part: float) -> float | None:
    """Return the value below which `part` of the values lie, None for no values.

    >>> percentile([1.0, 2.0, 3.0], 0.5), percentile([], 0.5)
    (2.0, None)
    """
    if not sorted_seconds:
        return None
    return sorted_seconds[min(int(len(sorted_seconds) * part), len(sorted_seconds) - 1)]


def as_mode(text: str) -> Mode:
    """Return the stored mode; an impossible value counts as paused, the careful one."""
    modes: dict[str, Mode] = {"open": "open", "close-only": "close-only"}
    return modes.get(text, "paused")
