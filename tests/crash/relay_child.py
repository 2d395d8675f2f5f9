"""One relay whose boundaries are counted, and which kills itself at some of them."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from relay import __main__ as program
from relay import app, asgi
from relay.pending import sqlite
from tests.crash.child import Boundaries

# What a transaction did, by words of its statements.
WORK = {"INSERT INTO signals": "accept", "SET state = 'leased'": "lease", "SET state = :state": "ack"}
# The same in PostgreSQL, by the names of its queries.
QUERIES = {"insert": "accept", "lease": "lease", "finish": "ack"}
# What an answer is, by words of its body.
ANSWERS = {b'"queued"': "webhook", b'"duplicate"': "webhook", b'"signals"': "lease", b'"acked"': "ack"}
ALL = {
    f"{when} {what}"
    for when in ("before", "after")
    for what in (
        "answer to webhook",
        "answer to lease",
        "answer to ack",
        "commit of accept",
        "commit of lease",
        "commit of ack",
    )
}


class Connection:
    """The queue's connection, with a boundary before and after each commit that changes a signal."""

    def __init__(self, real: sqlite3.Connection, boundaries: Boundaries) -> None:
        self._real, self._boundaries = real, boundaries
        self._done: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql.startswith("BEGIN"):
            self._done.clear()
        self._done |= {word for text, word in WORK.items() if text in sql}
        if sql != "COMMIT":
            return self._real.execute(sql, *values)
        return around_commit(self._boundaries, self._done, lambda: self._real.execute(sql))


def around_commit(boundaries: Boundaries, done: set[str], commit: Callable[[], Any]) -> Any:
    """Commit, with a boundary before and after where a signal is changed."""
    if not done:
        return commit()
    name = " and ".join(sorted(done))
    boundaries.reach(f"before commit of {name}")
    answer = commit()
    boundaries.reach(f"after commit of {name}")
    return answer


def instrument_sqlite(boundaries: Boundaries) -> None:
    connect = sqlite.open_connection

    def counted(path: str) -> Any:
        return Connection(connect(path), boundaries)

    sqlite.open_connection = counted


def instrument_postgres(boundaries: Boundaries) -> None:
    """Wrap the commits; each transaction is one ledger and one commit, in one thread."""
    from relay.pending import postgres  # here: where psycopg is missing SQLite is tried alone

    here, commit = threading.local(), postgres._commit

    class Noting(postgres.Ledger):
        def __init__(self, connection: Any) -> None:
            super().__init__(connection)
            here.done = set()

        def _run(self, query: str, **values: Any) -> Any:
            here.done |= {QUERIES[query]} if query in QUERIES else set()
            return super()._run(query, **values)

    postgres.Ledger = Noting  # type: ignore[misc]  # a class put in the place of another, on purpose
    postgres._commit = lambda connection: around_commit(boundaries, here.done, lambda: commit(connection))


def instrument_answers(boundaries: Boundaries) -> None:
    class Front(asgi.Front):
        """The relay's application, with a boundary before and after the bytes of each answer."""

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def counted(message: Any) -> None:
                found = (word for text, word in ANSWERS.items() if text in message.get("body", b""))
                name = next(found, None)
                if name:
                    boundaries.reach(f"before answer to {name}")
                await send(message)
                if name:
                    boundaries.reach(f"after answer to {name}")

            await super().__call__(scope, receive, counted)

    app.Front = Front  # type: ignore[misc]  # a class put in the place of another, on purpose


def run(port: int, url: str, boundaries: Path, kill_at: Collection[int]) -> None:
    """Be the relay over the queue at this URL, in a process group of its own, until killed."""
    os.setsid()
    counted = Boundaries(boundaries, kill_at)
    instrument_answers(counted)
    (instrument_sqlite if url.startswith("sqlite") else instrument_postgres)(counted)
    serve: Callable[..., Any] = program.main
    serve(["--port", str(port), "--queue-url", url, "--threads", "20"], prog_name="python -m relay")
