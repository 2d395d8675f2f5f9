"""The book: equal to what a restart builds, changed only by what was committed, and the only thing that is read."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from common.errors import IllegalTransition, JournalError, JournalMisuse
from executor.core.commands import Command, CommandKind
from executor.core.conditions import AlarmKind
from executor.core.trades import State
from executor.desk.book import KEPT
from tests.executor.books import check_at_rest, check_restart, contents
from tests.executor.fakes import AAPL, EURUSD, House


@pytest.fixture
def house() -> House:
    return House.build().connect()


def open_trade(house: House, symbol: str = "EURUSD", size: str = "10000") -> str:
    return house.signal("open", symbol, "buy", size, tp="1.25", sl="1.10")


def selects(house: House) -> list[str]:
    """Collect every SELECT that the journal's connection runs from now on."""
    found: list[str] = []
    house.journal._db.set_trace_callback(
        lambda sql: found.append(sql) if "SELECT" in sql.upper() and sql != "SELECT 1 FROM inbox" else None
    )
    return found


# ---- equal to what a restart would build ----


def a_long_day(house: House) -> None:
    """Every kind of thing that a book holds: open, closed, held and adopted trades, blocks, holdings, alarms, signals."""
    open_trade(house)
    house.broker.hit("T")
    open_trade(house)  # blocked
    house.signal("open", "EURUSD", "sell", "10000", tp="1.10", sl="1.25")
    house.broker.hit("S", quantity=Decimal(4000))
    house.signal("close")
    open_trade(house, "AAPL", "10")
    house.broker.cancel_by_hand("S")
    house.pass_time(12)
    house.beside(AAPL, Decimal(3))
    house.broker.by_hand(EURUSD, Decimal(500), Decimal("1.2"))
    house.pass_time(15)
    house.command(Command(CommandKind.ADOPT_POSITION, symbol="EURUSD"))
    house.signal("open", "MSFT", "buy", "10")
    house.desk.disconnected("TWS is away")
    house.signal("close", "AAPL")
    house.signal("open", "EURUSD", "sell", "100")


def test_after_a_long_day_the_book_equals_the_one_a_restart_builds(house: House) -> None:
    a_long_day(house)
    check_restart(house.desk)
    kinds = contents(house.desk.book)
    assert all(kinds[kind] for kind in ("trades", "foreign", "signals", "holdings", "meanings", "alarms", "open"))


