"""One executor process whose boundaries are counted, and which kills itself at some of them.

The product's code is untouched: the methods at the boundaries are wrapped here. Every boundary is written to a file,
one line each, before it is passed; the count goes on over restarts, so that a second number kills the second life.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Collection
from functools import wraps
from pathlib import Path
from typing import Any

from executor import __main__ as program
from executor import publisher
from executor.desk import desk
from executor.journal import storage
from executor.relay import client as relay_client
from executor.tws import client as tws
from executor.tws import connection as supervisor

FACTS = ("on_order", "on_fill", "on_commission", "on_position", "on_refusal", "on_connectivity", "on_contract")
# What is shortened: how long two snapshots lie apart, how long a lease lasts, and how long a retry waits.
SETTLE_SECONDS, LEASE_SECONDS, FIRST_PAUSES = 0.3, 1, (0.5,) * 6


def kill_self() -> None:
    """Die at once, as by the system's hand."""
    os.kill(os.getpid(), signal.SIGKILL)


class Boundaries:
    """Counts boundaries, over all lives of one run, and kills this process at the numbers asked for."""

    def __init__(self, path: Path, kill_at: Collection[int], kill: Callable[[], None] | None = None) -> None:
        self._kill_at, self._kill = kill_at, kill or kill_self
        self._path, self._file = path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._lock = threading.Lock()
        self.recount()

    def recount(self) -> None:
        """Go on behind what the lives before this one have noted."""
        self._number = self._path.read_bytes().count(b"\n")

    def reach(self, name: str) -> None:
        """Note that a boundary is reached; does not return if it is one to die at."""
        with self._lock:
            self._number += 1
            os.write(self._file, f"{self._number} {name}\n".encode())
            if self._number in self._kill_at:
                self._kill()

    def around(self, owner: Any, method_name: str, after: bool = True, name: str = "") -> None:
        """Make a method pass a boundary before, and another after what it does."""
        method: Callable[..., Any] = getattr(owner, method_name)
        label = name or f"{owner.__name__}.{method_name}"

        @wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            self.reach(f"before {label}")
            answer = method(*args, **options)
            if after:
                self.reach(f"after {label}")
            return answer

        setattr(owner, method_name, call)


class Connection:
    """The journal's connection, with a boundary before and after each commit."""

    quiet = False  # the page's view of the moment, written as the clock has it, holds no fact

    def __init__(self, real: sqlite3.Connection, boundaries: Boundaries) -> None:
        self._real, self._boundaries = real, boundaries

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql != "COMMIT" or Connection.quiet:
            return self._real.execute(sql, *values)
        who = _committer()
        self._boundaries.reach(f"before commit in {who}")
        cursor = self._real.execute(sql, *values)
        self._boundaries.reach(f"after commit in {who}")
        return cursor


def _committer() -> str:
    frame = sys._getframe(2)
    passed = ("book.py", "journal.py", "storage.py", "contextlib.py", "child.py")
    while frame.f_back and frame.f_code.co_filename.endswith(passed):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"


def instrument(boundaries: Boundaries) -> None:
    """Wrap every boundary of this process's executor: commits, facts from TWS, writes to it, acks."""
    connect, publish = storage._connect, publisher.Publisher.publish

    def counted(path: Path, readonly: bool) -> Any:
        real = connect(path, readonly)
        return real if readonly else Connection(real, boundaries)

    def publish_quietly(self: publisher.Publisher) -> None:
        Connection.quiet = True
        try:
            publish(self)
        finally:
            Connection.quiet = False

    storage._connect, publisher.Publisher.publish = counted, publish_quietly  # type: ignore[assignment,method-assign]
    for fact in FACTS:
        boundaries.around(desk.Desk, fact, after=False)
    for owner, name in ((tws.Tws, "send"), (tws.Tws, "cancel"), (relay_client.RelayClient, "ack")):
        boundaries.around(owner, name)


def shorten_waits() -> None:
    """Wait less, and do nothing else otherwise."""
    relay_client.LEASE_SECONDS = LEASE_SECONDS
    supervisor.SETTLE_SECONDS, supervisor._FIRST_PAUSES = SETTLE_SECONDS, FIRST_PAUSES


def run(arguments: list[str], boundaries: Path, kill_at: Collection[int], patient: bool) -> None:
    """Be the executor, until killed; `patient`: with its true waits."""
    instrument(Boundaries(boundaries, kill_at))
    if not patient:
        shorten_waits()
    program.main(arguments, prog_name="python -m executor")
