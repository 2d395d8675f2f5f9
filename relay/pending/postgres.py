"""The pending queue in PostgreSQL: any number of relays over one database.

Two threads write, each in transactions of its own: one stores what arrives,
a batch a commit; one delivers. A third listens for what other relays stored,
a fourth tells them. A NOTIFY inside the storing transaction would halve the
rate of commits, so it is sent after it, and one that gets lost costs at most
the second after which every waiting poll looks again.

The only module that imports psycopg.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from common.clock import SystemClock
from common.errors import BridgeError, QueueUnavailable
from common.ids import new_id
from relay.pending.base import (
    DEFAULT_MAX_DEPTH,
    Leased,
    MaybeStored,
    NewSignal,
    Readiness,
    Told,
    Wish,
)
from relay.pending.bell import LEAST_SECONDS, RECHECK_SECONDS, Bell
from relay.pending.front import Front, Job, Work
from relay.pending.postgres_ledger import QUERIES, Ledger, Put, UnknownSymbols
from relay.pending.queries import migrations
from relay.pending.writer import GroupWriter, Ticket, fail_all, seal_all

TRY_SECONDS = 0.8  # how long one call begins new tries after a lost connection
CONNECT_SECONDS = 0.7  # how long it waits for a connection; together less than a sender waits
PAUSE_SECONDS = 0.05  # between such tries
DEPTH_SECONDS = 1.0  # how old the known depth may be while it is far from the cap
NOTIFY_SECONDS = 0.005  # at most one NOTIFY in so long
SILENCE_SECONDS = 30.0  # after which LISTEN is proved again
VERIFY_SECONDS = 2.0  # how long our own NOTIFY may take to come back
POLLING_SECONDS = 0.25  # how often waiting polls look again where LISTEN does not work
CHANNEL = "pending_signals"
SCHEMA_LOCK = 7236420118  # any number, the same in every relay
# No server-side prepared statements and no startup options: both break behind a transaction pooler.
CONNECTION: dict[str, Any] = {
    "prepare_threshold": None, "connect_timeout": 2, "client_encoding": "UTF8", "application_name": "relay",
    "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 2, "tcp_user_timeout": 3000,
}  # fmt: skip

_clock = SystemClock()
# It warns at every try to reconnect; the relay says it once, by its own error.
logging.getLogger("psycopg").setLevel(logging.ERROR)


class PostgresPending(Front):
    """The Pending port on PostgreSQL; see relay.pending.base for what it promises."""

    def __init__(self, url: str, *, max_depth: int = DEFAULT_MAX_DEPTH) -> None:
        super().__init__()
        self._max_depth = max_depth
        self._depth, self._counted_at = 0, float("-inf")
        self._database = Database(url)
        self._bell = Bell()
        self._wakeups = Wakeups(url, self._database, self._bell)
        self._writer: GroupWriter[Put] = GroupWriter("pending-writer", self._store_together)
        self._courier: GroupWriter[Job] = GroupWriter("pending-courier", self._deliver)

    def put(self, new: NewSignal, now: datetime, told: Told) -> None:
        self._promise(self._writer, (new, now), told)

    def poll(self, wish: Wish, told: Told) -> None:
        """Lease; a poll that finds nothing waits for a bell, rung when something may have become leasable."""
        seen = self._bell.look()

        def heard(outcome: Any) -> None:
            found, seconds = ([], 0.0) if isinstance(outcome, Exception) else outcome
            if isinstance(outcome, Exception) or found or seconds <= 0:
                told(outcome if isinstance(outcome, Exception) else found)
                return
            self._wakeups.start()
            self._bell.wait(seen, seconds, lambda: told([]))

        self._begin(lambda ledger: _lend(ledger, wish), heard)

    def ready(self) -> Readiness:
        self._wakeups.start()
        self._do(lambda ledger: ledger.set("proved", new_id()))
        return Readiness("postgresql", self._wakeups.kind, self._wakeups.detail)

    def close(self) -> None:
        self._writer.close()
        self._courier.close()
        self._bell.close()
        self._wakeups.close()
        self._database.close()

    def _do(self, work: Work, *, wakes: bool = False) -> Any:
        return self._courier.submit((work, wakes))

    def _begin(self, work: Work, told: Told, *, wakes: bool = False) -> None:
        self._promise(self._courier, (work, wakes), told)

    def _post(self, work: Work) -> None:
        self._courier.post((work, False))

    # In the writer's thread only.

    def _store_together(self, tickets: list[Ticket[Put]]) -> None:
        """Store a batch; what another relay stores at the same instant is decided again after it."""
        deadline = _clock.monotonic() + TRY_SECONDS
        while tickets := [ticket for ticket in tickets if not ticket.withdrawn]:
            try:
                tickets = self._store_once(tickets, deadline)
            except QueueUnavailable as exc:
                fail_all(tickets, exc)
                return

    def _store_once(self, tickets: list[Ticket[Put]], deadline: float) -> list[Ticket[Put]]:
        """Store what can be stored, answer it, and return the rest."""
        puts, depth = [ticket.job for ticket in tickets], self._known_depth(len(tickets))
        try:
            outcomes, self._depth = self._database.run(
                lambda ledger: ledger.put_all(puts, depth, self._max_depth),
                deadline,
                lambda: len(seal_all(tickets)) == len(tickets),
            )
        except UnknownSymbols as exc:
            symbols = exc.symbols
            self._database.run(lambda ledger: ledger.add_symbols(symbols), deadline)
            return tickets
        except Withdrawn:  # somebody did; the others are stored by the next try
            return tickets
        if depth is None:
            self._counted_at = _clock.monotonic()
        return self._answer(tickets, outcomes)

    def _answer(self, tickets: list[Ticket[Put]], outcomes: list[Any]) -> list[Ticket[Put]]:
        again = []
        for ticket, outcome in zip(tickets, outcomes, strict=True):
            if outcome is None:
                again.append(ticket)
            else:
                ticket.answer(outcome)
        self._wake()
        return again

    def _known_depth(self, more: int) -> int | None:
        """Return the depth if it is known well enough, None if it must be counted."""
        is_recent = _clock.monotonic() - self._counted_at < DEPTH_SECONDS
        return self._depth if is_recent and self._depth + more < self._max_depth else None

    # In the courier's thread only.

    def _deliver(self, tickets: list[Ticket[Job]]) -> None:
        """Do each job in a transaction of its own: several would lock the symbols in any order."""
        for ticket in seal_all(tickets):
            work, wakes = ticket.job
            try:
                ticket.answer(self._database.run(work, _clock.monotonic() + TRY_SECONDS))
            except BridgeError as exc:
                ticket.answer(exc)
            if wakes:
                self._wake()

    def _wake(self) -> None:
        self._bell.ring()
        self._wakeups.tell()


def _lend(ledger: Ledger, wish: Wish) -> tuple[list[Leased], float]:
    """Return what is leased; and, where that is nothing, after how many seconds to look again."""
    if wish.limit < 1 or not wish.is_wanted():
        return [], 0.0
    now = wish.clock()
    found, due = ledger.lease(wish.limit, wish.lease_seconds, now, wish.consumer)
    left = wish.wait_seconds
    return found, left if due is None else min(left, max(LEAST_SECONDS, (due - now).total_seconds()))


class Withdrawn(Exception):
    """Somebody stopped waiting before the commit."""


class Database:
    """Transactions that survive a restart of the database."""

    def __init__(self, url: str) -> None:
        self._has_schema = False
        self._closed = threading.Event()
        self._refusal: psycopg.Error | None = None  # why there is no connection; the pool only says that
        self.pool = ConnectionPool(
            url, connection_class=self._watched_class(), kwargs=CONNECTION, min_size=0, max_size=4,
            timeout=CONNECT_SECONDS, reconnect_timeout=1.0, open=True,
        )  # fmt: skip

    def run(self, work: Work, deadline: float, seal: Callable[[], bool] = lambda: True) -> Any:
        """Do the work in a transaction, commit, return its result; again if the connection is lost.

        Everything the ledger does may be done twice. `seal` is asked just
        before the commit whether it is still wanted.

        Raises:
            Withdrawn: It was not; rolled back.
            QueueUnavailable: Not done within the time.
            MaybeStored: Not known whether it was committed.
        """
        unknown = False
        while True:
            try:
                return self._once(work, seal)
            except CommitLost as exc:
                unknown, error = True, exc.__cause__
            except psycopg.Error as exc:
                error = exc
            if _clock.monotonic() >= deadline or not isinstance(error, psycopg.OperationalError):
                kind = MaybeStored if unknown else QueueUnavailable
                raise kind(_describe(self._cause_of(error), unknown)) from error
            self._closed.wait(PAUSE_SECONDS)

    def _once(self, work: Work, seal: Callable[[], bool]) -> Any:
        with self.pool.connection() as connection:
            self._ensure_schema(connection)
            with connection.pipeline():
                connection.execute(QUERIES["begin"].encode())
                result = work(Ledger(connection))
            # Every answer is in: from here on only the commit itself can be in doubt.
            if not seal():
                raise Withdrawn
            _commit(connection)
            return result

    def _cause_of(self, error: BaseException | None) -> BaseException | None:
        return self._refusal or error if isinstance(error, PoolTimeout) else error

    def _watched_class(self) -> type[psycopg.Connection[Any]]:
        """Return a class of connections that notes here why one could not be made."""
        database = self

        class Watched(psycopg.Connection[Any]):
            @classmethod
            def connect(cls, *words: Any, **settings: Any) -> Any:
                database._refusal = None
                try:
                    return super().connect(*words, **settings)
                except psycopg.Error as exc:
                    database._refusal = exc
                    raise

        return Watched

    def _ensure_schema(self, connection: psycopg.Connection[Any]) -> None:
        if not self._has_schema:
            _migrate(connection)
            connection.commit()
            self._has_schema = True

    def close(self) -> None:
        self._closed.set()
        self.pool.close()


class CommitLost(Exception):
    """The commit was sent and its answer did not come."""


class Wakeups:
    """LISTEN for other relays' signals, NOTIFY them of ours.

    Behind a transaction pooler LISTEN is accepted and nothing ever comes. So
    our own NOTIFY must come back before it is trusted, and until it does the
    waiting polls look again by themselves more often.
    """

    def __init__(self, url: str, database: Database, bell: Bell) -> None:
        self._url, self._database, self._bell = url, database, bell
        self._me = new_id()
        self._heard_at = float("-inf")  # when our own NOTIFY last came back
        self._news, self._closed = threading.Event(), threading.Event()
        self._starting = threading.Lock()
        self._threads = [
            threading.Thread(target=self._listen, name="pending-listener", daemon=True),
            threading.Thread(target=self._notify, name="pending-notifier", daemon=True),
        ]

    @property
    def kind(self) -> str:
        return "notify" if self._is_proved() else "polling"

    @property
    def detail(self) -> str:
        if self._is_proved():
            return "PostgreSQL accepted a durable write; LISTEN works"
        return (
            "PostgreSQL accepted a durable write; LISTEN does not get through (a transaction pooler?), "
            f"so the relay polls for other relays' signals every {POLLING_SECONDS} s"
        )

    def start(self) -> None:
        with self._starting:
            for thread in self._threads:
                if thread.ident is None and not self._closed.is_set():
                    thread.start()

    def tell(self) -> None:
        """Let the other relays know soon that something may be leasable."""
        self.start()
        self._news.set()

    def close(self) -> None:
        self._closed.set()
        self._news.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(2)

    def _is_proved(self) -> bool:
        return _clock.monotonic() - self._heard_at < SILENCE_SECONDS + VERIFY_SECONDS

    def _listen(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(psycopg.Error):  # the polls look again by themselves, and /readyz says so
                self._follow(psycopg.connect(self._url, autocommit=True, **CONNECTION))
            self._heard_at = float("-inf")
            self._bell.ring()  # what came while nobody listened
            self._closed.wait(POLLING_SECONDS)

    def _follow(self, connection: psycopg.Connection[Any]) -> None:
        with connection:
            connection.execute(f"LISTEN {CHANNEL}".encode())
            told_at = float("-inf")
            while not self._closed.is_set():
                told_at = self._prove(told_at)
                for notify in connection.notifies(timeout=0.5):
                    self._hear(notify.payload)
                    if self._closed.is_set():
                        return
                self._bell.recheck_seconds = RECHECK_SECONDS if self._is_proved() else POLLING_SECONDS

    def _prove(self, told_at: float) -> float:
        """Send a NOTIFY to ourselves if none came back for a while; return when we last did."""
        now = _clock.monotonic()
        patience = SILENCE_SECONDS if self._is_proved() else VERIFY_SECONDS
        if now - max(told_at, self._heard_at) < patience:
            return told_at
        self.tell()
        return now

    def _hear(self, payload: str) -> None:
        if payload == self._me:
            self._heard_at = _clock.monotonic()
        else:
            self._bell.ring()

    def _notify(self) -> None:
        is_last = False  # the last one wakes our own listener, so that it ends
        while not is_last:
            self._news.wait()
            self._news.clear()
            is_last = self._closed.is_set()
            # One that is lost costs at most a second, see the module's docstring.
            with contextlib.suppress(psycopg.Error), self._database.pool.connection() as connection:
                connection.execute(NOTIFY, {"channel": CHANNEL, "payload": self._me})
            self._closed.wait(NOTIFY_SECONDS)


# The notification itself need not survive anything.
NOTIFY = b"SELECT set_config('synchronous_commit', 'off', true), pg_notify(%(channel)s, %(payload)s)"


def _commit(connection: psycopg.Connection[Any]) -> None:
    try:
        connection.commit()
    except psycopg.Error as exc:
        raise CommitLost from exc


def _describe(error: BaseException | None, unknown: bool) -> str:
    """Return what happened in one line; the driver's text holds host and database, never the password."""
    text = " ".join(str(error).split())
    return f"PostgreSQL: {text}; " + ("send it again" if unknown else "nothing was stored")


def _migrate(connection: psycopg.Connection[Any]) -> None:
    """Bring the schema to this program's version, once, whichever process comes first."""
    scripts = migrations("postgres")
    if _schema_version(connection) == len(scripts):
        return
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
    connection.execute("CREATE TABLE IF NOT EXISTS pending_schema (version integer NOT NULL)")
    version = _schema_version(connection)
    if version > len(scripts):
        raise QueueUnavailable(
            f"the database's schema is version {version}, this program knows {len(scripts)}: install the newer release"
        )
    for script in scripts[version:]:
        connection.execute(script.encode())
    connection.execute("DELETE FROM pending_schema")
    connection.execute("INSERT INTO pending_schema (version) VALUES (%s)", (len(scripts),))


def _schema_version(connection: psycopg.Connection[Any]) -> int:
    (name,) = connection.execute("SELECT to_regclass('pending_schema')").fetchone() or (None,)
    if name is None:
        return 0
    (version,) = connection.execute("SELECT max(version) FROM pending_schema").fetchone() or (0,)
    return int(version or 0)
