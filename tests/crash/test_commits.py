"""What a death right behind any commit would leave in the journal, without a process: after each one it is looked at."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.crash.child import Connection
from tests.executor.fakes import House


class Reader:
    """Stands in for the boundaries: reads the journal's file behind each commit, as the next life would."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.commits: list[str] = []
        self.wrong: list[str] = []

    def reach(self, name: str) -> None:
        if name.startswith("after commit"):
            self.commits.append(name)
            with sqlite3.connect(f"file:{self._path}?mode=ro", uri=True) as db:
                self.wrong += [f"{name}: {text}" for (text,) in db.execute(HALF_DECIDED)]


HALF_DECIDED = """
    SELECT 'signal ' || signal_id || ' has entered, and its orders are not written down' FROM inbox
    WHERE outcome = 'entered' AND signal_id NOT IN (
        SELECT signal_id FROM trades JOIN orders ON orders.trade_id = trades.id WHERE leg = 'E' AND order_id IS NOT NULL)
    UNION ALL
    SELECT 'trade ' || id || ' is there, and its signal is not decided' FROM trades
    WHERE signal_id IN (SELECT signal_id FROM inbox WHERE state <> 'done')
"""


def test_decision_and_intended_orders_are_one_commit(tmp_path: Path) -> None:
    path = tmp_path / "trade_state.db"
    house, reader = House.build(str(path)).connect(), Reader(path)
    house.journal._db = Connection(house.journal._db, reader)  # type: ignore[assignment,arg-type]
    house.signal("open", side="buy", size="10000", tp="1.20", sl="1.18")
    house.signal("open", side="sell", size="10000", tp="1.18", sl="1.20")
    assert [trade["state"] for trade in house.trades()] == ["closed", "open"]
    assert len(reader.commits) > 10 and reader.wrong == []
