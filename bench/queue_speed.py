"""The pending queue by itself: a million waiting beside none, and how much one commit carries.

The full queue and the empty one take turns, call by call, so that whatever
else the machine does falls on both.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import psycopg

from bench.load import percentile
from bench.report import Row
from common.ids import new_id
from relay.pending import open_pending
from relay.pending.base import NewSignal, Pending, Wish, outcome_of
from tests.pending.pg import running_postgres

WAITING, SYMBOLS, TURNS = 1_000_000, 1_000, 600
THREADS, SECONDS = 64, 3.0
START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
PAYLOAD = '{"type":"signal","data":{"action":"open","symbol":"EURUSD","side":"buy","quantity":"10000"}}'
COLUMNS = "id, symbol, action, dedupe_key, fingerprint, received_at, headers, payload"
NUMBERS = {
    "SQLite": f"WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {WAITING}) ",
    "PostgreSQL": "",
}
FROM = {"SQLite": "FROM n", "PostgreSQL": f"FROM generate_series(1, {WAITING}) AS n"}
FILL_SIGNALS = (
    "INSERT INTO {signals} ({columns}) {numbers} SELECT 'b-' || n, 'S' || n % {symbols}, 'open', 'k-' || n, 'f', "
    "{at}, '{{}}', '{payload}' {origin}"
)
FILL_SYMBOLS = (
    "INSERT INTO {table} (symbol, head_seq, waiting, accepted, newest_id, newest_fingerprint, newest_at) "
    "SELECT symbol, min(seq), count(*), count(*), 'b', 'f', {at} "
    "FROM {signals} GROUP BY symbol"
)
T = TypeVar("T")
Timings = dict[str, list[float]]


def measure() -> Iterator[Row]:
    """Yield every row of this part."""
    with tempfile.TemporaryDirectory() as name, running_postgres() as server:
        folder = Path(name)
        urls = {
            "SQLite": (f"sqlite:///{folder / 'empty.db'}", f"sqlite:///{folder / 'full.db'}"),
            "PostgreSQL": (server.new_database(), server.new_database()),
        }
        for engine, (empty, full) in urls.items():
            with opened(empty) as one, opened(full) as other:
                yield from _rates(engine, one)
            with opened(empty) as one, opened(full) as other:
                one.purge("pending", datetime.max.replace(tzinfo=UTC), START)
                other.stats(START)  # makes the tables
                fill(engine, full)
                yield from _depth(engine, one, other)


@contextlib.contextmanager
def opened(url: str) -> Iterator[Pending]:
    """Open a queue and close it."""
    queue = open_pending(url, max_depth=2 * WAITING)
    try:
        yield queue
    finally:
        queue.close()


def fill(engine: str, url: str) -> None:
    """Make a million signals wait, by the database's own means."""
    prefix = "" if engine == "SQLite" else "pending_"
    at = {"SQLite": "'2026-11-23T08:00:00.000000Z'", "PostgreSQL": "timestamptz '2026-11-23T08:00:00Z'"}[engine]
    words = {"signals": f"{prefix}signals", "table": f"{prefix}symbols", "at": at}
    signals = FILL_SIGNALS.format(
        columns=COLUMNS, numbers=NUMBERS[engine], symbols=SYMBOLS, payload=PAYLOAD, origin=FROM[engine], **words
    )
    if engine == "SQLite":
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database, database:
            database.execute(signals)
            database.execute(FILL_SYMBOLS.format(**words))
            database.commit()
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else the first calls pay for the filling
        os.sync()
        return
    with psycopg.connect(url, autocommit=True) as connection:
        symbols = FILL_SYMBOLS.format(**words)
        for statement in (signals, symbols, "VACUUM ANALYZE pending_signals", "VACUUM ANALYZE pending_symbols"):
            connection.execute(statement.encode())


def _depth(engine: str, empty: Pending, full: Pending) -> Iterator[Row]:
    timings: dict[str, Timings] = {"empty": {}, "full": {}}
    for turn in range(TURNS):
        for name, queue in (("empty", empty), ("full", full)):
            _one_signal(queue, {} if turn < TURNS // 10 else timings[name])
    for call in ("enqueue", "lease", "ack"):
        bare, deep = timings["empty"][call], timings["full"][call]
        yield Row(
            f"{engine}: {call} with a million waiting, beside an empty queue",
            f"{median(deep) / median(bare):.2f} × ({median(deep) * 1e3:.2f} ms beside {median(bare) * 1e3:.2f}; "
            f"p99 {percentile(deep, 0.99) * 1e3:.2f} beside {percentile(bare, 0.99) * 1e3:.2f})",
            "at most 1.5 ×",
        )


def _one_signal(queue: Pending, timings: Timings) -> None:
    new = make_signal("EURUSD")
    _timed(timings, "enqueue", lambda: outcome_of(partial(queue.put, new, START)))
    (leased,) = _timed(timings, "lease", lambda: queue.take(Wish(1, 30, lambda: START, 0, lambda: True)))
    _timed(timings, "ack", lambda: queue.ack([(leased.id, leased.lease)], START))


def _timed(timings: Timings, name: str, call: Callable[[], T]) -> T:
    began = time.perf_counter()
    result = call()
    timings.setdefault(name, []).append(time.perf_counter() - began)
    return result


def make_signal(symbol: str) -> NewSignal:
    """Return a signal that differs from every other."""
    id = new_id()
    fingerprint = hashlib.sha256(id.encode()).hexdigest()
    return NewSignal(id, symbol, "open", id, fingerprint, START, None, {"webhook-id": id}, PAYLOAD)


def _rates(engine: str, queue: Pending) -> Iterator[Row]:
    for threads in (1, THREADS):
        taken: list[float] = []
        until = time.perf_counter() + SECONDS
        senders = [threading.Thread(target=_send, args=(queue, n, until, taken)) for n in range(threads)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        middle, worst = median(taken) * 1e3, percentile(taken, 0.99) * 1e3
        yield Row(
            f"{engine}: durable puts from {threads} thread{'s' * (threads > 1)}",
            f"{len(taken) / SECONDS:.0f}/s (p50 {middle:.2f} ms, p99 {worst:.2f} ms)",
        )


def _send(queue: Pending, number: int, until: float, taken: list[float]) -> None:
    while (began := time.perf_counter()) < until:
        new = make_signal(f"S{number}")
        outcome_of(partial(queue.put, new, START))
        taken.append(time.perf_counter() - began)
