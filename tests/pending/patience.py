"""Queues that wait: a test that is not about time must not depend on how fast the machine is."""

from __future__ import annotations

import re
from typing import Any

import pytest

from common.clock import FakeClock
from relay.pending.writer import GroupWriter
from tests.relay.examples import NOW

FOREVER = 600.0  # no test waits so long


def be_patient(patch: pytest.MonkeyPatch) -> None:
    """Let nobody give up who waits for the queue, for its database, or for the lock of it."""
    patch.setattr("relay.pending.promise._clock", FakeClock(NOW))
    submit = GroupWriter.submit

    def patiently(self: GroupWriter[Any], job: Any, seconds: float = FOREVER) -> Any:
        return submit(self, job, seconds)

    patch.setattr(GroupWriter, "submit", patiently)
    hold_lock_for(patch, 50)
    try:
        from relay.pending import postgres
    except ImportError:  # psycopg is an extra
        return
    patch.setattr(postgres, "TRY_SECONDS", 50.0)
    patch.setattr(postgres, "CONNECT_SECONDS", 50.0)
    patch.setitem(postgres.CONNECTION, "connect_timeout", 50)
    begin = re.sub(r"(_timeout', ')\d+", r"\g<1>50000", postgres.QUERIES["begin"])
    patch.setitem(postgres.QUERIES, "begin", begin)


def hold_lock_for(patch: pytest.MonkeyPatch, seconds: int) -> None:
    """Let another process hold SQLite's write lock so long before somebody gives up."""
    from relay.pending import sqlite

    patch.setattr(sqlite, "LOCK_SECONDS", float(seconds))
    patch.setattr(sqlite, "PRAGMAS", (f"PRAGMA busy_timeout = {seconds * 1000}", *sqlite.PRAGMAS[1:]))


def look_again_after(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let a poll that nobody wakes look again so late."""
    for module in ("bell", "sqlite", "postgres"):
        patch.setattr(f"relay.pending.{module}.RECHECK_SECONDS", seconds)
