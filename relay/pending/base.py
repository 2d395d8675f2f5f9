"""The pending queue as the relay sees it: the port, its values, the life of a signal.

Two engines keep these promises, SQLite and PostgreSQL, and one suite of tests
holds both to them. What must not break: a signal is durable before `put`
returns, and nothing is delivered again after its `ack` returned.

Instants are aware UTC. Every instant comes from the caller (`now`): the queue
has no clock of its own, so a test can move time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Any, Literal, Protocol, get_args

from common.errors import QueueUnavailable
from common.signals import PrevPosition

Mode = Literal["open", "paused", "close-only"]
MODES: tuple[Mode, ...] = get_args(Mode)
Now = Callable[[], datetime]  # the caller's clock
Told = Callable[[Any], None]  # is told an outcome, or the error as a value; must not raise and not block

BEGINNING = datetime.min.replace(tzinfo=UTC)
MAX_ATTEMPTS = 5  # leases of one signal before it is a dead letter
KEY_WINDOW = timedelta(days=30)  # a duplicate key is remembered this long
RESENT_FOR = timedelta(minutes=10)  # a duplicate later than this is probably another alert with a constant key
KEYLESS_WINDOW = timedelta(seconds=30)  # so long an equal signal without a key is a resend
MAX_LEASE_SECONDS = 300.0
MAX_RETRY_SECONDS = 600.0
MAX_HOLD = timedelta(seconds=MAX_RETRY_SECONDS)  # a hold further away is proof that the clock went back
PUT_SECONDS = 1.8  # the sender must be answered within 2 s
REFUSED_KEPT = 1000  # refused alerts that are kept, the newest
NOTICES_KEPT = 100  # of one kind that no executor has heard yet, the newest
NOTICES_AT_ONCE = 100  # in one answer
NOTICE_REPEATED = timedelta(seconds=60)  # how long one is repeated to an executor that does not confirm it
REFUSED_BODY_BYTES = 2048
DEFAULT_MAX_DEPTH = 100_000


class MaybeStored(QueueUnavailable):
    """The answer to the commit is lost or late: stored or not, nobody knows. A resend settles it."""


@dataclass(frozen=True, slots=True)
class NewSignal:
    """One validated and signed signal, as the relay hands it in.

    Raises:
        ValueError: A text holds NUL or a lone surrogate, which no engine can
            store. The validation before lets none through.
    """

    id: str
    symbol: str
    action: str  # open, reduce, close, protect, reset
    dedupe_key: str | None  # the sender's id, None when it gave none
    fingerprint: str  # sha256 hex of the canonical signal; then, after a colon, the sender's time where it tells it
    received_at: datetime
    expires_at: datetime | None
    headers: dict[str, str]  # the three webhook- headers: name -> value
    payload: str  # the exact signed text
    position: str | None = None  # what the sender holds after it ("long 5", "flat"); None leaves it
    prev: PrevPosition | None = None  # what it says it held before
    strategy_name: str | None = None  # of several in one symbol
    sent_at: datetime | None = None  # by the sender's clock

    def __post_init__(self) -> None:
        for name in ("id", "symbol", "action", "dedupe_key", "fingerprint", "payload", "position", "strategy_name"):
            if not is_storable(getattr(self, name)):
                raise ValueError(f"{name} must be text without NUL or lone surrogates")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to `put`: the signal's id, or the id it is a duplicate of."""

    id: str
    duplicate: bool
    previous: str | None = None  # the sender's position before this signal, if it ever told one
    missed: bool = False  # an alert between that one and this never arrived
    id_used: bool = False  # an exit whose key another signal had: taken as new, without the key


@dataclass(frozen=True, slots=True)
class Leased:
    """One signal on loan. `lease` is opaque and goes back with `ack` or `nack`."""

    id: str
    lease: str
    attempt: int  # 1 for the first
    received_at: datetime
    headers: dict[str, str]
    payload: str


class Lent(list[Leased]):
    """What a poll was given, and the mode of the queue then; None where it was not looked up."""

    mode: Mode | None = None

    @classmethod
    def of(cls, mode: Mode, leased: Iterable[Leased] = ()) -> Lent:
        lent = cls(leased)
        lent.mode = mode
        return lent


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who polls: an executor's own id, the same at every start; and how long it may be silent before it counts as gone."""

    id: str
    silence: timedelta
    refuses_entries: bool = False  # by itself, in close-only mode: it is given all signals, and told the mode


