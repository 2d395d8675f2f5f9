"""Orders that TWS or IBKR holds to be a mistake, and orders outside the regular hours: as the knobs have it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from ib_insync import Contract, LimitOrder, MarketOrder, Order, StopLimitOrder, StopOrder

from executor.paper.contracts import BUILT_IN, from_table
from executor.paper.hours import EXCHANGE_ZONE, hours, opens_at
from tests.paper.harness import AAPL, EURUSD, START, Api, Tws

MES = from_table({"symbol": "MES", "sec_type": "FUT", "exchange": "CME", "price": "7000", "tick": "0.25",
                  "local_symbol": "MESM6", "multiplier": 5, "con_id": 7})  # fmt: skip
FUTURE = Contract(conId=7, exchange="CME")
WHERE = "Restriction is specified in Precautionary Settings of Global Configuration/Presets."


def test_without_the_knobs_a_limit_far_through_the_market_fills(tws: Tws, api: Api) -> None:
    """The presets of TWS are the owner's, and "bypass order precautions for API orders" is one of its settings."""
    api.place(AAPL, LimitOrder("BUY", 1, 9000, orderId=1))
    assert tws.position("AAPL") == 1


@pytest.mark.parametrize(("order", "code", "said"), [
    pytest.param(LimitOrder("BUY", 1, 9000, orderId=5), 163,
                 'The following order "ID:5" price exceeds the Percentage constraint of 3%. ' + WHERE, id="a typo"),
    pytest.param(LimitOrder("BUY", 1, 200, orderId=5), 163, "", id="far below: IBKR's own example"),
    pytest.param(LimitOrder("SELL", 1, 1, orderId=5), 163, "", id="a penny"),
    pytest.param(LimitOrder("BUY", 1, 265, orderId=5), None, "", id="near the market"),
    pytest.param(LimitOrder("BUY", 1, 9000, orderId=5, overridePercentageConstraints=True), None, "", id="overridden"),
    pytest.param(StopOrder("SELL", 1, 200, orderId=5), None, "", id="a stop is meant to be away"),
    pytest.param(MarketOrder("BUY", 501, orderId=5), 383,
                 'The following order "ID:5" size exceeds the Size Limit of 500. ' + WHERE, id="too large"),
    pytest.param(MarketOrder("BUY", 500, orderId=5), 451,
                 'The following order "ID:5" value estimate of 131,755.00 USD exceeds  the Total Value Limit of 100,000'
                 f" USD. {WHERE}", id="too dear"),
    pytest.param(MarketOrder("BUY", 300, orderId=5), None, "", id="within all limits"),
])  # fmt: skip
def test_precautionary_settings(tws: Tws, api: Api, order: Order, code: int | None, said: str) -> None:
    tws.fault("precautions", percentage=3, size=500, value=100000)
    api.place(AAPL, order)
    errors = [args for name, args in api.take() if name == "error"]
    assert [args[1] for args in errors] == ([code] if code else [])
    assert not said or errors[0][2] == said
    assert bool(tws.exchange.floor.book.orders) == (code is None)


def test_precautions_of_a_future_and_of_a_pair_count_their_own_value() -> None:
    tws = Tws(instruments=[*BUILT_IN, MES])
    api = tws.connect()
    tws.fault("precautions", value=100000, ticks=10)
    api.place(FUTURE, MarketOrder("BUY", 2, orderId=1))
    api.place(FUTURE, MarketOrder("BUY", 3, orderId=2))
    api.place(FUTURE, LimitOrder("BUY", 1, 7002.5, orderId=3))
    api.place(FUTURE, LimitOrder("BUY", 1, 7003, orderId=4))
    api.place(EURUSD, MarketOrder("BUY", 20000, orderId=5))
    assert api.errors() == [451, 382]


def test_a_change_is_held_to_the_precautions_too_and_the_owner_is_not(tws: Tws, api: Api) -> None:
    tws.fault("precautions", percentage=3)
    api.place(AAPL, LimitOrder("BUY", 1, 260, orderId=1))
    api.take()
    api.place(AAPL, LimitOrder("BUY", 1, 2600, orderId=1))
    assert api.errors() == [163] and tws.position("AAPL") == 0
    tws.owner.place("AAPL", "BUY", 1, "LMT", price=2600)
    assert tws.position("AAPL") == 1


