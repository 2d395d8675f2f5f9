"""A close while the market is closed: where the contract's hours tell it beforehand, the exits stay until it opens."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from executor.core.commands import Command, CommandKind
from executor.core.policy import Policy
from executor.core.ports import Contract, Session, Status
from executor.tws.decode import sessions

from .fakes import AAPL, EURUSD, START, House

OPENS = START + timedelta(hours=15)
CLOSED_NOW = (
    Session(START - timedelta(hours=9), START - timedelta(hours=2)),
    Session(OPENS, OPENS + timedelta(hours=7)),
)
OPEN_NOW = (Session(START - timedelta(hours=1), START + timedelta(hours=5)), *CLOSED_NOW[1:])
EXITS = {"T1", "S1"}


def build(sessions: tuple[Session, ...] = CLOSED_NOW, path: str = ":memory:", **policy: object) -> House:
    house = House.build(path, Policy(**policy))  # type: ignore[arg-type]
    tell(house, sessions)
    return house.connect()


def tell(house: House, sessions: tuple[Session, ...]) -> None:
    """Have TWS tell these hours of every contract."""
    for contract in (EURUSD, AAPL):
        house.broker.contracts[contract.symbol] = replace(contract, sessions=sessions)
        house.broker.by_number[contract.con_id] = house.broker.contracts[contract.symbol]


def buy(house: House, **exits: str) -> None:
    house.signal("open", side="buy", size="10000", **(exits or {"tp": "1.20", "sl": "1.18"}))


def open_market(house: House) -> None:
    """Let the night pass, but for the last second; then open."""
    house.clock.advance((OPENS - house.clock.now()).total_seconds() - 1)
    house.desk.tick()
    house.wanted.clear()
    house.desk.reconciled(house.broker.snapshot())
    assert EXITS & set(house.working()) and not any(leg.startswith("C") for leg in house.legs())
    house.pass_time(5)


def alarm(house: House, kind: str) -> str:
    return next(str(a["text"]) for a in house.journal.standing_alarms() if a["kind"] == kind)


def by_signal(house: House) -> None:
    house.signal("close")


def by_reversal(house: House) -> None:
    house.signal("open", side="sell", size="10000", tp="1.18", sl="1.20")


def by_strategy(house: House) -> None:
    house.strategy("flat", was="long 10000")


def by_button(house: House) -> None:
    text = house.command(Command(CommandKind.CLOSE, trade_id=1))
    assert "2026-11-24 06:00 UTC" in text and "exits stay" in text


def by_flatten(house: House) -> None:
    house.desk.life.hold(house.desk.book.trade(1), "a doubt")
    text = house.command(Command(CommandKind.FLATTEN, trade_id=1))
    assert "2026-11-24 06:00 UTC" in text and "being cancelled" not in text


WAYS = [by_signal, by_reversal, by_strategy, by_button, by_flatten]


@pytest.mark.parametrize("ask", WAYS)
def test_close_waits_with_its_exits_until_the_market_opens(ask) -> None:  # type: ignore[no-untyped-def]
    house = build()
    buy(house)
    ask(house)
    house.pass_time(30)
    assert set(house.working()) == EXITS and house.broker.cancels == []
    assert house.alarms() == ["close waits"]
    assert "until 2026-11-24 06:00 UTC" in alarm(house, "close waits") and "exits stay" in alarm(house, "close waits")
    open_market(house)
    assert house.trades()[0]["closed"] == 1 and house.broker.quantity[EURUSD.con_id] == 0
    assert house.legs().count("C1") == 1 and "close waits" not in house.alarms()


@pytest.mark.parametrize("ask", WAYS[:3])
@pytest.mark.parametrize("told", [OPEN_NOW, (), CLOSED_NOW[:1]], ids=["open", "not told", "over"])
def test_close_goes_out_at_once_where_nothing_tells_that_the_market_is_closed(told, ask) -> None:  # type: ignore[no-untyped-def]
    house = build(told)
    buy(house)
    ask(house)
    house.pass_time(2)
    assert house.trades()[0]["closed"] == 1 and "close waits" not in house.alarms()


def test_stop_that_triggers_while_a_close_waits_ends_the_trade() -> None:
    house = build()
    buy(house)
    signal = house.signal("close")
    house.broker.hit("S")
    house.pass_time(1)
    assert house.trades()[0]["exit_reason"] == "stop-loss" and house.outcome(signal)[0] == "closed"
    open_market_quietly(house)
    assert house.broker.quantity[EURUSD.con_id] == 0 and house.alarms() == []


def open_market_quietly(house: House) -> None:
    house.clock.advance((OPENS - house.clock.now()).total_seconds() + 1)
    house.pass_time(3)


def test_exits_are_kept_in_order_while_a_close_waits() -> None:
    """Half a take-profit in the evening: the stop shrinks with it. A stop that is lost comes back."""
    house = build()
    buy(house)
    house.signal("close")
    house.broker.hit("T", Decimal(4000))
    house.pass_time(5)
    assert house.working() == {"T1": 6000, "S1": 6000}
    house.broker._report(house.broker.id_of("S1"), Status.INACTIVE)
    house.pass_time(8)
    assert house.working() == {"T1": 6000, "R1": 6000}
    open_market_quietly(house)
    assert house.trades()[0]["closed"] == 1 and house.broker.quantity[EURUSD.con_id] == 0


@pytest.mark.parametrize("choice", ["hold", "flatten"])
def test_stop_that_cannot_come_back_while_a_close_waits_is_told_and_the_close_is_kept(choice: str) -> None:
    house = build(unprotected=choice)
    buy(house)
    house.broker.refuse = {"R": (201, "Order rejected - reason: margin")}
    house.signal("close")
    house.broker._report(house.broker.id_of("S1"), Status.INACTIVE)
    house.pass_time(30)
    assert house.state == "cancelling" and sorted(house.alarms()) == ["close waits", "unprotected"]
    assert "could not be put back" in alarm(house, "unprotected")
    open_market_quietly(house)
    assert house.trades()[0]["closed"] == 1 and house.broker.quantity[EURUSD.con_id] == 0


def test_stop_taken_by_the_owner_while_a_close_waits_is_told_and_not_put_back() -> None:
    house = build()
    buy(house)
    house.signal("close")
    house.broker.cancel_by_hand("S")
    house.pass_time(12)
    assert set(house.working()) == {"T1"} and "cancelled by hand" in alarm(house, "unprotected")


def test_unprotected_position_to_be_flattened_waits_with_what_stands() -> None:
    house = build(unprotected="flatten")
    house.broker.refuse = {"S": (201, "Order rejected"), "R": (201, "Order rejected")}
    buy(house)
    house.pass_time(40)
    assert set(house.working()) == {"T1"} and house.state == "cancelling"
    open_market_quietly(house)
    assert house.trades()[0]["closed"] == 1 and house.trades()[0]["exit_reason"] == "no stop-loss could be placed"


def test_entry_that_is_half_filled_is_cancelled_and_its_exits_stay() -> None:
    house = build()
    house.broker.fill_entries = False
    buy(house)
    house.broker.execute(house.broker.id_of("E1"), Decimal(3000), Decimal("1.19"))
    house.signal("close")
    house.pass_time(8)
    assert house.working() == {"T1": 3000, "S1": 3000}
    house.broker.fill_entries = True
    open_market_quietly(house)
    assert house.trades()[0]["closed"] == 1 and house.broker.quantity[EURUSD.con_id] == 0


def test_trade_without_exits_gives_its_close_to_the_broker() -> None:
    """There is nothing to keep: the broker holds the close until the market opens, whatever becomes of this program."""
    house = build()
    house.signal("open", side="buy", size="10000")
    house.signal("close")
    assert house.legs() == ["E1", "C1"]


# ---- hours that have to be asked for ----


def test_close_after_a_restart_waits_for_the_hours_and_then_for_the_market(tmp_path: Path) -> None:
    """The contract is not known yet: its exits are not cancelled before TWS has told whether the market is open."""
    path = str(tmp_path / "trade_state.db")
    house = build(path=path)
    buy(house)
    house.signal("close")
    ask = house.broker.request_contract
    asked: list[tuple[str, int]] = []
    house.broker.request_contract = lambda *question: asked.append(question)  # type: ignore[method-assign,assignment]
    house = house.restart(path).connect()
    assert set(house.working()) == EXITS and asked
    house.broker.request_contract = ask  # type: ignore[method-assign]
    ask(*asked[0])
    house.pass_time(2)
    assert set(house.working()) == EXITS and house.alarms() == ["close waits"]
    open_market(house)
    assert house.trades()[0]["closed"] == 1


@pytest.mark.parametrize("reconnected", [True, False])
def test_close_of_what_tws_does_not_name_keeps_its_exits_until_it_does(tmp_path: Path, reconnected: bool) -> None:
    """No close can be ordered: to cancel the exits would leave the position without a stop for as long as that lasts."""
    path = str(tmp_path / "trade_state.db")
    house = build(OPEN_NOW, path=path)
    buy(house)
    names, numbers = dict(house.broker.contracts), dict(house.broker.by_number)
    house.broker.contracts.clear()
    house.broker.by_number.clear()
    house = house.restart(path).connect()
    house.signal("close")
    house.pass_time(20)
    assert set(house.working()) == EXITS and house.alarms() == ["contract"]
    house.broker.contracts.update(names)
    house.broker.by_number.update(numbers)
    if reconnected:
        house.desk.disconnected("TWS is gone")
        house.connect()
    else:
        house.pass_time(61)
    assert house.trades()[0]["closed"] == 1 and house.alarms() == []


def test_trade_whose_contract_tws_was_too_slow_to_identify_is_looked_up_once_a_minute(tmp_path: Path) -> None:
    path = str(tmp_path / "trade_state.db")
    house = build(OPEN_NOW, path=path)
    buy(house, sl="1.18")
    house.broker.contracts.clear()
    numbers = dict(house.broker.by_number)
    house.broker.by_number.clear()
    house = house.restart(path).connect()
    house.signal("close")
    asked = len(house.broker.looked_up)
    house.pass_time(300)
    assert 4 <= len(house.broker.looked_up) - asked <= 6 and house.alarms() == ["contract"]
    house.broker.by_number.update(numbers)
    house.pass_time(61)
    assert house.trades()[0]["closed"] == 1 and house.alarms() == []


@pytest.mark.parametrize("closed", [True, False])
def test_hours_that_are_over_are_asked_for_anew(closed: bool) -> None:
    """The program has run for a week: what TWS told about the hours is about the last one."""
    house = build(CLOSED_NOW[:1])
    house.signal("open", side="buy", size="10000", tp="1.20", sl="1.18")
    tell(house, CLOSED_NOW if closed else OPEN_NOW)
    house.signal("close")
    house.pass_time(2)
    assert (set(house.working()) == EXITS) is closed
    assert len(house.broker.looked_up) == 2  # for the entry, and once for the close


def test_exit_waits_on_no_hours_that_were_told_long_ago() -> None:
    """The week before they said that the market is closed now; asked anew, TWS tells that it trades."""
    house = build()
    buy(house)
    tell(house, OPEN_NOW)
    house.signal("close")
    house.pass_time(2)
    assert house.trades()[0]["closed"] == 1 and len(house.broker.looked_up) == 2


def test_market_that_opens_sooner_than_was_told_is_noticed_while_a_close_waits() -> None:
    house = build()
    buy(house)
    house.signal("close")
    house.pass_time(60)
    assert len(house.broker.looked_up) == 2 and set(house.working()) == EXITS
    tell(house, OPEN_NOW)
    house.pass_time(1300)
    assert house.trades()[0]["closed"] == 1


# ---- futures ----


def test_what_takes_a_future_out_works_in_all_hours_of_its_exchange() -> None:
    house = build(())
    house.broker.contracts["ES"] = Contract(5, "ES", "FUT", "ES", "USD", "CME")
    house.signal("open", "ES", side="buy", size="2", tp="1.20", sl="1.18")
    house.broker.hit("T", Decimal(1))
    house.pass_time(5)
    house.signal("close", "ES")
    outside = {(t.order_ref[20], t.outside_rth) for t in house.broker.sent}
    assert outside == {("E", False), ("T", True), ("S", True), ("C", True)}


# ---- where only TWS's answer to the close shows that the market is closed ----


def test_alarm_of_a_bare_close_says_since_when_and_why() -> None:
    house = build(())
    buy(house)
    house.broker.fill_entries = False
    house.signal("close")
    held = "Warning: Your order will not be placed at the exchange until 2026-11-24 09:30:00 US/Eastern"
    trade = house.desk.book.trade(1)
    house.change_order(next(o for o in trade.orders if o.order_ref.endswith("C1")), held=held)
    house.pass_time(15)
    assert sorted(house.alarms()) == ["close waits", "unprotected"]
    text = alarm(house, "unprotected")
    assert "NO working stop-loss" in text and "since 2026-11-23 15:00:00 UTC" in text and held in text


# ---- what TWS writes ----

EASTERN = "US/Eastern"


@pytest.mark.parametrize(("hours", "zone", "spans"), [
    ("20260412:1715-20260413:1700", EASTERN, ["04-12 21:15 04-13 21:00"]),
    ("20090507:0700-1830,1830-2330;20090508:CLOSED", "EST5EDT", ["05-07 11:00 05-07 22:30", "05-07 22:30 05-08 03:30"]),
    ("20090507:1700-1515", "US/Central", ["05-06 22:00 05-07 20:15"]),
    ("20260413:0000-2400", "Japan", ["04-12 15:00 04-13 15:00"]),
    ("20260413:0900-20260413:1730;", "MET", ["04-13 07:00 04-13 15:30"]),
    ("20261101:0930-20261101:1600", EASTERN, ["11-01 14:30 11-01 21:00"]),
    ("20260413:CLOSED", EASTERN, []),
])  # fmt: skip
def test_hours_are_read_as_tws_writes_them(hours: str, zone: str, spans: list[str]) -> None:
    assert [f"{s.opens:%m-%d %H:%M} {s.closes:%m-%d %H:%M}" for s in sessions(hours, zone)] == spans
    assert all(s.opens.tzinfo is UTC for s in sessions(hours, zone))


@pytest.mark.parametrize(("hours", "zone"), [
    ("", EASTERN), ("20260413", EASTERN), ("20260413:0930-noon", EASTERN), ("2026041:0930-1600", EASTERN),
    ("20260413:2500-20260413:2600", EASTERN), ("20260413:0930-20260413:0930", EASTERN),
    ("20260413:1600-20260413:0930", EASTERN), ("20261313:0930-1600", EASTERN), ("99991231:0930-2400", "UTC"),
    ("00010101:0930-0900", "Japan"), ("20260413:0930-1600;nonsense", EASTERN),
    ("20260413:0930-1600", ""), ("20260413:0930-1600", "Eastern"), ("20260413:0930-1600", "../../zone"),
    ("20260413:0930-1600", "EST"),  # it has no summer time, and TWS may mean New York by it
])  # fmt: skip
def test_hours_that_cannot_be_read_are_not_known(hours: str, zone: str) -> None:
    assert sessions(hours, zone) == ()


def test_market_opens_when_its_next_session_begins() -> None:
    one: Contract = replace(EURUSD, sessions=CLOSED_NOW)
    edge = CLOSED_NOW[0]
    assert one.opens_at(edge.opens) is None and one.opens_at(edge.closes) == OPENS
    assert one.opens_at(datetime(2026, 12, 24, tzinfo=UTC)) is None and one.seems_closed(START + timedelta(days=3))
    assert replace(EURUSD, sessions=()).opens_at(START) is None and not EURUSD.seems_closed(START)
