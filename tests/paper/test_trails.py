"""TRAIL orders: their stop follows the market one way, is shown where a real TWS shows it, and is refused in its words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ib_insync import Contract, LimitOrder, MarketOrder, Order, StopLimitOrder, StopOrder

from executor.paper.actions import perform
from executor.paper.orders import OrderForm
from executor.paper.store import FileStore
from executor.paper.trails import follow
from tests.paper.harness import AAPL, EURUSD, Api, Tws


def trail(**fields: Any) -> Order:
    """Return a TRAIL that sells ten, two dollars below the market."""
    plain = {"action": "SELL", "totalQuantity": 10, "orderType": "TRAIL", "tif": "GTC", "orderId": 1, "orderRef": "S"}
    distance = {} if "trailingPercent" in fields else {"auxPrice": 2}
    return Order(**plain | distance | fields)


def told(api: Api, order_id: int = 1) -> list[float]:
    """Return the trailStopPrice of every openOrder of an order since the last call."""
    return [args[2].trailStopPrice for name, args in api.take() if name == "openOrder" and args[0] == order_id]


def stops(tws: Tws, symbol: str, *prices: str) -> list[Decimal | None]:
    """Move a market along and return where the stop of the only order was after each step."""
    seen = []
    for price in prices:
        tws.price(symbol, price)
        seen.append(next(iter(tws.exchange.floor.book.orders.values())).trail_stop)
    return seen


def test_stop_follows_the_market_up_and_never_down(tws: Tws, api: Api) -> None:
    api.place(AAPL, trail())
    assert stops(tws, "AAPL", "264", "266", "265", "264.5", "267") == [262, 264, 264, 264, 265]
    tws.price("AAPL", "265")
    assert "1 fill 10 @ 264.99" in api.story() and tws.position("AAPL") == -10


def test_stop_of_a_buy_follows_the_market_down(tws: Tws, api: Api) -> None:
    api.place(AAPL, trail(action="BUY"))
    assert stops(tws, "AAPL", "263", "260", "261.5", "258") == [265, 262, 262, 260]
    tws.price("AAPL", "260")
    assert "1 fill 10 @ 260.01" in api.story()


def test_forex_goes_by_the_side_that_it_would_trade_at(tws: Tws, api: Api) -> None:
    api.place(EURUSD, trail(totalQuantity=20000, auxPrice=0.005))
    assert stops(tws, "EURUSD", "1.19", "1.2") == [Decimal("1.18495"), Decimal("1.19495")]
    tws.price("EURUSD", "1.195")
    assert tws.position() == -20000


@pytest.mark.parametrize(("action", "percent", "stop"), [
    ("SELL", 1.5, "259.54"), ("BUY", 1.5, "267.46"), ("SELL", 0.01, "263.47"), ("BUY", 0.01, "263.53"),
])  # fmt: skip
def test_percentage_is_rounded_away_from_the_market(tws: Tws, api: Api, action: str, percent: float, stop: str) -> None:
    api.place(AAPL, trail(action=action, trailingPercent=percent))
    assert tws.exchange.floor.book.orders[1426086001].trail_stop == Decimal(stop)


def test_first_stop_that_is_nearer_stays_until_the_market_has_caught_up(tws: Tws, api: Api) -> None:
    api.place(AAPL, trail(trailStopPrice=263))
    assert stops(tws, "AAPL", "264", "264.9", "265.5") == [263, 263, Decimal("263.5")]


def test_first_stop_that_is_further_is_drawn_up_at_once(tws: Tws, api: Api) -> None:
    api.place(AAPL, trail(trailStopPrice=250))
    assert told(api) == [250, 261.5]


@pytest.mark.parametrize(("action", "stop"), [("SELL", 2921.8), ("BUY", 10)])
def test_first_stop_beyond_the_market_triggers_at_once(api: Api, action: str, stop: float) -> None:
    """As recorded: such an order is not refused; PreSubmitted, then filled at the market."""
    api.place(AAPL, trail(action=action, trailStopPrice=stop))
    story = api.story()
    assert story[:2] == ["openOrder 1", "1 PreSubmitted trigger"] and "1 Filled" in story


def test_triggered_stop_moves_no_more(tws: Tws, api: Api) -> None:
    tws.fault("partials", sizes=[4], then="rest")
    api.place(AAPL, trail())
    assert stops(tws, "AAPL", "261", "270") == [Decimal("261.5"), Decimal("261.5")]


def test_it_follows_nothing_while_the_market_is_closed(tws: Tws, api: Api) -> None:
    tws.fault("closed_market", symbols=["AAPL"])
    api.place(AAPL, trail())
    assert stops(tws, "AAPL", "270") == [Decimal("261.5")]
    perform(tws.server, "clear", knob="closed_market")
    assert stops(tws, "AAPL", "271") == [269]


@pytest.mark.parametrize(("outside", "expected"), [(False, Decimal("261.5")), (True, 268)])
def test_outside_regular_hours_it_follows_only_if_it_may(outside: bool, expected: Decimal) -> None:
    tws = Tws()
    tws.fault("regular_hours")
    api = tws.connect()
    tws.advance(6 * 3600)  # 16:30 in New York
    api.place(AAPL, trail(outsideRth=outside))
    assert stops(tws, "AAPL", "270") == [expected]


# -- what the client hears ------------------------------------------------------------------------------------


def test_every_move_is_told_by_open_order_and_status(tws: Tws, api: Api) -> None:
    """QuantConnect's brokerage, run live, follows the stop by openOrder alone (its pull request 70)."""
    api.place(AAPL, trail())
    api.take()
    tws.price("AAPL", "265")
    heard = api.take()
    assert [name for name, _ in heard] == ["openOrder", "orderStatus"]
    order = heard[0][1][2]
    assert (order.trailStopPrice, order.auxPrice, order.lmtPrice, order.orderType) == (263, 2, 0, "TRAIL")
    tws.price("AAPL", "264.5")
    assert api.take() == []