def test_price_protection_cancels_what_is_too_far_through_the_market(tws: Tws, api: Api) -> None:
    """Recorded price bands: PendingCancel, Cancelled, and 202 with IBKR's reason."""
    tws.fault("price_protection", percentage=5)
    api.place(AAPL, LimitOrder("BUY", 1, 9000, orderId=1, tif="GTC"))
    heard = api.take()
    assert [args[1] for name, args in heard if name == "orderStatus"] == ["Submitted", "PendingCancel", "Cancelled"]
    ((_, (order_id, code, words, _)),) = [one for one in heard if one[0] == "error" and one[1][0] > 0]
    assert (order_id, code) == (1, 202) and "limit price 9000 you selected because it is too far through" in words
    assert tws.position("AAPL") == 0
    api.place(AAPL, LimitOrder("BUY", 1, 270, orderId=2))
    assert tws.position("AAPL") == 1


def test_price_protection_may_cap_instead(tws: Tws, api: Api) -> None:
    tws.fault("price_protection", percentage=1, then="cap")
    tws.fault("delay_fill", seconds=1)
    api.place(AAPL, LimitOrder("BUY", 1, 9000, orderId=1))
    tws.advance(2)
    statuses = [args for name, args in api.take() if name == "orderStatus"]
    assert statuses[-1][1] == "Filled" and statuses[-1][10] == 266.14  # 263.51 and one per cent, in whole ticks
    assert tws.truth("filled")[-1]["price"] == "263.51"


def test_price_protection_meets_an_exit_when_it_would_trade(tws: Tws, api: Api) -> None:
    """A stop-limit whose limit lies far through the market: cancelled when it is triggered, and the position is bare."""
    tws.fault("price_protection", percentage=5)
    api.place(AAPL, MarketOrder("BUY", 10, orderId=1))
    api.place(AAPL, StopLimitOrder("SELL", 10, 100, 250, orderId=2, tif="GTC"))
    assert "2 PreSubmitted trigger" in api.story()
    tws.price("AAPL", "249")
    assert api.story()[-2:] == ["2 Cancelled", "2 error 202"] and tws.position("AAPL") == 10


# -- regular hours --------------------------------------------------------------------------------------------


def at(tws: Tws, hour: int, minute: int = 0, day: int = 13) -> None:
    """Move the clock to a time in New York, on a day of April 2026 (the 13th is a Monday)."""
    wanted = datetime(2026, 4, day, hour + 4, minute, tzinfo=UTC)
    tws.advance((wanted - tws.clock.now()).total_seconds())


@pytest.fixture
def evening() -> Tws:
    """Half past six on a Monday evening in New York: stocks trade outside their regular hours, a future too."""
    tws = Tws(instruments=[*BUILT_IN, MES])
    at(tws, 18, 30)
    tws.fault("regular_hours")
    return tws


def test_order_waits_for_the_regular_hours_and_fills_then(evening: Tws) -> None:
    api = evening.connect()
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1, tif="GTC"))
    heard = api.take()
    (warning,) = [args for name, args in heard if name == "error"]
    assert warning[1] == 399 and warning[2].endswith(
        "Warning: Your order will not be placed at the exchange until 2026-04-14 09:30:00 US/Eastern."
    )
    assert [args[1] for name, args in heard if name == "orderStatus"] == ["PreSubmitted"]
    due = evening.exchange.next_due()
    assert due and due.astimezone(UTC) == datetime(2026, 4, 14, 13, 30, tzinfo=UTC)
    at(evening, 9, 29, 14)
    assert evening.position("AAPL") == 0
    at(evening, 9, 30, 14)
    assert evening.position("AAPL") == 1


