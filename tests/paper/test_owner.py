"""What the owner does by hand, as docs/reference/paper-tws.md says."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from ib_insync import ExecutionFilter, LimitOrder, MarketOrder, StopOrder

from executor.paper.actions import ActionError, perform
from tests.paper.harness import AAPL, EURUSD, Api, Tws


def test_owner_closes_by_hand(tws: Tws, api: Api) -> None:
    api.bracket()
    api.take()
    row = perform(tws.server, "manual_close", symbol="EURUSD")
    assert (row["clientId"], row["orderId"], row["status"]) == (0, 0, "Filled")
    assert tws.position() == 0 and tws.live() == ["S", "T"] and api.story() == []


def test_owner_trades_by_hand(tws: Tws, api: Api) -> None:
    row = perform(tws.server, "manual_order", symbol="AAPL", action="BUY", quantity=3)
    assert (row["clientId"], row["orderId"]) == (0, 0) and tws.position("AAPL") == 3 and api.story() == []


def test_owner_transmits_a_held_bracket(tws: Tws, api: Api) -> None:
    api.bracket(sl=1.180001)
    api.take()
    perform(tws.server, "manual_transmit", order_ref=":E")
    assert tws.position() == 20000 and "1 Filled" in api.story()


def test_midnight_hides_executions_and_ends_day_orders(tws: Tws, api: Api) -> None:
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    api.place(AAPL, LimitOrder("BUY", 1, 100, orderId=2, tif="DAY"))
    api.take()
    perform(tws.server, "midnight")
    assert api.story() == ["2 Cancelled", "2 error 202"]
    api.reqExecutions(1, ExecutionFilter())
    api.reqCompletedOrders(False)
    assert api.kinds() == ["execDetailsEnd", "completedOrdersEnd"]


@pytest.mark.parametrize(("role", "change", "said"), [
    ("stop_loss", {"price": "1.180001"}, "110"), ("stop_loss", {"price": 0}, "above 0"),
    ("take_profit", {"quantity": "4000"}, "5000 are filled"),
])  # fmt: skip
def test_owner_cannot_do_what_tws_refuses(tws: Tws, api: Api, role: str, change: dict[str, Any], said: str) -> None:
    api.bracket()
    perform(tws.server, "fill", order_ref=":T", quantity="5000", price="1.2")
    with pytest.raises(ActionError, match=said):
        perform(tws.server, "manual_modify", role=role, **change)


def test_market_does_not_fill_what_it_does_not_have(tws: Tws, api: Api) -> None:
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1, transmit=False))
    with pytest.raises(ActionError, match="not at the market"):
        perform(tws.server, "fill", symbol="AAPL")


def test_owner_cancels_the_stop(tws: Tws, api: Api) -> None:
    api.bracket()
    api.take()
    perform(tws.server, "manual_cancel", order_ref=":S")
    assert api.story() == ["3 Cancelled", "3 error 202"] and tws.live() == ["T"]


def test_owner_moves_a_price(tws: Tws, api: Api) -> None:
    api.bracket()
    api.take()
    perform(tws.server, "manual_modify", order_ref=":S", price="1.185")
    assert api.take()[0][1][2].auxPrice == 1.185
    tws.price("EURUSD", "1.1845")
    assert tws.position() == 0


def test_owner_fills_an_order(tws: Tws, api: Api) -> None:
    api.bracket()
    perform(tws.server, "fill", order_ref=":T", quantity="5000", price="1.2")
    assert tws.position() == 15000
    stop = tws.owner.find(order_ref=":S")
    assert stop.remaining == Decimal(15000)  # type 3: reduced


def test_manual_execution_carries_the_unset_order_id(tws: Tws, api: Api) -> None:
    tws.owner.place("AAPL", "BUY", 1)
    api.reqExecutions(1, ExecutionFilter())
    execution = next(args[2] for name, args in api.take() if name == "execDetails")
    assert (execution.orderId, execution.clientId) == (2147483647, 0)


def test_stops_count_from_the_side_they_trade_at(tws: Tws, api: Api) -> None:
    api.place(EURUSD, StopOrder("SELL", 20000, 1.18, orderId=1))
    tws.exchange.set_quote("EURUSD", Decimal("1.18"), Decimal("1.1801"))
    assert "1 Filled" in api.story()
