"""Every test of the port runs on both engines, each as one instance and as two over one database."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.pending import open_pending
from relay.pending.base import Pending
from tests import canary
from tests.pending.patience import be_patient
from tests.pending.pg import PostgresServer, running_postgres

TABLES = "pending_signals, pending_symbols, pending_refused, pending_notices, pending_settings"
Opener = Callable[..., Pending]


class Alternating:
    """Two instances over one database; every call goes to the other one."""

    def __init__(self, *queues: Pending) -> None:
        self._turns = itertools.cycle(queues)

    def __getattr__(self, name: str) -> Any:
        return getattr(next(self._turns), name)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every queue waits as long as it takes, but for tests that ask for `hurry`."""
    be_patient(monkeypatch)


@pytest.fixture
def hurry(patience: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues give up as they really do."""
    monkeypatch.undo()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with running_postgres(fsync=False) as server:  # no power is cut in these tests
        yield server
        canary.keep(tmp_path_factory.getbasetemp(), "postgres", written(server))


def written(server: PostgresServer) -> bytes:
    """Return all rows of all queues, for the search after the run."""
    rows = []
    for (name,) in server.run_sql("SELECT datname FROM pg_database WHERE datname LIKE 'test%'"):
        for table in TABLES.split(", "):
            if server.run_sql(f"SELECT to_regclass('{table}')", name)[0][0]:
                rows += server.run_sql(f"SELECT t::text FROM {table} t", name)
    return "\n".join(row for (row,) in rows).encode()


@pytest.fixture(scope="session")
def shared_database(postgres: PostgresServer) -> str:
    return postgres.new_database()


@pytest.fixture
def queue_url(request: pytest.FixtureRequest, engine: str, tmp_path: Path) -> str:
    """Return the URL of an empty queue."""
    if engine == "sqlite":
        return f"sqlite:///{tmp_path / 'pending.db'}"
    server = request.getfixturevalue("postgres")
    url: str = request.getfixturevalue("shared_database")
    name = url.rpartition("/")[2].partition("?")[0]
    if server.run_sql("SELECT to_regclass('pending_signals')", name)[0][0]:
        server.run_sql(f"TRUNCATE {TABLES} RESTART IDENTITY", name)
    return url


@pytest.fixture
def opener(queue_url: str) -> Iterator[Opener]:
    """Return a function that opens the queue, and opens it again."""
    opened = []

    def open_it(**options: Any) -> Pending:
        opened.append(open_pending(queue_url, **options))
        return opened[-1]

    yield open_it
    for queue in opened:
        queue.close()


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[1, 2], ids=["alone", "two"])
def queue(request: pytest.FixtureRequest, opener: Opener) -> Any:
    """Return an empty queue: one instance, or two in turn."""
    return opener() if request.param == 1 else Alternating(opener(), opener())
