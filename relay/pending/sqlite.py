"""The pending queue in one SQLite file: nothing to install, one machine.

One thread owns the one connection, and everything goes through it in group
commits (WAL, synchronous=FULL: a commit is on the disk before anybody is
answered). Other processes may use the same file at the same time; their
commits are noticed within 20 ms.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from common.clock import SystemClock
from common.errors import BridgeError, QueueUnavailable
from common.private import make_database_private
from relay.pending.base import (
    DEFAULT_MAX_DEPTH,
    MaybeStored,
    NewSignal,
    Readiness,
    Told,
    Wish,
)
from relay.pending.bell import RECHECK_SECONDS
from relay.pending.front import Front, Job, Work
from relay.pending.promise import PATIENCE_SECONDS, Patience, Promise
from relay.pending.queries import migrations
from relay.pending.sqlite_ledger import Ledger, Put
from relay.pending.writer import GroupWriter, Ticket, fail_all, seal_all

LOCK_SECONDS = 1.0  # how long another process may hold the write lock before we give up
WATCH_SECONDS = 0.02  # how often another process's commits, and polls that end, are looked for while any wait
PRAGMAS = (
    f"PRAGMA busy_timeout = {int(LOCK_SECONDS * 1000)}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # NORMAL loses answered commits at a power cut
    "PRAGMA fullfsync = 1",  # macOS: fsync alone stops at the drive's cache
    "PRAGMA checkpoint_fullfsync = 1",
    "PRAGMA journal_size_limit = 67108864",
)


STAYS = object()  # the outcome of a poll that found nothing and waits on
_clock = SystemClock()


class SqlitePending(Front):
    """The Pending port on SQLite; see relay.pending.base for what it promises."""

    def __init__(
        self, path: str, *, max_depth: int = DEFAULT_MAX_DEPTH, opener: Callable[[str], Any] | None = None
    ) -> None:
        super().__init__()
        self._path, self._max_depth, self._open = path, max_depth, opener or open_connection
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None  # which file the connection has open
        self._version = 0  # of the data, as far as other processes changed it
        self._writer: GroupWriter[Job] = GroupWriter(
            "pending-writer", self._commit_together, again=self._watch,
            idle_seconds=lambda: WATCH_SECONDS if self._polls else None, finish=self._end,
        )  # fmt: skip
        self._polls: list[Ticket[Job]] = []  # those that found nothing and stay, the oldest first
        self._long_patience = Patience(WATCH_SECONDS * 25)  # with polls that wait

    def put(self, new: NewSignal, now: datetime, told: Told) -> None:
        self._promise(self._writer, (Put(new, now), True), told)

    def poll(self, wish: Wish, told: Told) -> None:
        """Lease; a poll that finds nothing stays with the writer, and gets a signal in the commit that stores it."""
        if wish.wait_seconds <= 0:
            self._promise(self._writer, (Poll(wish), False), told)
            return
        poll = Poll(wish, _clock.monotonic() + min(wish.wait_seconds, RECHECK_SECONDS))
        promise: Promise[Job] = Promise((poll, False), told, RECHECK_SECONDS + PATIENCE_SECONDS)
        self._hand_in(self._writer, promise, self._long_patience)

    def ready(self) -> Readiness:
        version = self._do(self._prove_writable)
        return Readiness("sqlite", "in-process", f"SQLite {version} accepted a durable write")

    def _prove_writable(self, ledger: Ledger) -> str:
        ledger.set("proved", str(int(ledger.get("proved") or "0") + 1))
        return sqlite3.sqlite_version

    def close(self) -> None:
        self._writer.close()

    def _do(self, work: Any, *, wakes: bool = False) -> Any:
        return self._writer.submit((work, wakes))

    def _begin(self, work: Work, told: Told, *, wakes: bool = False) -> None:
        self._promise(self._writer, (work, wakes), told)

    def _post(self, work: Work) -> None:
        self._writer.post((work, False))

    # In the writer's thread only.

    def _commit_together(self, tickets: list[Ticket[Job]]) -> None:
        """Do the work of all tickets in one transaction, commit, then answer.

        Polls that stay take part where something may have become leasable, and polls come last: one that is in
        the same batch as a signal must not stay without it.
        A caller that withdrew while the work was done costs a second round without
        it, so that "nothing was stored" stays true.
        """
        works = [ticket for ticket in tickets if not isinstance(ticket.job[0], Poll)]
        polls = [ticket for ticket in tickets if isinstance(ticket.job[0], Poll)]
        if any(ticket.job[1] for ticket in works):
            polls, self._polls = self._polls + polls, []
        waiting = [ticket for ticket in works + polls if not ticket.withdrawn]
        while waiting:
            outcomes = self._write(waiting)
            if outcomes is None:
                return
            done = [
                (ticket, outcome) for ticket, outcome in zip(waiting, outcomes, strict=True) if outcome is not STAYS
            ]
            sealed = seal_all([ticket for ticket, _ in done])
            stay = [ticket for ticket, outcome in zip(waiting, outcomes, strict=True) if outcome is STAYS]
            if len(sealed) == len(done):
                self._polls += stay
                self._commit(done)
                return
            self._disconnect()
            waiting = [*sealed, *stay]

    def _write(self, tickets: list[Ticket[Job]]) -> list[Any] | None:
        try:
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            ledger = Ledger(connection, self._max_depth)
            return _outcomes([ticket.job[0] for ticket in tickets], ledger)
        except (sqlite3.Error, OSError) as exc:
            self._fail(tickets, QueueUnavailable(f"cannot write {self._path}: {exc}; nothing was stored"))
            return None
        except BaseException:
            self._disconnect()
            raise

    def _commit(self, done: list[tuple[Ticket[Job], Any]]) -> None:
        try:
            self._connected().execute("COMMIT")
        except sqlite3.Error as exc:
            error = MaybeStored(f"the commit to {self._path} failed: {exc}; send it again")
            self._fail([ticket for ticket, _ in done], error)
            return
        self._answer(done)

    def _fail(self, tickets: list[Ticket[Job]], error: QueueUnavailable) -> None:
        self._disconnect()  # rolls back; the next batch starts afresh
        fail_all(tickets, error)

    def _answer(self, done: list[tuple[Ticket[Job], Any]]) -> None:
        for ticket, outcome in sorted(done, key=_is_put):  # polls come first: they trade
            ticket.answer(outcome)

    def _watch(self) -> list[Ticket[Job]]:
        """Answer the polls that are over; return those that stay if another process committed, or a hold has ended."""
        tickets, self._polls = self._polls, []
        for ticket in tickets:
            if ticket.job[0].is_over():
                ticket.answer([])
        tickets = [ticket for ticket in tickets if not ticket.withdrawn and not ticket.is_answered]
        if not tickets:
            return []
        if self._has_changed() or any(ticket.job[0].is_due() for ticket in tickets):
            return tickets
        self._polls = tickets
        return []

    def _has_changed(self) -> bool:
        """True if another process committed since the last look."""
        before = self._version
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):  # the next write says what is wrong
                (self._version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return self._version != before

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._file == _identity(self._path):
            return self._connection
        self._disconnect()
        make_database_private(self._path)
        self._connection = self._open(self._path)
        self._file = _identity(self._path)
        return self._connection

    def _end(self) -> None:
        polls, self._polls = self._polls, []
        for ticket in polls:
            ticket.answer([])
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):  # what was not committed is rolled back all the same
                connection.close()


def _is_put(done: tuple[Ticket[Job], Any]) -> bool:
    return isinstance(done[0].job[0], Put)


def _outcomes(works: list[Work | Put], ledger: Ledger) -> list[Any]:
    """Do the works in their order, puts that follow each other together."""
    outcomes: list[Any] = []
    for are_puts, group in groupby(works, lambda work: isinstance(work, Put)):
        together: Any = list(group)
        outcomes += ledger.put_all(together) if are_puts else [_outcome(work, ledger) for work in together]
    return outcomes


@dataclass(slots=True)
class Poll:
    """An executor's wish for signals: work for the ledger that may have to wait for something to lease."""

    wish: Wish
    until: float | None = None  # monotonic; it stays so long until there is something
    due: datetime | None = None  # when something held may be leased

    def __call__(self, ledger: Ledger) -> Any:
        wish = self.wish
        if wish.limit < 1 or not wish.is_wanted():
            return []
        leased, self.due = ledger.lease(wish.limit, wish.lease_seconds, wish.clock(), wish.consumer)
        return leased if leased or self.until is None else STAYS

    def is_due(self) -> bool:
        return self.due is not None and self.wish.clock() >= self.due

    def is_over(self) -> bool:
        return not self.wish.is_wanted() or (self.until is not None and _clock.monotonic() >= self.until)