def test_a_restart_goes_on_where_the_last_life_ended(house: House, tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    a_long_day(house)
    before = contents(house.desk.book)
    later = house.restart(path)
    assert contents(later.desk.book) == before
    later.connect().pass_time(20)
    check_restart(later.desk)
    check_at_rest(later.desk)


def test_nothing_is_left_undone_after_a_long_day(house: House) -> None:
    a_long_day(house)
    house.connect().pass_time(30)
    check_at_rest(house.desk)


# ---- changed only by what was committed ----


def test_a_commit_that_fails_changes_nothing(house: House) -> None:
    open_trade(house)
    before = contents(house.desk.book)
    house.journal._db.execute("PRAGMA query_only = ON")
    house.broker.hit("S")
    open_trade_failed = False
    try:
        open_trade(house, "AAPL", "10")
    except JournalError:
        open_trade_failed = True
    assert open_trade_failed and contents(house.desk.book) == before and not house.desk.can_send
    house.journal._db.execute("PRAGMA query_only = OFF")
    house.pass_time(10)
    assert house.trades()[0]["exit_reason"] == "stop-loss" and house.desk.can_send
    check_restart(house.desk)


def test_an_entry_whose_commit_fails_leaves_nothing_to_work_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trade that never was stayed on the agenda: every turn after it failed, whatever it was about."""
    before = contents(house.desk.book)

    def full(*_: object) -> None:
        raise JournalError("the disk is full")

    with monkeypatch.context() as patch, pytest.raises(JournalError):
        patch.setattr(house.journal, "save_trade", full)
        open_trade(house, "AAPL", "10")
    assert contents(house.desk.book) == before and house.broker.sent == []
    house.pass_time(2)
    open_trade(house)
    assert house.state == "open" and house.alarms() == []


def test_a_change_inside_another_is_taken_back_with_it(house: House) -> None:
    open_trade(house)
    before, book = contents(house.desk.book), house.desk.book
    with pytest.raises(KeyError), book.change():
        with book.change():
            book.set_beside(EURUSD.con_id, "EURUSD", Decimal(7))
            book.remember_contract("NEW", 99)
            book.take_order_ids(1, 5, 1)
            book.set_block(book.trade(1), "planted", sure=True)
        assert book.beside(EURUSD.con_id) == 7 and book.names_of(99) == {"NEW"}
        raise KeyError("planted")
    assert contents(book) == before and book.names_of(99) == set()


def test_nothing_is_sent_from_within_a_change(house: House) -> None:
    """What follows from a fact that arrives inside a change waits for the commit."""
    with house.desk.book.change():
        house.desk.agenda.symbols.add("EURUSD")
        house.desk.advance()
        assert house.desk.agenda.has_work
    house.desk.advance()
    assert not house.desk.agenda.has_work


# ---- the only thing that is read ----


def test_no_select_between_a_signal_and_its_orders_nor_for_what_the_broker_says(house: House) -> None:
    open_trade(house)  # the contract is known now
    house.broker.hit("S")
    house.broker.fill_entries = False
    read = selects(house)
    open_trade(house)
    assert len(house.broker.sent) == 6 and read == []
    house.broker.execute(house.broker.id_of("E1"), Decimal(4000), Decimal("1.19"))
    house.broker.execute(house.broker.id_of("E1"), Decimal(6000), Decimal("1.19"))
    house.desk.on_commission(house.broker.fills[-1].exec_id, Decimal(2))
    house.signal("open", "EURUSD", "sell", "10000", tp="1.10", sl="1.25")
    house.signal("close")
    house.pass_time(2)
    assert read == []


def test_a_reading_of_everything_selects_nothing_of_today(house: House) -> None:
    for _ in range(3):
        open_trade(house)
        house.broker.hit("S")
    read = selects(house)
    house.connect()
    assert read == []


def test_receipt_decision_orders_and_ids_are_one_commit(house: House) -> None:
    open_trade(house)
    house.broker.hit("S")
    house.broker.silent = True
    commits: list[str] = []
    house.journal._db.set_trace_callback(lambda sql: commits.append(sql) if sql.startswith("COMMIT") else None)
    open_trade(house)
    assert len(house.broker.sent) == 6 and len(commits) == 1


def test_what_ended_long_ago_leaves_memory_and_is_found_again(house: House) -> None:
    open_trade(house)
    house.broker.hit("S")
    late = house.broker.fills[0]
    house.clock.advance(KEPT.total_seconds() + 1)
    house.desk.tidy()
    assert house.desk.book._trades.get(1) is None and not house.desk.book.knows(late.exec_root)
    assert house.desk.book.trade(1).closed and house.desk.book.knows(late.exec_root)
    house.desk.on_fill(late)
    assert len(house.journal._rows("SELECT 1 FROM fills")) == 2


def test_contracts_of_the_last_month_are_known_before_the_first_alert_of_the_day(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = House.build(path).connect()
    for symbol in ("EURUSD", "AAPL"):
        house.signal("close", symbol)
    house.clock.advance(29 * 86400)
    later = house.restart(path).connect()
    asked: list[str] = []
    ask = later.broker.request_contract
    later.broker.request_contract = lambda symbol, con_id=0: (asked.append(symbol), ask(symbol, con_id))[1]  # type: ignore[method-assign]
    later.pass_time(0.5)
    assert len(asked) == 1, "one for each tick: no order has to wait behind them"
    later.pass_time(1)
    assert sorted(asked) == ["AAPL", "EURUSD"] and set(later.desk.sight.contracts) == {"AAPL", "EURUSD"}


@pytest.mark.parametrize("error", [KeyError("planted"), IllegalTransition("planted"), JournalMisuse("planted")])
def test_a_bug_in_deciding_loses_no_signal(house: House, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """It is received and may be acked; nothing is sent, and the owner is told."""

    def broken(symbol: str) -> None:
        raise error

    monkeypatch.setattr(house.desk.signals, "work", broken)
    open_trade(house)
    assert [row.signal.symbol for row in house.desk.book.undone()] == ["EURUSD"]
    assert house.broker.sent == [] and house.alarms() == ["program"]
    check_restart(house.desk)


def test_a_wish_that_fails_halfway_sends_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    open_trade(house)
    house.desk.life.hold(house.desk.book.trade(1), "a doubt")
    house.connect()

    def broken(*_: object) -> None:
        raise IllegalTransition("planted")

    monkeypatch.setattr(house.desk.life, "move", broken)
    before, cancels = contents(house.desk.book), list(house.broker.cancels)
    with pytest.raises(IllegalTransition):
        house.command(Command(CommandKind.FLATTEN, trade_id=1))
    house.pass_time(2)
    assert contents(house.desk.book) == before and house.broker.cancels == cancels


def test_an_alarm_that_ends_and_begins_again_in_one_change_is_a_new_one(house: House) -> None:
    alarms, clock = house.desk.alarms, house.clock
    alarms.state(AlarmKind.HOLD, "on hold", "7")
    clock.advance(60)
    with house.desk.book.change():
        alarms.state(AlarmKind.HOLD, None, "7", over="adopted")
        alarms.state(AlarmKind.HOLD, "on hold again", "7")
    check_restart(house.desk)
    rows = house.journal._rows("SELECT text, cleared_text FROM alarms ORDER BY id")
    assert [tuple(row) for row in rows] == [("on hold", "adopted"), ("on hold again", None)]


def test_the_last_trade_of_a_symbol_is_found_among_its_own(house: House) -> None:
    for symbol in ("EURUSD", "AAPL", "EURUSD"):
        open_trade(house, symbol, "10")
        house.signal("close", symbol)
    open_trade(house)
    book = house.desk.book
    assert [trade and trade.id for trade in map(book.last_ended, ("EURUSD", "AAPL", "ES"))] == [3, 2, None]
    with pytest.raises(KeyError), book.change():
        book.put(replace(book.trade(3), state=State.HOLD))
        found = book.last_ended("EURUSD")
        assert found is not None and found.id == 1
        raise KeyError("planted")
    assert book.last_ended("EURUSD") == book.trade(3)
    house.clock.advance(KEPT.total_seconds() + 1)
    book.tidy()
    assert book.last_ended("AAPL") is None
