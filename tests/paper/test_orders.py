"""Orders: what is refused and how, ids, brackets, OCA groups, several clients and accounts."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ib_insync import Contract, ExecutionFilter, Forex, LimitOrder, MarketOrder, Order, Stock, StopLimitOrder, StopOrder

from executor.paper.actions import perform
from executor.paper.matcher import Matcher
from tests.paper.harness import AAPL, EURUSD, START, Api, Tws


def order(kind: str = "LMT", **fields: Any) -> Order:
    return Order(**{"action": "BUY", "totalQuantity": 10, "orderType": kind, "lmtPrice": 200, "orderId": 1} | fields)


# fmt: off
@pytest.mark.parametrize(("contract", "sent", "code"), [
    pytest.param(Stock("NOSUCH", "SMART", "USD"), order(), 200, id="unknown contract"),
    pytest.param(Stock("SHOP", "SMART"), order(), 200, id="ambiguous contract"),
    pytest.param(Forex("EURUSD", exchange="SMART"), order(lmtPrice=1.1), 200, id="forex is on IDEALPRO only"),
    pytest.param(AAPL, order("FEELINGS"), 321, id="no such type"),
    pytest.param(AAPL, order("MIT", auxPrice=1), 387, id="type not offered here"),
    pytest.param(AAPL, order(action="HOLD"), 321, id="no such action"),
    pytest.param(AAPL, order(tif="SOMEDAY"), 321, id="no such time in force"),
    pytest.param(AAPL, order(totalQuantity=0), 434, id="size zero"),
    pytest.param(AAPL, order(totalQuantity=1.5), 10243, id="fraction of a share"),
    pytest.param(AAPL, order(lmtPrice=200.001), 110, id="limit off the tick"),
    pytest.param(EURUSD, order("STP", totalQuantity=20000, auxPrice=1.18001), 110, id="stop off the tick"),
    pytest.param(AAPL, order("STP"), 321, id="stop without price"),
    pytest.param(AAPL, order(account="DU999"), 321, id="unknown account"),
    pytest.param(AAPL, order(orderId=2**31), 320, id="id beyond 31 bits"),
    pytest.param(AAPL, order(parentId=77), 10006, id="no such parent"),
])
# fmt: on
def test_refused_before_it_is_an_order(tws: Tws, api: Api, contract: Contract, sent: Order, code: int) -> None:
    api.place(contract, sent)
    assert api.errors() == [code]
    assert not tws.exchange.floor.book.orders and tws.truth("refused")[0]["code"] == code


def test_too_little_money_is_201_and_inactive(api: Api) -> None:
    api.place(AAPL, MarketOrder("BUY", 100_000, orderId=1))
    assert api.story() == ["1 error 201", "openOrder 1", "1 Inactive"]


def test_used_id_is_103_and_lower_ones_too(tws: Tws, api: Api) -> None:
    api.place(AAPL, order(orderId=5))
    api.cancelOrder(5)
    api.take()
    api.place(AAPL, order(orderId=5))
    api.place(AAPL, order(orderId=3))
    assert api.errors() == [103, 103]
    tws.fault("lax_ids")
    api.place(AAPL, order(orderId=3))
    assert "3 Submitted" in api.story()


def test_same_id_again_is_a_modification_not_a_second_order(tws: Tws, api: Api) -> None:
    for _ in range(2):
        api.bracket()
    assert tws.position() == 20000 and len(tws.truth("filled")) == 1
    assert 104 in api.errors()


def test_filled_order_cannot_be_modified(api: Api) -> None:
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    api.take()
    api.place(AAPL, MarketOrder("BUY", 2, orderId=1))
    assert api.errors() == [104]


def test_side_cannot_be_changed(api: Api) -> None:
    api.place(AAPL, order())
    api.take()
    api.place(AAPL, order(action="SELL"))
    assert api.errors() == [105]


def test_cancel_of_unknown_filled_and_pending(tws: Tws, api: Api) -> None:
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    api.place(AAPL, order(orderId=2))
    tws.fault("pending_cancel", seconds=5)
    api.take()
    for order_id in (999999999, 1, 2, 2):
        api.cancelOrder(order_id)
    assert api.story() == ["999999999 error 10147", "1 error 10148", "2 PendingCancel", "2 error 161"]
    tws.advance(6)
    assert api.story() == ["2 Cancelled", "2 error 202"]


def test_global_cancel_takes_everything(tws: Tws, api: Api) -> None:
    api.place(AAPL, order())
    tws.owner.place("AAPL", "BUY", 1, "LMT", price="100")
    second = tws.connect(2)
    second.reqGlobalCancel()
    assert not tws.live() and "1 Cancelled" in api.story()


def test_limit_fills_at_its_price_when_the_market_comes(tws: Tws, api: Api) -> None:
    api.place(AAPL, order(lmtPrice=260))
    tws.price("AAPL", "259")
    assert "1 fill 10 @ 260" in api.story()


def test_marketable_limit_fills_at_the_market(api: Api) -> None:
    api.place(AAPL, order(lmtPrice=300))
    assert "1 fill 10 @ 263.51" in api.story()


def test_stop_becomes_a_market_order(tws: Tws, api: Api) -> None:
    api.place(AAPL, StopOrder("SELL", 10, 260, orderId=1))
    tws.price("AAPL", "258")
    assert api.story()[-5:] == ["1 Submitted", "1 fill 10 @ 257.99", "openOrder 1", "1 Filled", "commission"]


def test_stop_limit_waits_at_its_limit(tws: Tws, api: Api) -> None:
    api.place(AAPL, StopLimitOrder("SELL", 10, 259.5, 260, orderId=1))
    tws.price("AAPL", "258")
    assert "1 Submitted" in api.story()
    tws.price("AAPL", "260")
    assert "1 fill 10 @ 259.5" in api.story()


def test_what_if_places_nothing(tws: Tws, api: Api) -> None:
    api.place(AAPL, order(whatIf=True))
    (_, (_, _, _, state)), *rest = api.take()
    assert rest == [] and float(state.initMarginChange) == pytest.approx(10 * 263.5 * 0.25, abs=0.01)
    assert state.commission == 1.0 and not tws.exchange.floor.book.orders


def test_small_forex_order_is_warned_of_and_fills(api: Api) -> None:
    api.place(EURUSD, MarketOrder("BUY", 10000, orderId=1))
    story = api.story()
    assert "1 error 399" in story and "1 Filled" in story


# -- brackets -------------------------------------------------------------------------------------------------


def test_children_are_acknowledged_before_the_parent_fills(api: Api) -> None:
    api.bracket()
    assert api.story() == [
        "openOrder 1", "1 PreSubmitted", "openOrder 2", "2 PreSubmitted child", "openOrder 3", "3 PreSubmitted child",
        "1 fill 20000 @ 1.19005", "openOrder 1", "1 Filled", "commission",
        "openOrder 2", "2 Submitted", "openOrder 3", "3 PreSubmitted trigger",
    ]  # fmt: skip


def test_children_share_the_parents_perm_id_as_group(tws: Tws, api: Api) -> None:
    api.bracket()
    parent, *children = tws.exchange.floor.book.orders.values()
    assert {(one.oca_group, one.oca_type) for one in children} == {(str(parent.perm_id), 3)}


def test_take_profit_cancels_the_stop(tws: Tws, api: Api) -> None:
    api.bracket()
    api.take()
    tws.price("EURUSD", "1.2005")
    assert api.story() == ["2 fill 20000 @ 1.2", "openOrder 2", "2 Filled", "commission", "3 Cancelled", "3 error 202"]
    assert tws.position() == 0 and tws.live() == []


def test_stop_cancels_the_take_profit(tws: Tws, api: Api) -> None:
    api.bracket()
    tws.price("EURUSD", "1.1795")
    assert tws.position() == 0 and tws.live() == [] and tws.total("NetLiquidation") < 1_000_000


def test_refused_stop_keeps_the_bracket_from_going_out(tws: Tws, api: Api) -> None:
    """Sent last, a stop that TWS refuses transmits nothing: the entry stays held."""
    api.bracket(sl=1.180001)
    assert api.story() == ["3 error 110"] and tws.position() == 0 and not tws.truth("accepted")


def test_held_bracket_dies_with_a_cancel_of_its_parent(tws: Tws, api: Api) -> None:
    api.bracket(sl=1.180001)
    api.take()
    api.cancelOrder(1)
    assert api.story() == ["1 Cancelled", "1 error 202", "2 Cancelled", "2 error 202"]


def test_held_bracket_is_sent_by_the_owners_hand(tws: Tws, api: Api) -> None:
    api.bracket(sl=1.180001)
    api.session.close()
    tws.owner.transmit(tws.owner.find(order_ref=":E"))
    assert tws.position() == 20000 and tws.live() == ["T"]


def test_cancelled_parent_takes_its_children_along(tws: Tws, api: Api) -> None:
    tws.fault("delay_fill", seconds=60, role="entry")
    api.bracket()
    api.take()
    api.cancelOrder(1)
    assert [line for line in api.story() if "error" not in line] == ["1 Cancelled", "2 Cancelled", "3 Cancelled"]


def resized_by_tws(tws: Tws) -> list[tuple[str, int]]:
    """Return (new size, order id) as the truth log tells it."""
    entries = tws.exchange.floor.truth.entries
    return [(e["quantity"], e["orderId"]) for e in entries if e["event"] == "modified" and e.get("by") == "TWS"]


def test_children_protect_what_filled_of_a_cancelled_parent(tws: Tws, api: Api) -> None:
    tws.fault("partials", sizes=[5000], then="cancel", role="entry")
    api.bracket()
    assert tws.position() == 5000
    assert {one.quantity for one in tws.exchange.floor.book.live.values()} == {Decimal(5000)}
    assert resized_by_tws(tws) == [("5000", 2), ("5000", 3)]
    tws.price("EURUSD", "1.1795")
    assert tws.position() == 0


def test_child_changed_with_its_parents_id_after_the_fill_is_135(tws: Tws, api: Api) -> None:
    """ib_insync issue 647; parentId 0 is what TWS takes."""
    api.bracket()
    api.take()
    stop = StopOrder("SELL", 20000, 1.185, orderId=3, tif="GTC")
    api.place(EURUSD, stop, parentId=1)
    assert api.errors() == [135]
    api.place(EURUSD, stop, parentId=0)
    assert api.story() == ["openOrder 3", "3 PreSubmitted trigger"] * 2


def test_child_of_a_filled_parent_is_refused(api: Api) -> None:
    api.place(EURUSD, MarketOrder("BUY", 20000, orderId=1))
    api.take()
    api.place(EURUSD, StopOrder("SELL", 20000, 1.18, orderId=2, parentId=1))
    assert api.errors() == [135]


# -- OCA groups -----------------------------------------------------------------------------------------------


def oca_pair(api: Api, kind: int) -> None:
    group = {"ocaGroup": "g", "ocaType": kind, "tif": "GTC"}
    api.place(AAPL, LimitOrder("SELL", 10, 270, orderId=1, orderRef="T", **group))
    api.place(AAPL, StopOrder("SELL", 10, 250, orderId=2, orderRef="S", **group))


@pytest.mark.parametrize(("kind", "left"), [(1, None), (2, 6), (3, 6)])
def test_partial_fill_cancels_or_reduces_the_others(tws: Tws, api: Api, kind: int, left: int | None) -> None:
    tws.fault("partials", sizes=[4], then="rest", role="entry")
    oca_pair(api, kind)
    tws.price("AAPL", "271")
    stop = tws.exchange.floor.book.by_handle(1, 2)
    assert stop is not None
    assert (stop.status, stop.remaining) == (("Cancelled", 10) if left is None else ("PreSubmitted", left))
    assert resized_by_tws(tws) == ([] if left is None else [(str(left), 2)])


def test_whole_fill_ends_the_others(tws: Tws, api: Api) -> None:
    oca_pair(api, 2)
    tws.price("AAPL", "271")
    assert tws.live() == [] and tws.position("AAPL") == -10


def test_cancelling_one_by_hand_leaves_the_other(tws: Tws, api: Api) -> None:
    oca_pair(api, 1)
    api.cancelOrder(1)
    assert tws.live() == ["S"]


# -- clients and accounts -------------------------------------------------------------------------------------


def test_fills_are_told_to_their_owner_only(tws: Tws, api: Api) -> None:
    second = tws.connect(2)
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    assert second.story() == []


def test_executions_of_everybody_or_of_one_client(tws: Tws, api: Api) -> None:
    second = tws.connect(2)
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    second.place(AAPL, MarketOrder("BUY", 2, orderId=1))
    api.take()
    for client_id, expected in ((0, 2), (2, 1)):
        api.reqExecutions(7, ExecutionFilter(clientId=client_id))
        assert api.kinds().count("execDetails") == expected


def test_executions_can_be_filtered(api: Api) -> None:
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    api.take()
    for sent, expected in (
        (ExecutionFilter(symbol="MSFT"), 0),
        (ExecutionFilter(side="BUY", symbol="AAPL"), 1),
        (ExecutionFilter(time="20260413-10:29:00"), 1),
        (ExecutionFilter(time="20260413 10:31:00"), 0),
    ):
        api.reqExecutions(7, sent)
        assert api.kinds().count("execDetails") == expected


def test_login_with_two_accounts_needs_one_on_each_order() -> None:
    tws = Tws(accounts=["DU1", "DU2"])
    api = tws.connect(quiet=False)
    assert ("managedAccounts", ("DU1,DU2",)) in api.take()
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    assert api.errors() == [435]
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1, account="DU2"))
    api.take()
    api.reqPositions()
    assert [args[0] for name, args in api.take() if name == "position"] == ["DU2"]


def test_manual_orders_are_shown_to_all_and_bound_to_client_0(tws: Tws, api: Api) -> None:
    manual = tws.owner.place("AAPL", "BUY", 1, "LMT", price="100")
    api.reqOpenOrders()
    assert api.kinds() == ["openOrderEnd"]
    api.reqAllOpenOrders()
    assert [args[0] for name, args in api.take() if name == "openOrder"] == [0]
    master = tws.connect(0)
    master.reqAutoOpenOrders(True)
    assert [args[0] for name, args in master.take() if name == "openOrder"] == [-1]
    master.cancelOrder(-1)
    assert manual.status == "Cancelled"


def test_only_client_0_can_bind(api: Api) -> None:
    api.reqAutoOpenOrders(True)
    assert api.take()[0][1][:2] == (-1, 321)


def test_midnight_hides_the_day_and_ends_day_orders(tws: Tws, api: Api) -> None:
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    api.place(AAPL, order(orderId=2, tif="DAY"))
    api.place(AAPL, order(orderId=3, tif="GTC", orderRef="G"))
    tws.clock.advance(14 * 3600)
    tws.server.tick()
    assert "2 Cancelled" in api.story() and tws.live() == ["G"]
    api.reqExecutions(7, ExecutionFilter())
    api.reqCompletedOrders(False)
    assert api.kinds() == ["execDetailsEnd", "completedOrdersEnd"]
    assert tws.position("AAPL") == 1 and tws.clock.now() > START


def test_exits_of_a_half_filled_parent_share_what_it_filled(tws: Tws, api: Api) -> None:
    """5000 of 20000 are in; the stop sells them; the target must not sell them again."""
    tws.fault("partials", sizes=[5000], then="rest", role="entry")
    api.bracket()
    tws.price("EURUSD", "1.1795")
    tws.price("EURUSD", "1.2005")
    assert tws.position() == 0
    api.cancelOrder(1)
    assert tws.live() == []


def test_an_order_takes_no_longer_because_others_rest(tws: Tws, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message had every live order tried again: with 100 brackets open, a new one took 2 ms longer."""
    for n in range(40):
        tws.owner.place("AAPL", "BUY", 1, "LMT", price=100 + n)
    tried: list[int] = []
    real = Matcher._try
    monkeypatch.setattr(Matcher, "_try", lambda self, one: tried.append(one.con_id) or real(self, one))
    api.bracket(EURUSD)
    assert tried and set(tried) == {tws.exchange.floor.catalog.named("EURUSD").con_id}
    tws.price("AAPL", "99")
    assert not [one for one in tws.exchange.floor.book.live.values() if not one.parent]


