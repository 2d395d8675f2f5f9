"""The demo's story on the real whole: what it prints as the journal is what the paper TWS has in its books."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from executor.paper.control import ControlClient


@pytest.fixture
def story(make_run):
    """Play the demo beside `make run`: what it printed, the run's state, the executions of the paper TWS."""
    run = make_run().wait_ready()
    printed = run.paste("make --no-print-directory demo")
    state = json.loads((run.folder / ".run/state.json").read_text("utf-8"))
    with ControlClient(state["control"]) as control:
        assert not control.positions() and not control.orders()
        return printed, state, control.executions()


def test_demo_ends_with_the_rows_that_the_broker_has_in_its_books(story):
    printed, state, executions = story
    with closing(sqlite3.connect(Path(state["journal"]))) as journal:
        rows = journal.execute(
            "SELECT signal, position_size, entry_price, exit_price, tp_hit FROM trades ORDER BY id"
        ).fetchall()
    assert [(r[0], r[4]) for r in rows] == [("buy", 1), ("sell", 0), ("buy", 0)]
    ours = sorted(Decimal(str(r[n])) for r in rows for n in (2, 3))
    assert ours == sorted(Decimal(str(e["price"])) for e in executions)
    assert all(re.search(rf"│ {r[0]}\s+│ {r[1]}\s+│", printed) for r in rows)
