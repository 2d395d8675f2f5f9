"""Entries that wait while nothing can be sent, and that a later signal takes back: nothing is bought only to be sold."""

from __future__ import annotations

import pytest

from executor.core.policy import Policy

from .fakes import AAPL, House

EXITS = {"tp": "1.20", "sl": "1.18"}


@pytest.fixture
def away() -> House:
    """TWS is away."""
    house = House.build().connect()
    house.desk.disconnected("TWS is away")
    return house


def back(house: House) -> None:
    house.connect()
    house.pass_time(3)


def buy(house: House) -> str:
    return house.signal("open", "AAPL", "buy", "100", **EXITS)


def test_a_waiting_entry_and_then_a_close_opens_nothing(away: House) -> None:
    entry, close = buy(away), away.signal("close", "AAPL")
    outcome, reason = away.outcome(entry)
    assert outcome == "superseded" and reason == "a later close came before this could be sent; nothing was entered"
    back(away)
    assert not away.broker.sent and away.outcome(close)[0] == "nothing to do" and away.alarms() == []


def test_a_waiting_entry_and_then_the_opposite_one_enters_only_that(away: House) -> None:
    entry = buy(away)
    opposite = away.signal("open", "AAPL", "sell", "70")
    assert away.outcome(entry)[0] == "superseded" and "a later sell signal" in (away.outcome(entry)[1] or "")
    back(away)
    assert away.legs() == ["E1"] and away.broker.quantity[AAPL.con_id] == -70 and away.outcome(opposite)[0] == "entered"


def test_back_and_forth_ends_with_the_last(away: House) -> None:
    signals = [away.signal("open", "AAPL", side, "10") for side in ("buy", "sell", "buy", "sell", "buy")]
    back(away)
    assert [away.outcome(each)[0] for each in signals] == ["superseded"] * 4 + ["entered"]
    assert away.broker.quantity[AAPL.con_id] == 10 and away.legs() == ["E1"]


def test_while_the_contract_is_looked_up_it_is_the_same() -> None:
    house = House.build().connect()
    request, house.broker.request_contract = house.broker.request_contract, lambda symbol, con_id=0: None
    entry = buy(house)
    close = house.signal("close", "AAPL")
    assert house.outcome(entry)[0] == "superseded"
    house.broker.request_contract = request
    house.desk.on_contract("AAPL", AAPL)
    house.pass_time(3)
    assert not house.broker.sent and house.outcome(close)[0] == "nothing to do"


@pytest.mark.parametrize("later", [
    {"action": "close", "percent": "50"}, {"action": "reset"}, {"action": "open", "side": "buy", "size": "50"},
])  # fmt: skip
def test_what_does_not_take_it_back_leaves_it(away: House, later: dict[str, str]) -> None:
    entry = buy(away)
    away.signal(later["action"], "AAPL", **{k: v for k, v in later.items() if k != "action"})
    assert away.outcome(entry)[0] is None
    back(away)
    assert away.outcome(entry)[0] == "entered"


def test_what_is_open_already_is_closed_as_ever() -> None:
    house = House.build().connect()
    buy(house)
    house.desk.disconnected("TWS is away")
    reversal, close = house.signal("open", "AAPL", "sell", "70"), house.signal("close", "AAPL")
    back(house)
    assert house.outcome(reversal)[0] == "superseded" and house.outcome(close)[0] == "closed"
    assert house.broker.quantity[AAPL.con_id] == 0 and len(house.trades()) == 1


def test_another_symbol_takes_nothing_back(away: House) -> None:
    entry = buy(away)
    away.signal("close", "EURUSD")
    back(away)
    assert away.outcome(entry)[0] == "entered"


def test_an_entry_that_waits_for_our_own_orders_is_not_taken_back() -> None:
    house = House.build().connect()
    buy(house)
    house.broker.takes_cancels = False
    reversal = house.signal("open", "AAPL", "sell", "70")
    close = house.signal("close", "AAPL")
    assert house.outcome(reversal)[0] is None
    house.broker.takes_cancels = True
    house.pass_time(15)
    assert house.outcome(reversal)[0] in ("entered", "closed") and house.outcome(close)[0] == "closed"
    assert house.broker.quantity[AAPL.con_id] == 0


def test_a_waiting_addition_gives_way_to_the_strategy_s_newer_size() -> None:
    house = House.build(policy=Policy(scale_in=True)).connect()
    house.strategy("long 100", "flat", symbol="AAPL", **EXITS)
    house.desk.disconnected("TWS is away")
    more, less = (
        house.strategy(now, was, symbol="AAPL") for now, was in (("long 150", "long 100"), ("long 40", "long 150"))
    )
    back(house)
    assert [house.outcome(each)[0] for each in (more, less)] == ["superseded", "reduced"]
    assert house.broker.quantity[AAPL.con_id] == 40 and "A1" not in house.legs() and house.alarms() == []


def test_one_that_waits_behind_another_is_taken_back_too() -> None:
    house = House.build(policy=Policy(scale_in=True)).connect()
    house.strategy("long 100", "flat", symbol="AAPL", **EXITS)
    house.desk.disconnected("TWS is away")
    house.signal("close", "AAPL", percent="10")
    more, less = (
        house.strategy(now, was, symbol="AAPL") for now, was in (("long 150", "long 100"), ("long 40", "long 150"))
    )
    back(house)
    assert [house.outcome(each)[0] for each in (more, less)] == ["superseded", "reduced"]
    assert house.broker.quantity[AAPL.con_id] == 40 and "A1" not in house.legs()