def _outcome(work: Work, ledger: Ledger) -> Any:
    """Return the result, or one of our errors as a value: it concerns one ticket, not the batch."""
    try:
        return work(ledger)
    except BridgeError as exc:
        return exc


def open_connection(path: str) -> sqlite3.Connection:
    """Return a connection to the file, with its durability set and its schema up to date."""
    connection = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        return prepare(connection)
    except BaseException:
        connection.close()
        raise


def prepare(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Set the durability of a new connection and bring the schema up to date."""
    _settle(connection)
    _migrate(connection)
    return connection


def _settle(connection: sqlite3.Connection) -> None:
    """Apply the pragmas. The first step into WAL does not wait for other processes, so it is repeated."""
    tries = 20
    while True:
        try:
            for pragma in PRAGMAS:
                connection.execute(pragma)
            return
        except sqlite3.OperationalError as exc:
            tries -= 1
            if "locked" not in str(exc) or not tries:
                raise
            threading.Event().wait(LOCK_SECONDS / 40)


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to this program's version, once, whichever process comes first."""
    scripts = migrations("sqlite")
    if _schema_version(connection) == len(scripts):
        return
    connection.execute("BEGIN IMMEDIATE")
    version = _schema_version(connection)
    if version > len(scripts):
        raise sqlite3.DatabaseError(
            f"its schema is version {version}, this program knows {len(scripts)}: install the newer release"
        )
    for script in scripts[version:]:
        for statement in _statements(script):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(scripts)}")
    connection.execute("COMMIT")


def _schema_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> list[str]:
    """Split a script at the ends of its statements; a trigger is one statement."""
    found, statement = [], ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            found.append(statement)
            statement = ""
    return found


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells this file from another of the same name, None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
