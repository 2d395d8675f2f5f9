"""What the page reads costs the same however old the journal is: the plans say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.clock import FakeClock
from executor.journal import reading
from executor.journal.journal import Journal
from executor.status import queries

# query → how it must go through the tables that grow: by an index, or from the newest row back until the limit
PLANS = {
    "_OPEN": ["SCAN trades USING INDEX unfinished_trades"],
    "_CLOSED": ["SCAN trades USING INDEX trades_by_end"],
    "_SIGNALS": ["SCAN inbox"],
    "_LOG": ["SCAN events"],
    "_ALARMS": ["SCAN alarms USING INDEX alarms_to_tell"],
    "_OUTCOMES": ["SCAN signal_tallies"],
    "_DELAYS": ["SCAN delay_tallies"],
}
NEWEST_FIRST = ("_CLOSED", "_SIGNALS", "_LOG")  # read in the order of the index, or of the rows, and no further


@pytest.mark.parametrize("name", PLANS)
def test_each_list_of_the_page_reads_no_more_than_it_shows(name: str, bench, tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "trade_state.db", FakeClock(bench.clock.now()))
    sql = getattr(queries, name)
    plan = [row[3] for row in journal._rows(f"EXPLAIN QUERY PLAN {sql}", *[1] * sql.count("?"))]
    journal.close()
    sorting = [step for step in plan if "TEMP B-TREE" in step]
    assert [step for step in plan if step not in sorting] == PLANS[name]
    if name in NEWEST_FIRST:
        assert sorting == [] and "LIMIT ?" in sql


@pytest.mark.parametrize("of", ["TRADES", "ORDERS", "EXECUTIONS"])
@pytest.mark.parametrize("which", ["_OPEN", "_CLOSED"])
def test_trades_are_read_with_what_belongs_to_them_by_their_number(of: str, which: str, bench, tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "trade_state.db", FakeClock(bench.clock.now()))
    sql = getattr(reading, of).format(which=getattr(queries, which))
    first, *rest = (row[3] for row in journal._rows(f"EXPLAIN QUERY PLAN {sql}", *[1] * sql.count("?")))
    journal.close()
    assert first.startswith("SEARCH ") and first.endswith(("(rowid=?)", "(trade_id=?)"))
    assert [step for step in rest if step.startswith("SCAN")] == PLANS[which]
