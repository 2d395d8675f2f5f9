"""Choices of the owner that only a real wire shows: what leaves as bytes, and what the broker does with it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from executor.core.policy import Policy

from .harness import House
from .test_trading import LONG

FLATTEN = Policy(unprotected="flatten", protect_seconds=2, inflight_seconds=2)


def outside_rth(house: House) -> dict[str, bool]:
    """Return of every order that TWS received, read from the wire, whether it may fill outside regular hours."""
    forms = [order.form for order in house.server.exchange.floor.book.orders.values()]
    return {form.order_ref[20:]: form.outside_rth for form in forms}


@pytest.mark.house(policy=Policy(outside_rth=True))
async def test_exits_leave_with_outside_rth_where_it_is_chosen(house: House) -> None:
    await house.entered(house.buy(**LONG))
    assert outside_rth(house) == {"E1": False, "T1": True, "S1": True}
    house.signal("close")
    await house.closed()
    assert outside_rth(house)["C1"] is False


async def test_exits_leave_without_it_by_default(house: House) -> None:
    await house.entered(house.buy(**LONG))
    assert outside_rth(house) == {"E1": False, "T1": False, "S1": False}


@pytest.mark.house(policy=Policy(outside_rth=True))
async def test_a_stop_that_is_put_back_has_it_too(house: House) -> None:
    house.paper("fault", knob="reject", role="stop_loss", code=201, words="Order rejected - reason: margin")
    house.buy(**LONG)
    await house.until(lambda: "R" in house.orders())
    assert outside_rth(house)["R1"] is True


@pytest.mark.house(policy=FLATTEN)
async def test_position_that_cannot_be_protected_is_sold_where_that_is_chosen(house: House) -> None:
    house.paper("fault", knob="reject", role="stop_loss", count=2)
    house.buy(**LONG)
    trade = await house.closed()
    assert trade["close_cause"] == "no stop-loss could be placed" and house.position() == 0 and not house.orders()
    assert house.rows("SELECT 1 FROM alarms WHERE kind = 'unprotected'")
    assert house.story()[-1] == "filled C" and house.trade()["entry_price"] is not None


@pytest.mark.house(policy=Policy(max_open_trades=1))
async def test_a_trade_over_the_limit_sends_no_byte(house: House) -> None:
    await house.entered(house.buy(**LONG))
    sent = house.asked.count("placeOrder")
    outcome, reason = await house.decided(house.signal("open", "AAPL", "buy", "100"))
    assert outcome == "refused" and "max_open_trades (1) reached" in reason and house.asked.count("placeOrder") == sent


@pytest.mark.house(policy=Policy(unknown_exit="allow"))
async def test_side_stays_free_after_an_exit_that_midnight_hid(house: House) -> None:
    await house.entered(house.buy(**LONG))

    def night() -> None:
        house.price("EURUSD", "1.2005")
        house.paper("midnight")

    await house.restart(night)
    trade = await house.closed()
    assert trade["exit_reason"] == "unknown" and not house.rows("SELECT * FROM blocks")
    house.price("EURUSD", "1.1900")
    await house.until(lambda: (house.tws.price(trade["con_id"]) or 9) < Decimal("1.2"))
    await house.entered(house.buy(**LONG))
