"""What a death right behind any commit would leave in the journal, without a process: after each one it is looked at."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path

import pytest

from executor.journal.journal import Journal, Loaded
from tests.crash import remains
from tests.crash.child import Connection
from tests.crash.remains import HALF_DONE
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
                self.wrong += [f"{name}: {text}" for (text,) in db.execute(HALF_DONE)]


def read_at_each_commit(path: Path) -> tuple[House, Reader]:
    house, reader = House.build(str(path)).connect(), Reader(path)
    house.journal._db = Connection(house.journal._db, reader)  # type: ignore[assignment,arg-type]
    house.signal("open", side="buy", size="10000", tp="1.20", sl="1.18")
    return house, reader


def test_decision_and_intended_orders_are_one_commit(tmp_path: Path) -> None:
    house, reader = read_at_each_commit(tmp_path / "trade_state.db")
    house.signal("open", side="sell", size="10000", tp="1.18", sl="1.20")
    assert [trade["state"] for trade in house.trades()] == ["closed", "open"]
    assert len(reader.commits) > 10 and reader.wrong == []


def test_hold_and_its_alarm_are_one_commit(tmp_path: Path) -> None:
    house, reader = read_at_each_commit(tmp_path / "trade_state.db")
    house.broker.refuse = {"C": (201, "Order rejected")}
    house.signal("close")
    house.pass_time(5)
    assert house.state == "hold" and reader.wrong == []


def test_decision_and_size_to_come_are_one_commit(tmp_path: Path) -> None:
    house, reader = read_at_each_commit(tmp_path / "trade_state.db")
    house.broker.fill_entries = False
    house.signal("close", size="4000")
    assert house.legs()[-1] == "X1" and house.trades()[0]["shrink_to"] == "6000" and reader.wrong == []


# ---- what a death may not leave is found ----


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The journal of an executor that died with an open trade."""
    path = tmp_path / "trade_state.db"
    house = House.build(str(path)).connect()
    house.signal("open", side="buy", size="10000", tp="1.20", sl="1.18")
    house.journal.close()
    return path


def test_what_an_open_trade_leaves_is_right_and_stays_as_it_was(left: Path) -> None:
    before = left.read_bytes()
    assert remains.wrong(left) == []
    assert left.read_bytes() == before and list(left.parent.iterdir()) == [left]


@pytest.mark.parametrize(("sql", "words"), [
    ("UPDATE orders SET order_id = NULL", "its orders are not written down"),
    ("UPDATE inbox SET state = 'waiting', outcome = NULL", "its signal is not decided"),
    ("UPDATE trades SET state = 'hold'", "is on hold, and its alarm is not open"),
    ("DELETE FROM fills", "its fills are something else"),
    ("UPDATE trades SET shrink_to = 5, shrink_for = 'x', shrink_at = filled_at, shrink_taken = 0", "is to come down to 5"),
    ("UPDATE orders SET leg = 'X', signal_id = 'x' WHERE leg = 'T'", "no signal is decided that asked for it"),
])  # fmt: skip
def test_what_a_death_may_not_leave_is_found(left: Path, sql: str, words: str) -> None:
    with sqlite3.connect(left) as db:
        db.execute(sql)
    db.close()
    found = remains.wrong(left)
    assert len(found) == 1 and words in found[0]


def test_what_is_not_the_same_when_it_is_loaded_again_is_found(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Journal.load

    def once(self: Journal, since: datetime) -> Loaded:
        found = load(self, since)
        with self.transaction():
            self._write("DELETE FROM contracts")
        return found

    monkeypatch.setattr(Journal, "load", once)
    assert remains.wrong(left) == ["the meanings differ when they are loaded again"]
