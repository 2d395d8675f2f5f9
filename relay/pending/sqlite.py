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
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from common.clock import utc_text
from common.errors import BridgeError, QueueUnavailable
from relay.pending.base import (
    DEFAULT_MAX_DEPTH,
    MODES,
    Accepted,
    AckResult,
    DeadLetter,
    Leased,
    MaybeStored,
    Mode,
    NewSignal,
    Position,
    Readiness,
    Refused,
    Stats,
)
from relay.pending.bell import Bell
from relay.pending.queries import migrations
from relay.pending.sqlite_ledger import Ledger
from relay.pending.writer import GroupWriter, Ticket, seal_all

LOCK_SECONDS = 1.0  # how long another process may hold the write lock before we give up
WATCH_SECONDS = 0.02  # how often another process's commits are looked for while a poll waits
POLL_NOTED_EVERY = timedelta(seconds=5)
HOUSEKEEP_EVERY = timedelta(minutes=10)
PRAGMAS = (
    f"PRAGMA busy_timeout = {int(LOCK_SECONDS * 1000)}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # NORMAL loses answered commits at a power cut
    "PRAGMA fullfsync = 1",  # macOS: fsync alone stops at the drive's cache
    "PRAGMA checkpoint_fullfsync = 1",
    "PRAGMA journal_size_limit = 67108864",
)

Work = Callable[[Ledger], Any]
Job = tuple[Work, bool]  # the work, and whether it may make something leasable