def test_quiet_trails_are_told_when_asked_for_only(tws: Tws, api: Api) -> None:
    tws.fault("quiet_trails")
    api.place(AAPL, trail())
    api.take()
    tws.price("AAPL", "265")
    assert api.take() == []
    for ask in (api.reqOpenOrders, api.reqAllOpenOrders):
        ask()
        assert told(api) == [263]


def test_percentage_is_shown_and_no_amount(api: Api) -> None:
    api.place(AAPL, trail(trailingPercent=1.5))
    order = next(args[2] for name, args in api.take() if name == "openOrder")
    assert (order.trailingPercent, order.auxPrice, order.trailStopPrice) == (1.5, 0, 259.54)


@pytest.mark.parametrize("end", ["fill", "cancel"])
def test_completed_order_shows_the_last_stop(tws: Tws, api: Api, end: str) -> None:
    api.place(AAPL, trail())
    tws.price("AAPL", "265")
    if end == "fill":
        tws.price("AAPL", "262")
    else:
        api.cancelOrder(1)
    api.take()
    api.reqCompletedOrders(False)
    order = next(args[1] for name, args in api.take() if name == "completedOrder")
    assert (order.trailStopPrice, order.auxPrice, order.orderType) == (263, 2, "TRAIL")


def test_moves_are_in_the_truth_log(tws: Tws, api: Api) -> None:
    api.place(AAPL, trail())
    tws.price("AAPL", "265")
    assert [(one["trailStopPrice"], one["permId"]) for one in tws.truth("trailed")] == [("263", 1426086001)]


def test_order_as_it_was_read_may_be_sent_back(tws: Tws, api: Api) -> None:
    api.place(AAPL, trail(trailingPercent=1.5))
    tws.price("AAPL", "270")
    api.session.close()
    again = tws.connect()
    again.reqOpenOrders()
    contract, order = next((args[1], args[2]) for name, args in again.take() if name == "openOrder")
    tws.price("AAPL", "268")
    order.totalQuantity = 7
    again.place(contract, order)
    assert set(told(again)) == {265.95} and again.errors() == []


# -- changes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sent", "stop"), [
    pytest.param({"trailStopPrice": 264}, 264, id="the last stop is kept"),
    pytest.param({"auxPrice": 2.5}, 262, id="none given: it begins anew from the market"),
    pytest.param({"trailStopPrice": 255}, 262.5, id="one further away is drawn up by the market"),
])  # fmt: skip
def test_change_begins_anew_unless_it_says_where_the_stop_is(
    tws: Tws, api: Api, sent: dict[str, float], stop: float
) -> None:
    api.place(AAPL, trail())
    stops(tws, "AAPL", "266", "264.5")
    api.take()
    api.place(AAPL, trail(totalQuantity=6, **sent))
    assert told(api)[-1] == stop and next(iter(tws.exchange.floor.book.live.values())).remaining == 6