def act(tws: Tws, api: Api, what: str, n: int, first: int) -> None:
    """Do one thing that may make an order marketable, or not."""
    contract, symbol, size, middle, step = (
        (EURUSD, "EURUSD", 20000, Decimal("1.19"), Decimal("0.01")),
        (AAPL, "AAPL", 20, Decimal(263), Decimal(1)),
    )[n % 2]
    above, below = float(middle + step), float(middle - step)
    limit = LimitOrder("BUY", size, below, orderId=first, ocaGroup="both", ocaType=1)
    trail = Order(action="SELL", totalQuantity=size, orderType="TRAIL", trailingPercent=0.1 + n, orderId=first)
    change = LimitOrder("BUY", size, above, orderId=max(1, first - 3), ocaGroup="both", ocaType=1)
    things: dict[str, Callable[[], Any]] = {
        "bracket": lambda: api.bracket(contract, first, size, above, below),
        "limit": lambda: api.place(contract, limit),
        "trail": lambda: api.place(contract, trail),
        "change": lambda: api.place(contract, change),
        "cancel": lambda: api.cancelOrder(max(1, first - 1 - n)),
        "price": lambda: tws.price(symbol, str(middle + (n - 2) * step)),
        "wait": lambda: tws.advance(n),
        "close": lambda: tws.fault("closed_market", symbols=[symbol]),
        "reopen": lambda: (perform(tws.server, "clear", knob="closed_market"), tws.advance(0)),
        "delay": lambda: tws.fault("delay_fill", seconds=float(n)),
        "pieces": lambda: tws.fault("partials", sizes=[5, 5, 5], gap=float(n)),
    }
    things[what]()


THINGS = ["bracket", "limit", "trail", "change", "cancel", "price", "wait", "close", "reopen", "delay", "pieces"]


@given(st.lists(st.tuples(st.sampled_from(THINGS), st.integers(0, 4)), max_size=25))
@example([("limit", 0), ("price", 0)])
@example([("bracket", 0), ("price", 4)])
@example([("delay", 2), ("bracket", 0), ("wait", 4)])
@example([("close", 1), ("bracket", 1), ("reopen", 0)])
@example([("pieces", 1), ("bracket", 0), ("wait", 2), ("wait", 2)])
@settings(deadline=None)
def test_nothing_marketable_is_passed_over(steps: list[tuple[str, int]]) -> None:
    """After each turn, trying every live order once more changes nothing."""
    tws = Tws()
    api, exchange = tws.connect(), tws.exchange
    for number, (what, n) in enumerate(steps):
        act(tws, api, what, n, 1 + 3 * number)
        with exchange.turn():
            pass  # what was only armed counts from the next turn on
        before = len(exchange.floor.truth.entries)
        with exchange.turn():
            for order in list(exchange.floor.book.live.values()):
                exchange.matcher._try(order)
        assert len(exchange.floor.truth.entries) == before, exchange.floor.truth.entries[before:]