@dataclass(frozen=True, slots=True)
class Wish:
    """What a poll asks of the queue."""

    limit: int
    lease_seconds: float
    clock: Now
    wait_seconds: float  # for the first signal; 0 does not wait
    is_wanted: Callable[[], bool]  # asked just before leasing, in any thread: must not block
    consumer: Consumer | None = None


@dataclass(frozen=True, slots=True)
class AckResult:
    """Which ids are finished, and which were refused because the lease is not theirs."""

    acked: list[str]
    stale: list[str]


@dataclass(frozen=True, slots=True)
class Refused:
    """An authenticated alert that was refused, for its owner to see. Its secret is already removed."""

    at: datetime
    code: str  # of the error table, such as "malformed"
    reason: str
    body: str  # kept up to 2 KiB
    notice: Notice | None = None  # stored with it


@dataclass(frozen=True, slots=True)
class Notice:
    """What the owner is to hear from an executor. The same again, before it was heard, is one notice, of the later instant."""

    kind: str
    symbol: str
    text: str
    at: datetime
    id: int | None = None  # given by the queue


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A signal that is not delivered any more, and why."""

    id: str
    symbol: str
    action: str
    received_at: datetime
    dead_at: datetime
    attempts: int
    reason: str
    payload: str


@dataclass(frozen=True, slots=True)
class Stats:
    """The queue in numbers. Read from the database, so equal in every relay."""

    depth: int  # accepted and not finished: waiting, leased, or waiting for a retry
    leased: int
    dead: int
    oldest_at: datetime | None  # acceptance of the oldest that is not finished
    accepted_total: int  # since the queue was made
    last_poll_at: datetime | None
    latency_p50_seconds: float | None  # acceptance to ack, of the newest 200 acked
    latency_p99_seconds: float | None
    mode: Mode


@dataclass(frozen=True, slots=True)
class Readiness:
    """The queue has just accepted a durable write. `wakeups` is how waiting polls learn of a signal."""

    engine: str  # sqlite, postgresql
    wakeups: str  # in-process, notify, polling
    detail: str


class Pending(Protocol):
    """A durable queue of signals with leases, in order per symbol.

    Any number of threads, and any number of processes over the same database,
    may call all of it. Every method raises QueueUnavailable when the database
    cannot be reached in time; the next call tries again by itself.
    """

    def put(self, new: NewSignal, now: datetime, told: Told) -> None:
        """Have one signal stored durably, or recognised as a duplicate, without waiting for it.

        1. Same `dedupe_key` as a signal accepted within 30 days: duplicate.
           The sender's time counts for exits alone: it refuses no entry.
        2. No key, and the symbol's newest signal has the same fingerprint and
           was accepted less than 30 s from now: duplicate. A duplicate does
           not move that instant.
        3. Otherwise it is committed to disk.

        `told` hears once, in any thread, within 1.8 s: an Accepted, after
        the commit, or one of these errors as a value. It is never raised.

        - DuplicateConflict: The key is known with another fingerprint. An
          exit is stored all the same, without its key, and its owner noticed;
          the same again within 30 s is then a duplicate.
        - QueueFull: The depth cap is reached. Nothing stored. For exits a
          tenth more is kept free.
        - QueueUnavailable: Nothing stored.
        - MaybeStored: The commit itself did not come back in time. A kind
          of QueueUnavailable, so it is answered 503 as well: if that commit
          landed after all, the resend is answered as a duplicate.
        """

    def poll(self, wish: Wish, told: Told) -> None:
        """Lease up to `limit` signals in order of acceptance, once there are any, without a thread that waits.

        Per symbol the order holds: while an earlier signal is leased or waits
        for a retry, later ones wait; several may come in one answer, in
        order. A lease ends at now + lease_seconds (at most 300), then the
        signal is given away again; one whose fifth lease ran out becomes a
        dead letter instead, and those behind it go on. Age is no reason not
        to deliver. Nothing is delivered while paused, nothing but exits in
        close-only mode, unless the consumer refuses entries by itself: a
        reversal still closes then.

        `told` hears once, in any thread: a list of Leased (a `Lent`, with the
        mode, where the queue was asked), or an error as a value.
        [] comes at least once a second, since a wake-up may get lost: ask
        again. Nothing is leased where `is_wanted` says no just before; a
        poll that waits then hears [] soon.

        A lease belongs to the consumer that took it. One that asks again
        while it holds leases has not got their answer: it is given the same
        leases at once, which neither count as further attempts nor last
        longer; but none ahead of an earlier signal of its symbol. A caller
        without a name is given nothing twice.

        - AnotherConsumer: The last one that named itself is another, and
          not silent yet. Nothing is leased.
        - QueueUnavailable: The database cannot be reached. If it is a
          MaybeStored, something may be leased; ask again.
        """

    def take(self, wish: Wish) -> list[Leased]:
        """Poll, wait in this thread, and return what is told; an error is raised."""

    def finish(self, acks: Sequence[tuple[str, str]], now: datetime, told: Told) -> None:
        """Finish signals by (id, lease). `told` hears an AckResult after the commit, else as with `put`.

        Idempotent: an id acked before is acked, whatever the lease. A lease
        that ran out still counts as long as nobody leased the signal since.
        """

    def ack(self, acks: Sequence[tuple[str, str]], now: datetime) -> AckResult:
        """Do the same, wait in this thread, and return what is told; an error is raised."""

    def give_back(self, id: str, lease: str, reason: str, retry_seconds: float, now: datetime, told: Told) -> None:
        """Give one signal back, to be leased again after retry_seconds (at most 600).

        The fifth nack makes it a dead letter with `reason`. Later signals of
        its symbol wait for it; those already leased together with it may
        still be acked. `told` hears True, or False if the lease is not the
        caller's any more, else as with `put`.
        """

    def nack(self, id: str, lease: str, reason: str, retry_seconds: float, now: datetime) -> bool:
        """Do the same, wait in this thread, and return what is told; an error is raised."""

    def stats(self, now: datetime) -> Stats:
        """Return the queue in numbers."""

    def note_poll(self, now: datetime) -> None:
        """Remember that an executor asked. Never blocks or raises; written at most every 5 s."""

    def set_mode(self, mode: Mode) -> None:
        """Switch delivery: `open`, `paused` (accept and hold) or `close-only`.

        In close-only mode opens are held and everything else is delivered,
        but to a consumer that refuses entries by itself, which gets them all.
        What is delivered never lets an earlier open of its symbol follow it:
        an open that was overtaken becomes a dead letter that says so. Opens
        that nothing overtook are delivered when the mode is `open` again.
        """

    def refuse(self, refused: Refused, told: Told) -> None:
        """Keep a refused alert for its owner; the newest 1,000 are kept.

        `told` hears as with `put`: None when it is kept, else the error.
        """

    def note(self, notice: Notice, told: Told) -> None:
        """Keep a notice until an executor has heard it. `told` hears as with `refuse`."""

    def notices(self, now: datetime, told: Told) -> None:
        """Have what no executor has heard yet read, oldest first: `told` hears a list of Notice, else the error.

        No more than a hundred; the next come when these are heard.

        One that was told is told again until it is confirmed (`heard`); to
        an executor that confirms nothing, for a minute.
        """

    def heard(self, ids: Sequence[int], told: Told) -> None:
        """Forget notices that an executor has committed. `told` hears None, else the error."""

    def refused(self, limit: int) -> list[Refused]:
        """Return the newest refused alerts, newest first."""

    def dead(self, limit: int, since: datetime = BEGINNING) -> list[DeadLetter]:
        """Return what died since an instant, the longest dead first."""

    def requeue(self, id: str, now: datetime) -> bool:
        """Bring a dead letter back with all its attempts, at its old place in the order.

        False: there is no such dead letter.
        """

    def purge(self, state: Literal["pending", "dead"], before: datetime, now: datetime) -> int:
        """Discard what is waiting or dead and was accepted before `before`; return how many.

        Leased signals stay. Discarded ones are still known as duplicates.
        """

    def ready(self) -> Readiness:
        """Prove with a durable write that signals can be accepted.

        Raises:
            QueueUnavailable: They cannot; the message says why.
        """

    def close(self) -> None:
        """Finish what is being written and let go of the database."""


def is_storable(text: str | None) -> bool:
    """True if every engine can keep this text.

    >>> is_storable("long 5"), is_storable("a\\0b"), is_storable("\\ud800")
    (True, False, False)
    """
    if text is None or text.isascii():
        return not text or "\0" not in text
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def storable(text: str, max_bytes: int = REFUSED_BODY_BYTES) -> str:
    """Return free text made storable and cut to max_bytes of UTF-8.

    >>> storable("a\\0b\\ud800c", 6)
    'a\u2400b?'
    """
    raw = text.replace("\0", "\u2400").encode("utf-8", "replace")
    return raw[:max_bytes].decode("utf-8", "ignore")


def outcome_of(call: Callable[[Told], None]) -> Any:
    """Begin a work of the queue that tells its outcome, wait for it in this thread, and return what it tells.

    An error is returned, not raised: it comes as a value.
    """
    told: SimpleQueue[Any] = SimpleQueue()
    call(told.put)
    return told.get()