def test_distance_may_change_from_an_amount_to_a_percentage(tws: Tws, api: Api) -> None:
    api.place(AAPL, trail())
    api.take()
    api.place(AAPL, trail(trailingPercent=2, trailStopPrice=261.5))
    order = [args[2] for name, args in api.take() if name == "openOrder"][-1]
    assert (order.trailingPercent, order.auxPrice, order.trailStopPrice) == (2, 0, 261.5)


def test_owner_moves_the_stop_by_hand(tws: Tws, api: Api) -> None:
    api.place(AAPL, trail())
    api.take()
    tws.owner.modify(tws.owner.find(order_ref="S"), price="263")
    assert told(api) == [263] and stops(tws, "AAPL", "266") == [264]


def test_owner_places_one_by_hand(tws: Tws) -> None:
    order = tws.owner.place("AAPL", "SELL", 10, "TRAIL", price="2")
    assert order.trail_stop == Decimal("261.5")


# -- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fields", "code"), [
    pytest.param({"auxPrice": 2, "trailingPercent": 1}, 320, id="an amount and a percentage"),
    pytest.param({"auxPrice": 0}, 321, id="neither"),
    pytest.param({"auxPrice": -1}, 321, id="an amount below zero"),
    pytest.param({"trailingPercent": -1}, 321, id="a percentage below zero"),
    pytest.param({"trailingPercent": 100}, 321, id="the whole price"),
    pytest.param({"trailStopPrice": -5}, 321, id="a stop below zero"),
    pytest.param({"trailStopPrice": 250.001}, 110, id="a stop off the tick"),
    pytest.param({"auxPrice": 2.001}, 110, id="an amount off the tick"),
    pytest.param({"tif": "IOC"}, 111, id="at once"),
    pytest.param({"tif": "FOK"}, 111, id="at once and whole"),
    pytest.param({"triggerMethod": 8}, 146, id="a trigger that is not simulated"),
    pytest.param({"orderType": "TRAIL LIMIT", "lmtPriceOffset": 1}, 387, id="with a limit"),
    pytest.param({"adjustedTrailingAmount": 1}, 387, id="adjusted"),
])  # fmt: skip
def test_refused_before_it_is_an_order(tws: Tws, api: Api, fields: dict[str, Any], code: int) -> None:
    api.place(AAPL, trail(**fields))
    assert api.errors() == [code] and not tws.exchange.floor.book.orders


def test_change_is_refused_as_a_new_order_would_be(tws: Tws, api: Api) -> None:
    api.place(AAPL, trail())
    api.take()
    api.place(AAPL, trail(trailingPercent=1, auxPrice=2))
    assert api.errors() == [320] and stops(tws, "AAPL", "264") == [262]


def test_plain_order_is_not_touched_by_what_only_a_trail_reads(tws: Tws, api: Api) -> None:
    api.place(AAPL, StopOrder("SELL", 10, 260, orderId=1, trailStopPrice=1, trailingPercent=5))
    tws.price("AAPL", "280")
    assert api.errors() == [] and tws.exchange.floor.book.orders[1426086001].stop_price == 260


# -- brackets and groups --------------------------------------------------------------------------------------


def bracket(api: Api, parent: Order, contract: Contract = AAPL, **fields: Any) -> None:
    """Send an order for ten with a limit at 300 and a TRAIL as its exits."""
    take = LimitOrder("SELL", 10, 300, orderId=2, parentId=1, transmit=False, tif="GTC", orderRef="T")
    for order in (parent, take, trail(orderId=3, parentId=1, **fields)):
        api.place(contract, order)


def limit(price: float, **fields: Any) -> Order:
    return LimitOrder("BUY", 10, price, orderId=1, transmit=False, orderRef="E", **fields)


def test_child_waits_then_follows_then_ends_the_take_profit(tws: Tws, api: Api) -> None:
    bracket(api, limit(262), trailStopPrice=259)
    assert api.story()[-2:] == ["openOrder 3", "3 PreSubmitted child"]
    tws.price("AAPL", "270")
    assert api.story() == []  # asleep, it follows nothing
    tws.price("AAPL", "261.9")
    assert told(api, 3) == [259, 259.9]
    tws.price("AAPL", "270")
    tws.price("AAPL", "268")
    assert tws.position("AAPL") == 0 and tws.live() == []


def test_child_without_a_first_stop_begins_at_its_parents_limit(tws: Tws, api: Api) -> None:
    """TWS Users' Guide, Attach an Auto Trailing Stop Order."""
    bracket(api, limit(262))
    tws.price("AAPL", "261.5")
    assert told(api, 3)[-1] == 260


def test_child_of_a_limit_far_through_the_market_is_stopped_out_at_once(tws: Tws, api: Api) -> None:
    bracket(api, limit(270))
    assert tws.position("AAPL") == 0 and "3 Filled" in api.story()


