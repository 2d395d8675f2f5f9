"""What the executor reads of its journal costs the same however old that is: the plans say so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.clock import FakeClock
from executor.journal import journal as queries
from executor.journal import reading
from executor.journal.journal import Journal

from .fakes import START

# The tables that grow with every trade; each has a name in every query below that reads it.
GROWING = ("inbox", "trades", "orders", "fills", "events", "alarms")
# Indexes that hold only what is not over yet: all of one may be read.
OF_THE_PRESENT = ("unfinished_trades", "inbox_undone", "alarms_to_tell", "one_alarm_per_key")
OF_TRADES = {
    f"{name} of {which}": getattr(reading, name).format(which=getattr(queries, which, which))
    for name in ("TRADES", "ORDERS", "EXECUTIONS")
    for which in ("_RECENT", "_UNFINISHED", "SELECT ?")
}
ALL = OF_TRADES | {
    name: getattr(queries, name)
    for name in (
        "_FOREIGN", "_UNDONE", "_TRADED", "_BY_REF", "_BY_NUMBER", "_EXECUTION", "_STANDING", "_TO_TELL",
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    path: Path = tmp_path_factory.mktemp("plans") / "trade_state.db"
    return Journal.open(path, FakeClock(START))


def plan_of(journal: Journal, sql: str) -> list[str]:
    return [str(row[3]) for row in journal._rows(f"EXPLAIN QUERY PLAN {sql}", *[1] * sql.count("?"))]


def scanned(plan: list[str]) -> list[str]:
    """Return the steps that read a growing table from end to end, however little of it is wanted."""
    scans = [step for step in plan if re.match(rf"SCAN ({'|'.join(GROWING)})\b", step)]
    return [step for step in scans if not step.endswith(tuple(f"INDEX {name}" for name in OF_THE_PRESENT))]


@pytest.mark.parametrize("name", ALL)
def test_nothing_that_grows_is_read_from_end_to_end(journal: Journal, name: str) -> None:
    plan = plan_of(journal, ALL[name])
    assert [step for step in plan if any(f" {table}" in step for table in GROWING)], "it reads none of them at all"
    assert scanned(plan) == []


def test_a_scan_would_be_seen(journal: Journal) -> None:
    for sql in (
        "SELECT * FROM fills WHERE at > ?",
        "SELECT DISTINCT symbol FROM trades",
        "SELECT count(*) FROM events",
    ):
        assert scanned(plan_of(journal, sql))


def test_executions_of_nobody_are_found_by_their_time(journal: Journal) -> None:
    """By `trade_id IS NULL` alone they would be all that the owner ever did by hand in a contract."""
    assert plan_of(journal, queries._FOREIGN) == ["SEARCH fills USING INDEX fills_of_nobody (at>?)"]


def test_every_query_with_a_condition_is_looked_at() -> None:
    """A query that is added to the journal is added above."""
    names = {name for name, value in vars(queries).items() if isinstance(value, str) and " WHERE " in value}
    assert {"_RECENT", "_UNFINISHED", *ALL} >= {name for name in names if name.startswith("_")} - {"_LAST_TRADE"}
