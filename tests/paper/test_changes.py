"""Changes under the same id: what TWS takes, in which words it refuses the rest, and what may happen on the way."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ib_insync import MarketOrder, Order, StopLimitOrder

from executor.paper.orders import Order as Kept
from executor.paper.store import FileStore
from tests.paper.harness import AAPL, EURUSD, Api, Tws


def limit(price: float = 200, size: float = 10, **fields: Any) -> Order:
    plain = {"action": "BUY", "orderType": "LMT", "orderId": 1, "tif": "GTC", "orderRef": "L"}
    return Order(**plain | {"totalQuantity": size, "lmtPrice": price} | fields)


def stop(price: float = 250, size: float = 10, **fields: Any) -> Order:
    plain = {"action": "SELL", "orderType": "STP", "orderId": 1, "tif": "GTC", "orderRef": "S"}
    return Order(**plain | {"totalQuantity": size, "auxPrice": price} | fields)


def kept(tws: Tws, order_id: int = 1) -> Kept:
    order = tws.exchange.floor.book.by_handle(1, order_id)
    assert order is not None
    return order


def terms(order: Kept) -> tuple[Decimal | None, ...]:
    return order.quantity, order.form.limit_price, order.form.aux_price


# -- what is taken --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "then", "expected"), [
    (limit(), limit(201), (10, 201, None)), (limit(), limit(size=4), (4, 200, None)), (limit(), limit(199, 25), (25, 199, None)),
    (stop(), stop(251), (10, None, 251)), (stop(), stop(249, 3), (3, None, 249)), (stop(), stop(size=30), (30, None, 250)),
    (StopLimitOrder("SELL", 10, 249, 250, orderId=1), StopLimitOrder("SELL", 5, 248, 251, orderId=1), (5, 248, 251)),
])  # fmt: skip
def test_price_and_size_are_changed(tws: Tws, api: Api, first: Order, then: Order, expected: tuple[Any, ...]) -> None:
    for order in (first, then):
        api.place(AAPL, order)
    assert terms(kept(tws)) == expected and len(tws.exchange.floor.book.orders) == 1 and api.errors() == []


@pytest.mark.parametrize(("first", "then", "story"), [
    (limit(), limit(201), ["openOrder 1", "1 PreSubmitted", "openOrder 1", "1 Submitted"]),
    (stop(), stop(251), ["openOrder 1", "1 PreSubmitted trigger"] * 2),
], ids=["limit", "stop"])  # fmt: skip
def test_change_is_acknowledged_as_recorded(api: Api, first: Order, then: Order, story: list[str]) -> None:
    api.place(AAPL, first)
    api.take()
    api.place(AAPL, then)
    assert api.story() == story


def test_change_that_makes_it_marketable_fills(tws: Tws, api: Api) -> None:
    api.place(AAPL, limit())
    api.place(AAPL, limit(264))
    assert tws.position("AAPL") == 10


def test_limit_may_become_a_market_order(tws: Tws, api: Api) -> None:
    """As recorded: place_order_modify_to_market_late_execution."""
    api.place(AAPL, limit())
    api.place(AAPL, MarketOrder("BUY", 10, orderId=1, tif="GTC"))
    assert tws.position("AAPL") == 10 and api.errors() == []


@pytest.mark.parametrize(("was", "to"), [("DAY", "GTC"), ("GTC", "DAY"), ("DAY", "IOC"), ("GTC", "IOC")])
def test_time_in_force_that_may_follow(tws: Tws, api: Api, was: str, to: str) -> None:
    api.place(AAPL, limit(tif=was))
    api.place(AAPL, limit(tif=to))
    assert kept(tws).form.tif == to and [code for code in api.errors() if code != 202] == []


def test_reference_that_is_left_out_stays(tws: Tws, api: Api) -> None:
    api.place(AAPL, limit())
    api.place(AAPL, limit(201, orderRef=""))
    assert kept(tws).form.order_ref == "L"


def test_size_counts_what_is_filled(tws: Tws, api: Api) -> None:
    tws.fault("partials", sizes=[4], then="rest")
    api.place(AAPL, limit(264))
    api.place(AAPL, limit(264, 6))
    assert (kept(tws).filled, kept(tws).remaining) == (4, 2)
    api.take()
    api.place(AAPL, limit(264, 4))
    assert api.story()[-1] == "1 Cancelled" and tws.position("AAPL") == 4


# -- children of a bracket ------------------------------------------------------------------------------------


def child(price: float, size: float = 20000, **fields: Any) -> Order:
    return stop(price, size, **{"orderId": 3, "parentId": 1} | fields)


def test_sleeping_child_is_changed_and_sleeps_on(tws: Tws, api: Api) -> None:
    tws.fault("delay_fill", seconds=60, role="entry")
    api.bracket()
    api.take()
    api.place(EURUSD, child(1.17, 15000))
    assert api.story() == ["openOrder 3", "3 PreSubmitted child"] and terms(kept(tws, 3))[0::2] == (
        15000,
        Decimal("1.17"),
    )
    tws.advance(61)
    assert kept(tws, 3).why_held == "trigger" and kept(tws, 3).remaining == 15000


def test_child_of_a_filled_parent_is_changed_without_its_parents_id(tws: Tws, api: Api) -> None:
    api.bracket()
    api.take()
    api.place(EURUSD, child(1.185, parentId=0))
    assert api.errors() == [] and kept(tws, 3).parent == kept(tws, 1).perm_id  # the links stay
    tws.price("EURUSD", "1.184")
    assert tws.position() == 0 and tws.live() == []


@pytest.mark.parametrize(("awake", "group", "kind", "code"), [
    pytest.param(False, "other", 3, 10326, id="asleep, another group"),
    pytest.param(False, "mine", 2, 10326, id="asleep, the group that it will have"),
    pytest.param(False, "", 1, 10327, id="asleep, another type"),
    pytest.param(False, "", 0, None, id="asleep, no group"),
    pytest.param(True, "mine", 2, None, id="its own group"),
    pytest.param(True, "other", 2, 10326, id="another group"),
    pytest.param(True, "mine", 1, 10327, id="another type"),
    pytest.param(True, "", 0, 10327, id="no group: type 3"),
])  # fmt: skip
def test_group_of_a_child_cannot_be_changed(
    tws: Tws, api: Api, awake: bool, group: str, kind: int, code: int | None
) -> None:
    if not awake:
        tws.fault("delay_fill", seconds=60, role="entry")
    group_of_its_own = {"ocaGroup": "mine", "ocaType": 2}
    api.place(EURUSD, MarketOrder("BUY", 20000, orderId=1, transmit=False, orderRef="E"))
    api.place(
        EURUSD, child(1.2, orderId=2, orderType="LMT", lmtPrice=1.2, transmit=False, orderRef="T", **group_of_its_own)
    )
    api.place(EURUSD, child(1.18, **group_of_its_own))
    api.take()
    api.place(EURUSD, child(1.17, parentId=0, ocaGroup=group, ocaType=kind))
    assert api.errors() == ([code] if code else [])
    assert kept(tws, 3).form.aux_price == Decimal("1.18" if code else "1.17")


# -- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "then", "code"), [
    pytest.param(limit(), stop(action="BUY"), 329, id="a stop for a limit"),
    pytest.param(stop(), limit(260, action="SELL"), 329, id="a limit for a stop"),
    pytest.param(stop(), Order(action="SELL", totalQuantity=10, orderType="TRAIL", auxPrice=2, orderId=1, tif="GTC"), 329,
                 id="a trailing stop for a stop"),
    pytest.param(limit(), limit(tif="FOK"), 462, id="another time in force"),
    pytest.param(limit(ocaGroup="g"), limit(ocaGroup="h"), 10326, id="another group"),
    pytest.param(limit(), limit(ocaGroup="g"), 10326, id="a group for an order without"),
    pytest.param(limit(ocaGroup="g", ocaType=1), limit(ocaGroup="g", ocaType=2), 10327, id="another type of group"),
    pytest.param(limit(ocaGroup="g", ocaType=1), limit(), 10327, id="no group for one of type 1"),
    pytest.param(limit(), limit(action="SELL"), 105, id="the other side"),
    pytest.param(limit(), limit(200.001), 110, id="a price off the tick"),
    pytest.param(limit(), limit(size=0), 434, id="size zero"),
    pytest.param(limit(), limit(goodTillDate="20270101 10:00:00"), 334, id="what is not simulated"),
])  # fmt: skip
def test_refused_change_leaves_the_order_as_it_was(tws: Tws, api: Api, first: Order, then: Order, code: int) -> None:
    api.place(AAPL, first)
    before = terms(kept(tws)), kept(tws).form
    api.take()
    api.place(AAPL, then)
    assert api.errors() == [code] and (terms(kept(tws)), kept(tws).form) == before and kept(tws).working


def test_words_name_what_was_asked_for(api: Api) -> None:
    """As logged: Order modify failed. Cannot change to the new Time in Force.DAY"""
    api.place(AAPL, limit())
    api.take()
    api.place(AAPL, limit(tif="FOK"))
    api.place(AAPL, stop(action="BUY"))
    assert [args[2] for _, args in api.take()] == [
        "Order modify failed. Cannot change to the new Time in Force.FOK",
        "Order modify failed. Cannot change to the new order type:STP",
    ]


def test_change_of_another_account_is_105() -> None:
    tws = Tws(accounts=["DU1", "DU2"])
    api = tws.connect()
    api.place(AAPL, limit(account="DU1"))
    api.take()
    api.place(AAPL, limit(account="DU2"))
    assert api.errors() == [105]


def test_change_below_what_is_filled_is_201(tws: Tws, api: Api) -> None:
    tws.fault("partials", sizes=[4], then="rest")
    api.place(AAPL, limit(264))
    api.take()
    api.place(AAPL, limit(264, 3))
    assert api.errors() == [201] and kept(tws).quantity == 10


@pytest.mark.parametrize(("end", "code"), [("fill", 104), ("cancel", 103), ("pending", 2102)])
def test_order_that_is_over_or_being_cancelled_is_not_changed(tws: Tws, api: Api, end: str, code: int) -> None:
    api.place(AAPL, limit(264 if end == "fill" else 200))
    if end == "pending":
        tws.fault("pending_cancel", seconds=10)
    if end != "fill":
        api.cancelOrder(1)
    api.take()
    api.place(AAPL, limit(201))
    assert api.errors() == [code]


def test_inactive_order_is_sent_again_and_may_be_another(tws: Tws, api: Api) -> None:
    tws.fault("reject")
    api.place(AAPL, limit())
    api.place(AAPL, limit(tif="DAY", orderType="MKT"))
    assert tws.position("AAPL") == 10


def test_order_that_tws_holds_may_become_anything(tws: Tws, api: Api) -> None:
    api.place(AAPL, limit(transmit=False))
    api.place(AAPL, stop(265, action="BUY", ocaGroup="g"))
    assert kept(tws).form.order_type == "STP" and kept(tws).working and api.errors() == []


# -- on the way -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "told"), [(201, ["1 error 201", "openOrder 1", "1 Submitted"]), (10329, ["1 error 10329"])]
)
def test_what_ib_refuses_is_shown_again_as_it_stands(tws: Tws, api: Api, code: int, told: list[str]) -> None:
    api.place(AAPL, limit())
    api.take()
    tws.fault("reject_modify", code=code)
    api.place(AAPL, limit(201))
    assert api.story() == told and kept(tws).form.limit_price == 200
    api.place(AAPL, limit(201))
    assert kept(tws).form.limit_price == 201


def test_fill_that_crosses_a_change_wins(tws: Tws, api: Api) -> None:
    tws.fault("modify_race")
    api.place(AAPL, stop())
    api.take()
    api.place(AAPL, stop(245))
    story = api.story()
    assert "1 Filled" in story and story[-1] == "1 error 104" and tws.position("AAPL") == -10


@pytest.mark.parametrize(("size", "code", "left"), [(20, None, 14), (10, None, 4), (5, 201, 4)])
def test_part_that_crosses_a_change_counts(tws: Tws, api: Api, size: int, code: int | None, left: int) -> None:
    tws.fault("modify_race", quantity=6)
    api.place(AAPL, limit())
    api.place(AAPL, limit(size=size))
    assert api.errors() == ([code] if code else []) and kept(tws).remaining == left


def test_late_change_takes_effect_when_it_is_answered(tws: Tws, api: Api) -> None:
    tws.fault("modify_delay", seconds=5)
    api.place(AAPL, stop())
    api.take()
    api.place(AAPL, stop(255))
    tws.price("AAPL", "254")
    assert api.story() == [] and kept(tws).form.aux_price == 250
    tws.price("AAPL", "262")
    tws.advance(5)
    assert api.story() == ["openOrder 1", "1 PreSubmitted trigger"] * 2 and kept(tws).form.aux_price == 255


def test_late_change_of_a_filled_order_is_104(tws: Tws, api: Api) -> None:
    tws.fault("modify_delay", seconds=5)
    api.place(AAPL, stop())
    api.place(AAPL, stop(245))
    tws.price("AAPL", "249")
    api.take()
    tws.advance(5)
    assert api.errors() == [104] and tws.position("AAPL") == -10


def test_next_change_is_2102_until_the_first_is_answered(tws: Tws, api: Api) -> None:
    tws.fault("modify_delay", seconds=5)
    api.place(AAPL, stop())
    api.place(AAPL, stop(245))
    api.take()
    api.place(AAPL, stop(246))
    assert api.errors() == [2102]
    tws.advance(5)
    api.place(AAPL, stop(246))
    assert kept(tws).form.aux_price == 246


@pytest.mark.parametrize(("taken", "price"), [(False, 250), (True, 255)])
def test_change_that_is_never_answered_is_taken_or_lost(tws: Tws, api: Api, taken: bool, price: int) -> None:
    tws.fault("modify_delay", seconds=None, taken=taken)
    api.place(AAPL, stop())
    api.take()
    api.place(AAPL, stop(255))
    tws.advance(1000)
    assert api.story() == [] and kept(tws).form.aux_price == price
    api.reqOpenOrders()
    assert next(args[2].auxPrice for name, args in api.take() if name == "openOrder") == price
    api.place(AAPL, stop(256))
    assert kept(tws).form.aux_price == 256


def test_change_taken_at_once_may_be_answered_late(tws: Tws, api: Api) -> None:
    tws.fault("modify_delay", seconds=5, taken=True)
    api.place(AAPL, stop())
    api.take()
    api.place(AAPL, stop(255))
    assert api.story() == [] and kept(tws).form.aux_price == 255
    tws.advance(5)
    assert api.story() == ["openOrder 1", "1 PreSubmitted trigger"] * 2


@pytest.mark.parametrize(("kind", "story"), [("openOrder", ["openOrder 1"]), ("orderStatus", ["1 Submitted"])])
def test_half_of_an_acknowledgement(tws: Tws, api: Api, kind: str, story: list[str]) -> None:
    tws.fault("modify_ack", kind=kind)
    api.place(AAPL, limit())
    api.take()
    api.place(AAPL, limit(201))
    assert api.story() == story and kept(tws).form.limit_price == 201


def test_change_under_way_is_forgotten_by_a_new_process(tmp_path: Any) -> None:
    tws = Tws(store=FileStore(tmp_path / "state.db"))
    tws.fault("modify_delay", seconds=5)
    api = tws.connect()
    api.place(AAPL, stop())
    api.place(AAPL, stop(255))
    tws.exchange.close()
    again = Tws(store=FileStore(tmp_path / "state.db"))
    api = again.connect()
    api.place(AAPL, stop(251))
    assert api.errors() == [] and kept(again).form.aux_price == 251


# -- orders that vanish, reductions ---------------------------------------------------------------------------


def test_trail_that_is_lost_when_its_client_comes_back(tws: Tws, api: Api) -> None:
    api.bracket()
    api.place(AAPL, Order(action="SELL", totalQuantity=10, orderType="TRAIL", auxPrice=2, orderId=4, tif="GTC"))
    tws.fault("lose_at_reconnect", order_type="TRAIL")
    tws.connect(2)
    assert len(tws.truth("lost")) == 0  # another client's login
    api.session.close()
    again = tws.connect()
    again.reqAllOpenOrders()
    again.reqCompletedOrders(False)
    assert [args[0] for name, args in again.take() if name == "openOrder"] == [2, 3]
    assert tws.truth("lost")[0]["orderType"] == "TRAIL" and again.story() == []


@pytest.mark.parametrize(("knob", "params", "end"), [
    ("reject", {"code": 201}, "Inactive"), ("delay_fill", {"seconds": None}, "Submitted"),
    ("partials", {"sizes": [3], "then": "rest"}, "Submitted"),
])  # fmt: skip
def test_reduction_that_is_refused_or_not_filled(
    tws: Tws, api: Api, knob: str, params: dict[str, Any], end: str
) -> None:
    api.bracket(AAPL, quantity=10, tp=300, sl=250)
    tws.fault(knob, action="SELL", order_ref="reduce", **params)
    api.place(AAPL, MarketOrder("SELL", 4, orderId=4, orderRef="reduce"))
    tws.advance(3600)
    assert kept(tws, 4).status == end and tws.position("AAPL") == (7 if knob == "partials" else 10)
    assert {one.remaining for one in (kept(tws, 2), kept(tws, 3))} == {10}  # TWS leaves the exits alone


CHANGES = st.tuples(st.integers(0, 12), st.integers(245, 280), st.sampled_from(["change", "price", "cancel"]))


@given(st.lists(CHANGES, max_size=30))
@settings(deadline=None)
def test_changes_never_lose_or_double_a_share(steps: list[tuple[int, int, str]]) -> None:
    """However changes, prices and a cancel come: what filled never exceeds the largest size, and adds up."""
    tws = Tws()
    tws.fault("partials", sizes=[3, 2, 2], gap=1.0, count=1)
    api = tws.connect()
    api.place(AAPL, limit(260))
    largest = 10
    for size, price, what in steps:
        if what == "change":
            api.place(AAPL, limit(price, size))
            largest = max(largest, size)
        elif what == "price":
            tws.price("AAPL", str(price))
        else:
            api.cancelOrder(1)
        tws.advance(1)
        order = kept(tws)
        assert order.filled <= largest and tws.position("AAPL") == order.filled
        assert order.done or order.filled < order.quantity
