"""Stops that become a TRAIL, or a stop elsewhere, once the market has come so far: the one that a market order can have."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ib_insync import MarketOrder, Order

from executor.paper.orders import Order as Kept
from executor.paper.store import FileStore
from tests.paper.harness import AAPL, EURUSD, Api, Tws

TO_TRAIL = {"adjustedOrderType": "TRAIL", "triggerPrice": 264, "adjustedStopPrice": 262, "adjustedTrailingAmount": 2}


def stop(**fields: Any) -> Order:
    """Return a stop that sells ten at 260, and trails by two dollars from 264 on."""
    plain = {"action": "SELL", "totalQuantity": 10, "orderType": "STP", "auxPrice": 260, "tif": "GTC", "orderId": 1}
    return Order(**plain | TO_TRAIL | fields)


def kept(tws: Tws, order_id: int = 1) -> Kept:
    order = tws.exchange.floor.book.by_handle(1, order_id)
    assert order is not None
    return order


def shown(api: Api) -> list[Order]:
    return [args[2] for name, args in api.take() if name == "openOrder"]


def test_it_becomes_a_trailing_stop_once_at_its_price(tws: Tws, api: Api) -> None:
    api.place(AAPL, stop())
    tws.price("AAPL", "263.99")
    assert (kept(tws).form.order_type, kept(tws).stop_price) == ("STP", 260)
    tws.price("AAPL", "264")
    assert (kept(tws).form.order_type, kept(tws).stop_price) == ("TRAIL", 262)
    tws.price("AAPL", "267")
    tws.price("AAPL", "265.5")
    assert kept(tws).stop_price == 265
    tws.price("AAPL", "265")
    assert "1 fill 10 @ 264.99" in api.story()


def test_until_then_it_is_a_stop(tws: Tws, api: Api) -> None:
    api.place(AAPL, stop())
    tws.price("AAPL", "260")
    assert tws.position("AAPL") == -10


def test_market_order_may_have_it_as_a_child(tws: Tws, api: Api) -> None:
    """328 is of a TRAIL as a child; this is a stop. From the first byte on the position has one."""
    api.place(AAPL, MarketOrder("BUY", 10, orderId=1, transmit=False))
    api.place(AAPL, stop(orderId=2, parentId=1, triggerPrice=263.6, adjustedStopPrice=261.6))
    assert tws.position("AAPL") == 10 and kept(tws, 2).stop_price == 260 and api.errors() == []
    tws.price("AAPL", "265")
    assert kept(tws, 2).stop_price == 263


def test_asleep_it_waits_for_its_parent(tws: Tws, api: Api) -> None:
    api.place(AAPL, Order(action="BUY", totalQuantity=10, orderType="LMT", lmtPrice=262, orderId=1, transmit=False))
    api.place(AAPL, stop(orderId=2, parentId=1))
    tws.price("AAPL", "270")
    assert kept(tws, 2).form.order_type == "STP"


def test_stop_of_a_buy_is_adjusted_on_the_way_down(tws: Tws, api: Api) -> None:
    down = {"action": "BUY", "auxPrice": 267, "triggerPrice": 262, "adjustedStopPrice": 264}
    api.place(AAPL, stop(**down))
    tws.price("AAPL", "262")
    tws.price("AAPL", "260")
    assert kept(tws).stop_price == 262


def test_it_may_trail_by_a_percentage(tws: Tws, api: Api) -> None:
    api.place(AAPL, stop(adjustableTrailingUnit=100, adjustedTrailingAmount=1))
    tws.price("AAPL", "270")
    assert kept(tws).stop_price == Decimal("267.3")


def test_it_may_become_a_stop_elsewhere(tws: Tws, api: Api) -> None:
    api.place(AAPL, stop(adjustedOrderType="STP", adjustedTrailingAmount=0, adjustedStopPrice=263))
    tws.price("AAPL", "270")
    assert (kept(tws).form.order_type, kept(tws).stop_price) == ("STP", 263)
    tws.price("AAPL", "263")
    assert tws.position("AAPL") == -10


def test_it_is_shown_before_and_after(tws: Tws, api: Api) -> None:
    api.place(AAPL, stop())
    (before,) = shown(api)
    facts = before.adjustedOrderType, before.triggerPrice, before.adjustedStopPrice, before.adjustedTrailingAmount
    assert facts == ("TRAIL", 264, 262, 2) and (before.orderType, before.trailStopPrice) == ("STP", 260)
    tws.price("AAPL", "264")
    after = shown(api)[0]
    assert (after.orderType, after.auxPrice, after.trailStopPrice) == ("TRAIL", 2, 262)
    assert after.adjustedOrderType == "None"


def test_as_it_was_read_it_may_be_sent_back(tws: Tws, api: Api) -> None:
    api.place(AAPL, stop())
    for price in ("263.5", "264"):
        tws.price("AAPL", price)
        api.take()
        api.reqOpenOrders()
        (order,) = shown(api)
        order.totalQuantity = 7
        api.place(AAPL, order)
        assert api.errors() == [] and kept(tws).quantity == 7
    assert kept(tws).stop_price == 262


def test_change_that_leaves_the_adjustment_out_drops_it(tws: Tws, api: Api) -> None:
    """Measured on a paper account: IB replaces the whole order; what is not sent again is turned off."""
    api.place(AAPL, stop())
    api.place(AAPL, Order(action="SELL", totalQuantity=10, orderType="STP", auxPrice=261, orderId=1, tif="GTC"))
    tws.price("AAPL", "270")
    assert (kept(tws).form.order_type, kept(tws).stop_price) == ("STP", 261)


@pytest.mark.parametrize(("fields", "code"), [
    pytest.param({"triggerPrice": 0}, 361, id="no price to adjust at"),
    pytest.param({"triggerPrice": 259}, 361, id="a price behind the stop"),
    pytest.param({"adjustedStopPrice": 0}, 362, id="no stop to adjust to"),
    pytest.param({"adjustedStopPrice": 264}, 362, id="a stop that would trigger at once"),
    pytest.param({"adjustedStopPrice": -1}, 362, id="a stop below zero"),
    pytest.param({"adjustedTrailingAmount": 0}, 364, id="no distance"),
    pytest.param({"adjustedTrailingAmount": -2}, 364, id="a distance below zero"),
    pytest.param({"adjustableTrailingUnit": 100, "adjustedTrailingAmount": 100}, 364, id="the whole price"),
    pytest.param({"adjustableTrailingUnit": 1}, 364, id="a unit that there is not"),
    pytest.param({"adjustedStopPrice": 262.001}, 110, id="a stop off the tick"),
    pytest.param({"adjustedTrailingAmount": 2.001}, 110, id="a distance off the tick"),
    pytest.param({"adjustedOrderType": "STP LMT", "adjustedStopLimitPrice": 261}, 363, id="a stop limit"),
    pytest.param({"adjustedOrderType": "TRAIL LIMIT"}, 387, id="a trailing stop limit"),
    pytest.param({"orderType": "LMT", "lmtPrice": 300}, 387, id="an adjusted limit"),
    pytest.param({"orderType": "TRAIL", "auxPrice": 3}, 387, id="an adjusted trailing stop"),
    pytest.param({"adjustedOrderType": ""}, 387, id="no type to adjust to"),
])  # fmt: skip
def test_refused_before_it_is_an_order(tws: Tws, api: Api, fields: dict[str, Any], code: int) -> None:
    api.place(AAPL, stop(**fields))
    assert api.errors() == [code] and not tws.exchange.floor.book.orders


def test_it_survives_a_kill_of_the_process(tmp_path: Any) -> None:
    tws = Tws(store=FileStore(tmp_path / "state.db"))
    tws.connect().place(AAPL, stop())
    tws.exchange.close()
    again = Tws(store=FileStore(tmp_path / "state.db"))
    again.price("AAPL", "265")
    assert kept(again).stop_price == 263


PRICES = st.lists(st.integers(25500, 27500).map(lambda cents: Decimal(cents) / 100), min_size=1, max_size=30)


@given(PRICES, st.integers(1, 300), st.integers(1, 400))
@example([Decimal("263.5"), Decimal("265"), Decimal("262")], 150, 150)
@settings(deadline=None)
def test_one_that_is_adjusted_where_a_trail_begins_to_move_is_the_same(
    prices: list[Decimal], below: int, distance: int
) -> None:
    """A stop at S that trails by d from S + d on is a TRAIL by d whose first stop is S."""
    first, amount = Decimal("263.5") - Decimal(below) / 100, Decimal(distance) / 100
    same = {"action": "SELL", "totalQuantity": 10, "tif": "GTC", "orderId": 1}
    trail = Order(orderType="TRAIL", auxPrice=float(amount), trailStopPrice=float(first), **same)
    adjusted = Order(orderType="STP", auxPrice=float(first), adjustedOrderType="TRAIL", triggerPrice=float(first + amount),
                     adjustedStopPrice=float(first), adjustedTrailingAmount=float(amount), **same)  # fmt: skip
    seen: list[list[tuple[Any, ...]]] = []
    for order in (trail, adjusted):
        tws = Tws()
        tws.connect().place(AAPL, order)
        seen.append([])
        for price in prices:
            tws.price("AAPL", str(price))
            seen[-1].append((kept(tws).stop_price, kept(tws).filled, kept(tws).average))
    assert seen[0] == seen[1]


def test_forex_goes_by_its_own_side(tws: Tws, api: Api) -> None:
    forex = {"totalQuantity": 20000, "auxPrice": 1.18, "triggerPrice": 1.195, "adjustedStopPrice": 1.19}
    api.place(EURUSD, stop(**forex, adjustedTrailingAmount=0.005))
    tws.price("EURUSD", "1.195")
    assert kept(tws).form.order_type == "STP"  # the bid is a tick below
    tws.price("EURUSD", "1.19505")
    assert kept(tws).stop_price == Decimal("1.19")
