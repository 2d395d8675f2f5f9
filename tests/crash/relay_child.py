"""One relay whose boundaries are counted, and which kills itself, the whole server, at some of them."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from relay import __main__ as program
from relay import sending, worker
from relay.pending import sqlite
from tests.crash.child import Boundaries

# What a transaction did, by words of its statements.
WORK = {"INSERT INTO signals": "accept", "SET state = 'leased'": "lease", "SET state = :state": "ack"}
# What an answer is, by words of its body; alerts are answered by a method of their own.
ANSWERS = {b'"signals"': "lease", b'"acked"': "ack"}
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


def kill_all() -> None:
    """Kill the server with all its processes, as a power cut would."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


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
        if sql != "COMMIT" or not self._done:
            return self._real.execute(sql, *values)
        name = " and ".join(sorted(self._done))
        self._boundaries.reach(f"before commit of {name}")
        cursor = self._real.execute(sql, *values)
        self._boundaries.reach(f"after commit of {name}")
        return cursor


def instrument(boundaries: Boundaries) -> None:
    """Wrap every boundary of this process's relay: each commit, each answer."""
    connect, send = sqlite.open_connection, sending.send_all

    def counted(path: str) -> Any:
        return Connection(connect(path), boundaries)

    def send_all(client: Any, data: bytes) -> None:
        name = next((word for text, word in ANSWERS.items() if text in data), None)
        if name is None:
            return send(client, data)
        boundaries.reach(f"before answer to {name}")
        send(client, data)
        return boundaries.reach(f"after answer to {name}")

    sqlite.open_connection = counted
    sending.send_all = send_all  # type: ignore[assignment]
    boundaries.around(worker.RelayWorker, "answer_alert", name="answer to webhook")


def run(port: int, boundaries: Path, kill_at: Collection[int]) -> None:
    """Be the relay, with its processes in a group of their own, until killed."""
    os.setsid()
    instrument(Boundaries(boundaries, kill_at, kill_all))
    serve: Callable[..., Any] = program.main
    serve(["--port", str(port), "--threads", "20"], prog_name="python -m relay")