class SqlitePending:
    """The Pending port on SQLite; see relay.pending.base for what it promises."""

    def __init__(self, path: str, *, max_depth: int = DEFAULT_MAX_DEPTH) -> None:
        self._path, self._max_depth = path, max_depth
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None  # which file the connection has open
        self._version = 0  # of the data, as far as other processes changed it
        self._bell = Bell()
        self._noted_at: datetime | None = None
        self._housekept_at: datetime | None = None
        self._writer: GroupWriter[Job] = GroupWriter(
            "pending-writer", self._commit_together, idle=self._watch,
            idle_seconds=lambda: WATCH_SECONDS if self._bell.has_waiters else None, finish=self._disconnect,
        )  # fmt: skip

    def put(self, new: NewSignal, now: datetime) -> Accepted:
        accepted: Accepted = self._do(lambda ledger: ledger.put(new, now), wakes=True)
        return accepted

    def lease(self, limit: int, lease_seconds: float, now: datetime) -> list[Leased]:
        self._bell.look()
        leased, due = self._do(lambda ledger: ledger.lease(limit, lease_seconds, now))
        if due is not None:
            self._bell.expect((due - now).total_seconds())
        return list(leased)

    def ack(self, acks: Sequence[tuple[str, str]], now: datetime) -> AckResult:
        result: AckResult = self._do(lambda ledger: ledger.ack(acks, now), wakes=True)
        return result

    def nack(self, id: str, lease: str, reason: str, retry_seconds: float, now: datetime) -> bool:
        given_back: bool = self._do(
            lambda ledger: ledger.nack(id, lease, reason, retry_seconds, now), wakes=True
        )
        return given_back

    def wait(self, timeout: float) -> bool:
        self._writer.nudge()
        return self._bell.wait(timeout)

    def stats(self, now: datetime) -> Stats:
        stats: Stats = self._do(lambda ledger: ledger.stats(now))
        return stats

    def note_poll(self, now: datetime) -> None:
        if self._noted_at is not None and abs(now - self._noted_at) < POLL_NOTED_EVERY:
            return
        self._noted_at = now
        with contextlib.suppress(QueueUnavailable):
            self._writer.post((lambda ledger: self._note_poll(ledger, now), False))

    def _note_poll(self, ledger: Ledger, now: datetime) -> None:
        ledger.set("last_poll_at", utc_text(now))
        if self._housekept_at is None or abs(now - self._housekept_at) >= HOUSEKEEP_EVERY:
            self._housekept_at = now
            ledger.housekeep(now)

    def mode(self) -> Mode:
        mode: Mode = self._do(Ledger.mode)
        return mode

    def set_mode(self, mode: Mode) -> None:
        if mode not in MODES:
            raise ValueError(f"the mode must be one of {', '.join(MODES)}, was {mode!r}")
        self._do(lambda ledger: ledger.set("mode", mode), wakes=True)

    def refuse(self, refused: Refused) -> None:
        self._do(lambda ledger: ledger.refuse(refused))

    def refused(self, limit: int) -> list[Refused]:
        return list(self._do(lambda ledger: ledger.refused(limit)))

    def dead(self, limit: int) -> list[DeadLetter]:
        return list(self._do(lambda ledger: ledger.dead(limit)))

    def requeue(self, id: str, now: datetime) -> bool:
        return bool(self._do(lambda ledger: ledger.requeue(id), wakes=True))

    def purge(self, state: Literal["pending", "dead"], before: datetime, now: datetime) -> int:
        return sum(iter(lambda: self._do(lambda ledger: ledger.purge(state, before, now)), 0))

    def last_position(self, symbol: str) -> Position | None:
        position: Position | None = self._do(lambda ledger: ledger.last_position(symbol))
        return position

    def housekeep(self, now: datetime) -> int:
        return int(self._do(lambda ledger: ledger.housekeep(now)))

    def ready(self) -> Readiness:
        version = self._do(self._prove_writable)
        return Readiness("sqlite", "in-process", f"SQLite {version} took a durable write")

    def _prove_writable(self, ledger: Ledger) -> str:
        ledger.set("proved", str(int(ledger.get("proved") or "0") + 1))
        return sqlite3.sqlite_version

    def close(self) -> None:
        self._writer.close()

    def _do(self, work: Work, *, wakes: bool = False) -> Any:
        return self._writer.submit((work, wakes))

    # In the writer's thread only.

    def _commit_together(self, tickets: list[Ticket[Job]]) -> None:
        """Do the work of all tickets in one transaction, commit, then answer.

        Whoever withdrew while the work was done costs a second round without
        it, so that "nothing was stored" stays true.
        """
        waiting = [ticket for ticket in tickets if not ticket.future.cancelled()]
        while waiting:
            outcomes = self._write(waiting)
            if outcomes is None:
                return
            sealed = seal_all(waiting)
            if len(sealed) == len(waiting):
                self._commit(waiting, outcomes)
                return
            self._disconnect()
            waiting = sealed

    def _write(self, tickets: list[Ticket[Job]]) -> list[Any] | None:
        try:
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            ledger = Ledger(connection, self._max_depth)
            return [_outcome(ticket.job[0], ledger) for ticket in tickets]
        except (sqlite3.Error, OSError) as exc:
            self._fail(tickets, QueueUnavailable(f"cannot write {self._path}: {exc}; nothing was stored"))
            return None
        except BaseException:
            self._disconnect()
            raise

    def _commit(self, tickets: list[Ticket[Job]], outcomes: list[Any]) -> None:
        try:
            self._connected().execute("COMMIT")
        except sqlite3.Error as exc:
            self._fail(tickets, MaybeStored(f"the commit to {self._path} failed: {exc}; send it again"))
            return
        self._answer(tickets, outcomes)

    def _fail(self, tickets: list[Ticket[Job]], error: QueueUnavailable) -> None:
        self._disconnect()  # rolls back; the next batch starts afresh
        for ticket in tickets:
            ticket.answer(error)

    def _answer(self, tickets: list[Ticket[Job]], outcomes: list[Any]) -> None:
        for ticket, outcome in zip(tickets, outcomes, strict=True):
            ticket.answer(outcome)
        if any(ticket.job[1] for ticket in tickets):
            self._bell.ring()

    def _watch(self) -> None:
        """Ring if another process committed."""
        if self._connection is None or not self._bell.has_waiters:
            return
        with contextlib.suppress(sqlite3.Error):
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                self._version = version
                self._bell.ring()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._file == _identity(self._path):
            return self._connection
        self._disconnect()
        _create_private(self._path)
        self._connection = _open(self._path)
        self._file = _identity(self._path)
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _outcome(work: Work, ledger: Ledger) -> Any:
    """Return the result, or one of our errors as a value: it concerns one ticket, not the batch."""
    try:
        return work(ledger)
    except BridgeError as exc:
        return exc


def _open(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _settle(connection)
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
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
    """Bring the schema to the version of this program, once, whoever comes first."""
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


def _create_private(path: str) -> None:
    """Make the file, if there is none, readable by its owner only; SQLite's other files inherit that."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells this file from another of the same name, None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
