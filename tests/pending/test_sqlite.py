"""SQLite when things go wrong: locked, full, stalled, gone, replaced, from another release."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import QueueUnavailable
from relay.pending import queries
from relay.pending.base import MaybeStored, NewSignal
from relay.pending.sqlite import SqlitePending, open_connection
from relay.pending.sqlite_ledger import Put
from tests.pending.examples import START, acks, fill, ids, put, signal, take
from tests.pending.patience import hold_lock_for
from tests.pending.power import new_disk, open_on

in_a_hurry = pytest.mark.usefixtures("hurry")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pending.db"


@pytest.fixture
def queue(path: Path) -> Any:
    queue = SqlitePending(str(path))
    yield queue
    queue.close()


def refuses(put: Callable[[], Any]) -> QueueUnavailable:
    """Return how a put is refused while what it waits for never comes: else it would hang. How soon: test_promise."""
    with pytest.raises(QueueUnavailable) as caught:
        put()
    return caught.value


def test_a_commit_syncs_before_the_answer(path: Path) -> None:
    connection = open_connection(str(path))
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    connection.close()


def test_the_file_is_its_owners_alone(queue: Any, path: Path) -> None:
    if os.name != "posix":
        pytest.skip("Windows keeps this in the folder's access list")
    fill(queue, "EURUSD")
    assert {file.stat().st_mode & 0o777 for file in path.parent.glob("pending.db*")} == {0o600}


def test_a_locked_database_is_said_in_time_and_nothing_is_stored(
    queue: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_lock_for(monkeypatch, 1)  # as it is; by itself a put would wait longer here
    fill(queue, "EURUSD")
    with locked(path):
        error = refuses(lambda: fill(queue, "GBPUSD"))
    assert "locked" in str(error)
    assert "nothing was stored" in str(error)
    assert queue.stats(START).depth == 1


@in_a_hurry
def test_many_puts_behind_a_lock_are_all_answered_in_time_and_none_is_stored(queue: Any, path: Path) -> None:
    fill(queue, "EURUSD")
    refused: list[QueueUnavailable] = []

    def put() -> None:
        refused.append(refuses(lambda: fill(queue, "GBPUSD")))

    with locked(path):
        threads = [threading.Timer(0.03 * number, put) for number in range(20)]
        run_all(threads)
    assert len(refused) == 20
    assert queue.stats(START).depth == 1


class locked:
    """Another process that holds the write lock."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)

    def __enter__(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self.connection.rollback()
        self.connection.close()


def run_all(threads: list[Any]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Gate(threading.Event):
    """What a statement waits for while it is not set; `reached` says that one waits."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()

    def pass_through(self) -> None:
        if not self.is_set():
            self.reached.set()
            self.wait(50)


class Stalling:
    """A connection whose `statement` takes its time, and says when it has begun to."""

    def __init__(self, path: str, statement: str, gate: Gate) -> None:
        self._connection = open_connection(path)
        self._statement, self._gate = statement, gate

    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        if sql.startswith(self._statement):
            self._gate.pass_through()
        return self._connection.execute(sql, values)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def stalled(path: Path) -> Any:
    """Return a function that opens a queue that stalls at a statement while the gate is shut."""
    opened: list[SqlitePending] = []
    gate = Gate()

    def open_it(statement: str) -> tuple[SqlitePending, Gate]:
        gate.set()
        opened.append(SqlitePending(str(path), opener=lambda name: Stalling(name, statement, gate)))
        fill(opened[0], "AAPL")
        gate.clear()
        return opened[0], gate

    yield open_it
    gate.set()
    for queue in opened:
        queue.close()


@in_a_hurry
def test_a_stalled_commit_is_answered_in_time_and_its_resend_is_a_duplicate(stalled: Any) -> None:
    queue, gate = stalled("COMMIT")
    new = signal(what="a")
    assert isinstance(refuses(lambda: put(queue, new, START)), MaybeStored)
    gate.set()
    resend = put(queue, signal(what="a"), START)
    assert (resend.id, resend.duplicate) == (new.id, True)
    assert queue.stats(START).depth == 2


@in_a_hurry
def test_a_stall_before_the_commit_really_stores_nothing(stalled: Any) -> None:
    queue, gate = stalled("INSERT INTO signals")
    error = refuses(lambda: fill(queue, "EURUSD"))
    assert not isinstance(error, MaybeStored)
    gate.set()
    assert queue.stats(START).depth == 1


@in_a_hurry
def test_who_waits_behind_a_stalled_commit_is_really_not_stored(stalled: Any) -> None:
    queue, gate = stalled("COMMIT")
    first = threading.Thread(target=lambda: pytest.raises(MaybeStored, fill, queue, "EURUSD"))
    first.start()
    assert gate.reached.wait(30)
    error = refuses(lambda: fill(queue, "GBPUSD"))
    assert not isinstance(error, MaybeStored)
    first.join()
    gate.set()
    assert queue.stats(START).depth == 2


def test_a_full_disk_is_said_and_is_over_when_there_is_room(path: Path) -> None:
    disk = new_disk()
    queue = SqlitePending(str(path), opener=open_on(disk))
    first = fill(queue, "EURUSD")
    disk.is_full = True
    error = refuses(lambda: fill(queue, "GBPUSD"))
    assert str(path) in str(error)
    disk.is_full = False
    second = fill(queue, "AAPL")
    assert ids(take(queue))[0] == first[0]
    assert second[0] in known_ids(path)
    queue.close()


def test_a_database_at_its_size_limit_refuses_and_keeps_what_it_has(path: Path) -> None:
    def small(name: str) -> sqlite3.Connection:
        connection = open_connection(name)
        connection.execute("PRAGMA max_page_count = 60")
        return connection

    queue = SqlitePending(str(path), opener=small)
    stored: list[str] = []
    with pytest.raises(QueueUnavailable, match="full"):
        for _ in range(1_000):
            stored += fill(queue, "EURUSD", payload="x" * 1_000)
    assert stored
    queue.close()
    assert set(stored) <= known_ids(path)


def known_ids(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        return {row[0] for row in connection.execute("SELECT id FROM signals")}
    finally:
        connection.close()


def test_a_missing_folder_is_said_and_is_over_when_it_is_there(tmp_path: Path) -> None:
    queue = SqlitePending(str(tmp_path / "disk" / "pending.db"))
    assert "No such file or directory" in str(refuses(lambda: fill(queue, "EURUSD")))
    (tmp_path / "disk").mkdir()
    assert fill(queue, "EURUSD")
    queue.close()


def test_a_file_that_is_no_database_is_said(path: Path) -> None:
    path.write_bytes(b"rubbish" * 1_000)
    queue = SqlitePending(str(path))
    assert "not a database" in str(refuses(lambda: fill(queue, "EURUSD")))
    queue.close()


def test_a_file_that_was_removed_is_made_again_and_not_written_to_in_the_dark(queue: Any, path: Path) -> None:
    if os.name != "posix":
        pytest.skip("Windows does not remove an open file")
    fill(queue, "EURUSD")
    for file in path.parent.glob("pending.db*"):
        file.unlink()
    (put,) = fill(queue, "GBPUSD")
    assert put in known_ids(path)


def test_a_newer_schema_is_refused_with_the_remedy(queue: Any, path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "install the newer release" in str(refuses(lambda: fill(queue, "EURUSD")))


def test_an_older_schema_is_brought_up_to_date(queue: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = fill(queue, "EURUSD")
    queue.close()
    newer = [*queries.migrations("sqlite"), "ALTER TABLE signals ADD COLUMN extra TEXT;\nSELECT 1;\n"]
    monkeypatch.setattr("relay.pending.sqlite.migrations", lambda engine: newer)
    later = SqlitePending(str(path))
    assert ids(take(later)) == put
    later.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    assert connection.execute("SELECT extra FROM signals").fetchall() == [(None,)]
    connection.close()


def test_many_instances_that_start_at_once_agree_on_the_schema(path: Path) -> None:
    queues = [SqlitePending(str(path)) for _ in range(6)]
    run_all([threading.Thread(target=fill, args=(queue, f"S{n}")) for n, queue in enumerate(queues)])
    assert queues[0].stats(START).depth == 6
    for queue in queues:
        queue.close()


def test_a_fault_of_ours_in_one_job_leaves_no_transaction_open(queue: Any) -> None:
    with pytest.raises(AttributeError):
        queue._do(lambda ledger: ledger.nonsense())
    assert fill(queue, "EURUSD")
    assert queue.ack(acks(take(queue)), START).acked


def test_everything_handed_in_before_close_is_stored(path: Path) -> None:
    queue = SqlitePending(str(path))
    news: list[NewSignal] = [signal(f"S{n}") for n in range(50)]
    tickets = [queue._writer.post((Put(new, START), True)) for new in news]
    queue.close()
    assert all(ticket.result(0).id for ticket in tickets)
    assert known_ids(path) == {new.id for new in news}