def test_child_of_a_stop_limit_is_taken(tws: Tws, api: Api) -> None:
    bracket(api, StopLimitOrder("BUY", 10, 265, 264, orderId=1, transmit=False, orderRef="E"), trailStopPrice=262)
    tws.price("AAPL", "264")
    assert tws.position("AAPL") == 10 and tws.live() == ["S", "T"]


@pytest.mark.parametrize("parent", [
    MarketOrder("BUY", 10, orderId=1, transmit=False, orderRef="E"),
    StopOrder("BUY", 10, 270, orderId=1, transmit=False, orderRef="E"),
], ids=["market", "stop"])  # fmt: skip
def test_child_of_any_other_order_is_328_and_nothing_goes_out(tws: Tws, api: Api, parent: Order) -> None:
    """As recorded of a Gateway in August 2026: the last leg is refused, so the bracket is never transmitted."""
    bracket(api, parent)
    ((_, (order_id, code, words, _)),) = [one for one in api.take() if one[0] == "error"]
    assert (order_id, code) == (3, 328) and words.startswith("Trailing stop orders can be attached to limit")
    assert not tws.truth("accepted") and tws.position("AAPL") == 0


def test_it_may_stand_alone_beside_a_position(tws: Tws, api: Api) -> None:
    api.place(AAPL, MarketOrder("BUY", 10, orderId=1, orderRef="E"))
    api.place(AAPL, trail(orderId=2))
    stop = next(iter(tws.exchange.floor.book.live.values()))
    tws.price("AAPL", "270")
    assert (stop.status, stop.why_held, stop.trail_stop) == ("PreSubmitted", "trigger", 268)


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_it_takes_part_in_a_group(tws: Tws, api: Api, kind: int) -> None:
    group = {"ocaGroup": "g", "ocaType": kind}
    api.place(AAPL, LimitOrder("SELL", 10, 270, orderId=1, tif="GTC", orderRef="T", **group))
    api.place(AAPL, trail(orderId=2, **group))
    tws.price("AAPL", "269")
    tws.price("AAPL", "267")
    assert tws.position("AAPL") == -10 and tws.live() == []


# -- lives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tif", "left"), [("GTC", ["S"]), ("DAY", [])])
def test_it_outlives_the_day_if_it_may(tws: Tws, api: Api, tif: str, left: list[str]) -> None:
    api.place(AAPL, trail(tif=tif))
    tws.advance(14 * 3600)
    assert tws.live() == left


def test_stop_survives_a_kill_of_the_process(tmp_path: Any) -> None:
    tws = Tws(store=FileStore(tmp_path / "state.db"))
    tws.connect().place(AAPL, trail())
    tws.price("AAPL", "270")
    tws.exchange.close()
    again = Tws(store=FileStore(tmp_path / "state.db"))  # its market begins at 263.50: the stop is reached
    assert [one.trail_stop for one in again.exchange.floor.book.orders.values()] == [268]
    assert again.position("AAPL") == -10


PRICES = st.lists(st.integers(20000, 30000).map(lambda cents: Decimal(cents) / 100), min_size=1, max_size=40)


@given(PRICES, st.sampled_from(["BUY", "SELL"]), st.sampled_from(["amount", "percent"]), st.integers(1, 500))
@settings(deadline=None)
def test_stop_only_moves_in_the_orders_favour(prices: list[Decimal], action: str, unit: str, size: int) -> None:
    """It never goes back, is never nearer than the distance from the best price, and fills once."""
    tws = Tws()
    tws.price("AAPL", "250")
    api = tws.connect()
    given = {"auxPrice": float(Decimal(size) / 100)} if unit == "amount" else {"trailingPercent": size / 100}
    api.place(AAPL, trail(action=action, **given))
    order = tws.exchange.floor.book.orders[1426086001]
    seen = [order.stop_price, *stops(tws, "AAPL", *map(str, prices))]
    assert seen == sorted(seen, reverse=action == "BUY")
    assert order.filled == (10 if order.triggered else 0) and abs(tws.position("AAPL")) == order.filled
    one = tws.exchange.floor.catalog.named("AAPL")
    assert follow(order.form, one, order.trail_stop, Decimal(250)) == order.trail_stop
    assert order.trail_stop is not None and order.trail_stop % Decimal("0.01") == 0


def test_form_of_a_plain_order_does_not_trail() -> None:
    assert not OrderForm("BUY", Decimal(1), "STP").trails
