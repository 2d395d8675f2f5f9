"""Exits that are moved, that follow from the fill, and that trail, on a real wire."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from .harness import House
from .test_trading import LONG


def prices(house: House) -> dict[str, Decimal | None]:
    """What works at the broker: leg → limit, stop, or where a trailing stop is."""
    fields = {"LMT": "lmtPrice", "STP": "auxPrice", "TRAIL": "trailStopPrice"}
    return {leg: _number(order[fields[order["orderType"]]]) for leg, order in house.orders().items()}


def _number(text: Any) -> Decimal | None:
    return None if text is None else Decimal(str(text))


def at(**legs: str) -> dict[str, Decimal]:
    return {leg: Decimal(price) for leg, price in legs.items()}


# --- protect ----------------------------------------------------------------------------------------


async def test_protect_moves_both_exits_under_their_ids(house: House) -> None:
    await house.entered(house.buy(**LONG))
    ids = {leg: order["permId"] for leg, order in house.orders().items()}
    signal = house.alert("protect", sl="1.185", tp="1.21")
    await house.until(lambda: prices(house) == at(T="1.21", S="1.185"))
    await house.until(lambda: house.trade()["sl_price"] == 1.185 and house.trade()["tp_price"] == 1.21)
    assert house.outcome(signal)[0] == "protected" and house.alarms() == set()
    assert {leg: order["permId"] for leg, order in house.orders().items()} == ids


async def test_a_burst_of_protects_ends_with_the_newest(house: House) -> None:
    """TWS refuses a change that comes before the last was answered (2102)."""
    await house.entered(house.buy(**LONG))
    for price in ("1.184", "1.185", "1.186", "1.187"):
        house.alert("protect", sl=price)
    await house.until(lambda: prices(house) == at(T=LONG["tp"], S="1.187"))
    await house.until(lambda: house.trade()["sl_price"] == 1.187)
    assert house.alarms() == set() and not house.rows("SELECT 1 FROM events WHERE details LIKE '%by hand%'")


async def test_a_change_that_tws_refuses_leaves_the_exit(house: House) -> None:
    await house.entered(house.buy(**LONG))
    house.paper("fault", knob="reject_modify", role="stop_loss", code=201)
    signal = house.alert("protect", sl="1.185")
    await house.until(lambda: house.outcome(signal)[0] == "refused")
    await house.stays(lambda: prices(house) == at(T=LONG["tp"], S=LONG["sl"]), 3)
    assert house.alarms() == {"exit not moved"} and house.trade()["state"] == "open"


async def test_exits_are_added_to_a_trade_without_any(house: House) -> None:
    await house.entered(house.buy(), exits="")
    house.alert("protect", sl="1.18", tp="1.2")
    await house.until(lambda: prices(house) == at(T="1.2", R="1.18"))
    groups = {order["ocaGroup"] for order in house.orders().values()}
    assert len(groups) == 1 and house.alarms() == set()
    house.price("EURUSD", "1.2001")
    trade = await house.closed()
    assert trade["tp_hit"] == 1


async def test_the_owner_s_move_while_ours_is_under_way_is_known(house: House) -> None:
    await house.entered(house.buy(**LONG))
    house.paper("manual_modify", role="stop_loss", price="1.187")
    await house.until(lambda: house.trade()["sl_price"] == 1.187)
    assert (await house.decided(house.alert("protect", sl="1.185")))[0] == "ignored"


async def test_a_move_is_found_done_after_a_restart(house: House) -> None:
    await house.entered(house.buy(**LONG))
    house.alert("protect", sl="1.185")
    await house.restart()
    await house.until(lambda: house.trade()["sl_price"] == 1.185)
    assert prices(house) == at(T=LONG["tp"], S="1.185") and house.alarms() == set()
    assert not house.rows("SELECT 1 FROM events WHERE details LIKE '%by hand%'")


# --- from the fill ----------------------------------------------------------------------------------


async def test_relative_exits_follow_from_the_fill(house: House) -> None:
    house.paper("fault", knob="delay_fill", role="entry", seconds=3)
    signal = house.alert("open", side="buy", quantity="10000", sl="100 ticks", tp="0.02 points")
    await house.until(lambda: set(house.orders()) == {"E", "T", "S"})
    first = prices_of_exits(house)
    house.price("EURUSD", "1.195")
    await house.entered(signal)
    fill = Decimal(str(house.trade()["entry_price"]))
    await house.until(lambda: prices(house) == {"T": fill + Decimal("0.02"), "S": fill - Decimal("0.005")})
    assert prices(house) != first and house.alarms() == set()
    assert house.outcome(signal)[0] == "entered"


def prices_of_exits(house: House) -> dict[str, Decimal | None]:
    return {
        leg: _number(order["lmtPrice"] if order["orderType"] == "LMT" else order["auxPrice"])
        for leg, order in house.orders().items()
        if leg != "E"
    }


# --- trailing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("trail", ["0.5%", "0.006 points", "120 ticks"])
async def test_a_trail_takes_the_place_of_the_fixed_stop_and_follows_the_market(house: House, trail: str) -> None:
    signal = house.alert("open", side="buy", quantity="10000", tp="1.3", trail=trail)
    await house.entered(signal, exits="TL")
    order = house.orders()["L"]
    assert order["orderType"] == "TRAIL" and house.alarms() == set()
    before = prices(house)["L"] or Decimal(0)
    house.price("EURUSD", "1.2")
    await house.until(lambda: (prices(house)["L"] or 0) > before)
    after = prices(house)["L"]
    await house.until(lambda: Decimal(str(house.trade()["sl_price"])) == after)
    house.price("EURUSD", "1.1999")
    await house.stays(lambda: prices(house)["L"] == after, 1)
    assert not house.rows("SELECT 1 FROM events WHERE kind IN ('moved', 'moving')")
    house.price("EURUSD", "1.193")
    trade = await house.closed()
    assert trade["exit_reason"] == "stop-loss" and house.position() == 0


async def test_a_resize_of_a_trail_does_not_begin_it_anew(house: House) -> None:
    await house.entered(house.alert("open", side="buy", quantity="10000", tp="1.3", trail="0.006 points"), exits="TL")
    house.price("EURUSD", "1.2")
    reached = Decimal("1.19395")
    await house.until(lambda: prices(house)["L"] == reached)
    await house.until(lambda: house.trade()["sl_price"] == float(reached))
    house.price("EURUSD", "1.197")
    close = house.alert("close", quantity="4000")
    await house.until(lambda: house.position() == 6000 and house.orders()["L"]["quantity"] == "6000")
    assert (await house.decided(close))[0] == "reduced" and prices(house)["L"] == reached and house.alarms() == set()


async def test_protect_tightens_a_trail_which_goes_on_from_there(house: House) -> None:
    await house.entered(house.alert("open", side="buy", quantity="10000", trail="0.006 points"), exits="L")
    start = prices(house)["L"] or Decimal(0)
    assert (await house.decided(house.alert("protect", sl=str(start - Decimal("0.001")))))[0] == "ignored"
    tight = start + Decimal("0.003")
    signal = house.alert("protect", sl=str(tight))
    await house.until(lambda: prices(house)["L"] == tight)
    await house.until(lambda: house.trade()["sl_price"] == float(tight))
    house.price("EURUSD", "1.21")
    await house.until(lambda: (prices(house)["L"] or 0) > tight)
    assert house.outcome(signal)[0] == "protected" and house.alarms() == set()


async def test_a_trail_that_moved_while_the_executor_was_away_is_read(house: House) -> None:
    await house.entered(house.alert("open", side="buy", quantity="10000", tp="1.3", trail="0.006 points"), exits="TL")
    await house.restart(lambda: house.price("EURUSD", "1.2"))
    await house.until(lambda: house.trade()["sl_price"] == 1.19395)
    house.price("EURUSD", "1.197")
    house.alert("close", quantity="4000")
    await house.until(lambda: house.position() == 6000)
    assert prices(house)["L"] == Decimal("1.19395") and house.alarms() == set()


async def test_a_trail_that_tws_loses_comes_back_where_it_was(house: House) -> None:
    await house.entered(house.alert("open", side="buy", quantity="10000", tp="1.3", trail="0.006 points"), exits="TL")
    house.price("EURUSD", "1.2")
    await house.until(lambda: house.trade()["sl_price"] == 1.19395)
    house.price("EURUSD", "1.198")
    house.paper("fault", knob="lose_at_reconnect", order_type="TRAIL")
    house.paper("disconnect")
    await house.until(lambda: prices(house).get("R") == Decimal("1.19395"), 60)
    assert house.orders()["R"]["orderType"] == "TRAIL"


async def test_the_executor_may_be_away_between_the_fill_and_the_trail(house: House) -> None:
    house.paper("fault", knob="delay_fill", role="entry", seconds=2)
    house.alert("open", side="buy", quantity="10000", tp="1.3", trail="0.006 points")
    await house.until(lambda: set(house.orders()) == {"E", "T", "S"})
    await house.stop()
    await house._nap(4)
    assert set(house.orders()) == {"T", "S"} and house.position() == 10000
    house.start()
    await house.until(lambda: set(house.orders()) == {"T", "L"}, 60)
    assert house.alarms() == set() and house.trade()["state"] == "open"
