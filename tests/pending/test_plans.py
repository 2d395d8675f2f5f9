"""What is done for every signal goes through an index, however many wait: the plans say so."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from relay.pending import postgres_ledger, sqlite_ledger
from relay.pending.queries import migrations
from relay.pending.sqlite import _statements
from tests.pending.examples import START
from tests.pending.pg import PostgresServer

# query -> the indexes it must use (and it must read nothing from end to end)
SQLITE = {
    "known": ["sqlite_autoindex_signals_1", "sqlite_autoindex_signals_2"],
    "newest": ["PRIMARY KEY (symbol=?)"],
    "forget_keys": ["sqlite_autoindex_signals_2"],
    "release": ["symbols_held"],
    "ready": ["symbols_ready"],
    "line": ["signals_line (symbol=? AND seq>?)"],
    "closing": ["signals_closing", "signals_held (symbol=? AND seq<?)"],
    "lent": ["signals_lent (consumer=?)", "signals_line (symbol=? AND seq<?)"],
    "lease": ["INTEGER PRIMARY KEY"],
    "finish": ["INTEGER PRIMARY KEY"],
    "give_back": ["INTEGER PRIMARY KEY"],
    "overtaken": ["signals_line (symbol=? AND seq<?)"],
    "letters": ["INTEGER PRIMARY KEY"],
    "head": ["PRIMARY KEY (symbol=?)", "signals_line (symbol=? AND seq>?)"],
    "next_due": ["symbols_held"],
    "by_id": ["sqlite_autoindex_signals_1"],
    "dead": ["signals_done"],
    "forget": ["signals_done"],
}
POSTGRES = {
    "lock_symbols": ["pending_symbols_pkey"],
    "known": ["pending_signals_id_key", "pending_signals_dedupe_key_key"],
    "append": ["pending_symbols_pkey"],
    "release": ["pending_symbols_held"],
    "lock_ready": ["pending_symbols_ready"],
    "lines": ["pending_signals_line"],
    "closing": ["pending_signals_closing|pending_signals_line"],
    "lent": ["pending_signals_lent", "pending_signals_line"],
    "lease": ["pending_signals_pkey"],
    "finish": ["pending_signals_pkey"],
    "give_back": ["pending_signals_pkey"],
    "overtaken": ["pending_signals_line"],
    "letters": ["pending_signals_pkey"],
    "head": ["pending_symbols_pkey", "pending_signals_line"],
    "next_due": ["pending_symbols_held"],
    "lock_symbols_of": ["pending_signals_id_key", "pending_symbols_pkey"],
    "by_ids": ["pending_signals_id_key"],
    "dead": ["pending_signals_done"],
    "forget": ["pending_signals_done"],
}
VALUES: dict[str, Any] = {
    "symbols": ["S1", "S2"], "symbol": ["S1"], "ids": ["1", "2"], "id": ["1"], "keys": ["k"], "heads": [1, 2],
    "seqs": [1, 2], "seq": 1, "limit": 10, "now": START, "horizon": START + timedelta(seconds=600), "until": START,
    "lease": "x", "leases": ["x", "y"], "reasons": ["x", "y"], "reason": "x", "state": "acked",
    "finished": [1, 1], "before": START - timedelta(days=30), "first": [1], "count": [1], "fingerprint": ["x"],
    "at": [START], "position": [None], "position_at": [None], "consumer": "x", "mode": "open",
    "since": START,
}  # fmt: skip
FILL = """
INSERT INTO pending_signals (id, symbol, action, dedupe_key, fingerprint, received_at, headers, payload)
    SELECT n::text, 'S' || n % 2000, CASE WHEN n % 3 = 0 THEN 'close' ELSE 'open' END, 'k' || n, 'f', now(),
        '{}', ''
    FROM generate_series(1, 40000) AS n;
INSERT INTO pending_symbols (symbol, head_seq, waiting)
    SELECT symbol, min(seq), count(*) FROM pending_signals GROUP BY 1;
ANALYZE pending_signals, pending_symbols;
"""


@pytest.fixture(scope="module")
def schema() -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(":memory:")
    for statement in _statements(migrations("sqlite")[0]):
        database.execute(statement)
    yield database
    database.close()


@pytest.mark.parametrize("name", SQLITE)
def test_sqlite_goes_through_an_index(schema: sqlite3.Connection, name: str) -> None:
    query = sqlite_ledger.QUERIES[name]
    values = dict.fromkeys(re.findall(r":(\w+)", query))
    plan = "\n".join(row[3] for row in schema.execute(f"EXPLAIN QUERY PLAN {query}", values))
    assert all(index in plan for index in SQLITE[name]), plan
    assert "TEMP B-TREE" not in plan
    assert not re.search(r"SCAN \w+($|\n)", plan), plan


@pytest.fixture(scope="module")
def filled(postgres: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres.new_database(), autocommit=True) as connection:
        connection.execute(migrations("postgres")[0].encode())
        connection.execute(FILL.encode())
        yield connection


@pytest.mark.parametrize("name", POSTGRES)
def test_postgresql_goes_through_an_index(filled: psycopg.Connection[Any], name: str) -> None:
    query = f"EXPLAIN {postgres_ledger.QUERIES[name]}".encode()
    plan = "\n".join(row[0] for row in filled.execute(query, VALUES))
    assert all(re.search(rf"\b({index})\b", plan) for index in POSTGRES[name]), plan
    assert "Seq Scan" not in plan, plan