@pytest.mark.parametrize(("contract", "symbol"), [(AAPL, "AAPL"), (FUTURE, "MESM6")])
def test_order_for_outside_the_regular_hours_fills(evening: Tws, contract: Contract, symbol: str) -> None:
    api = evening.connect()
    api.place(contract, LimitOrder("BUY", 1, 8000, orderId=1, outsideRth=True))
    assert evening.position(symbol) == 1 and api.errors() == []


def test_forex_has_no_other_hours(evening: Tws) -> None:
    evening.connect().place(EURUSD, MarketOrder("BUY", 20000, orderId=1))
    assert evening.position() == 20000


@pytest.mark.parametrize(("outside", "left"), [(False, 1), (True, 0)])
def test_stop_of_a_future_is_triggered_in_regular_hours_only(evening: Tws, outside: bool, left: int) -> None:
    """IBKR simulates it: without outsideRth a fall in the evening passes it by."""
    api = evening.connect()
    api.place(FUTURE, MarketOrder("BUY", 1, orderId=1, outsideRth=True))
    api.place(FUTURE, StopOrder("SELL", 1, 6900, orderId=2, tif="GTC", outsideRth=outside))
    evening.price("MESM6", "6800")
    assert evening.position("MESM6") == left
    at(evening, 9, 30, 14)
    assert evening.position("MESM6") == 0


@pytest.mark.parametrize(("day", "hour", "liquid", "opens"), [
    (10, 16, True, "20260413 09:30"), (10, 16, False, ""), (10, 20, False, "20260413 04:00"),
    (11, 12, False, "20260413 04:00"), (13, 9, True, "20260413 09:30"), (13, 3, False, "20260413 04:00"),
])  # fmt: skip
def test_next_opening(day: int, hour: int, liquid: bool, opens: str) -> None:
    one, now = BUILT_IN[13], datetime(2026, 4, day, hour, tzinfo=EXCHANGE_ZONE)
    assert one.name == "AAPL"
    found = opens_at(one, now, liquid=liquid)
    assert f"{found:%Y%m%d %H:%M}" == opens if opens else found == now


@pytest.mark.parametrize("one", [BUILT_IN[0], BUILT_IN[13], MES], ids=lambda one: one.sec_type)
@pytest.mark.parametrize("liquid", [True, False])
def test_markets_open_when_the_contract_details_say_so(one: object, liquid: bool) -> None:
    spans = hours(one, START.date())[2 if liquid else 1]  # type: ignore[arg-type]
    for span in [span for span in spans.split(";") if "CLOSED" not in span]:
        begin, _ = (datetime.strptime(f"{half} -0400", "%Y%m%d:%H%M %z") for half in span.split("-"))
        before = begin.replace(hour=begin.hour - 1) if begin.hour else begin
        assert opens_at(one, begin, liquid=liquid) == begin  # type: ignore[arg-type]
        assert opens_at(one, before, liquid=liquid) in (begin, before)  # type: ignore[arg-type]


@pytest.mark.parametrize(("contract", "day"), [(AAPL, 13), (FUTURE, 18), (EURUSD, 18)])
def test_contract_details_tell_all_hours_where_it_trades_outside_its_own(contract: Contract, day: int) -> None:
    """Without the knob orders fill at any hour, and a client that goes by the details need not wait for another."""
    tws = Tws(instruments=[*BUILT_IN, MES])
    api = tws.connect()
    told = []
    for act in (lambda: at(tws, 18, 30, day), lambda: tws.fault("regular_hours"), lambda: None):
        api.reqContractDetails(9, contract)
        told.append(api.take()[0][1][1])
        act()
    inside, outside, kept = told
    assert outside.tradingHours == outside.liquidHours and "CLOSED" not in outside.liquidHours
    assert outside.liquidHours.startswith(f"202604{day}:0000-202604{day + 1}:0000;202604{day + 1}:0000-")
    assert "CLOSED" in inside.liquidHours and "CLOSED" in kept.liquidHours


def test_knobs_say_what_they_take(tws: Tws) -> None:
    tws.fault("precautions", percentage="3", size=None)
    assert tws.exchange.floor.faults.armed()[0]["percentage"] == "3"
    assert Decimal(3) == tws.exchange.floor.faults.standing("precautions").size("percentage")  # type: ignore[union-attr]
