"""Groups of unequal sizes, several pairs of exits under one entry, and other orders of the same client beside them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ib_insync import LimitOrder, MarketOrder, Order, StopOrder

from executor.paper.orders import Order as Kept
from tests.paper.harness import AAPL, Api, Tws

PAIRS = ((25, 270), (25, 280), (25, 290), (15, 300))  # sizes and targets; the last ten have a stop alone


def kept(tws: Tws, order_id: int) -> Kept:
    order = tws.exchange.floor.book.by_handle(1, order_id)
    assert order is not None
    return order


def place(api: Api, ref: str, order: Order, **fields: Any) -> None:
    api.place(AAPL, order, orderRef=ref, tif="GTC", **fields)


def scale_out(api: Api, entry: Order | None = None, *, kind: int = 2) -> None:
    """Buy a hundred with four pairs of target and stop, each its own group, and a stop for the rest: ten orders."""
    place(api, "E", entry or MarketOrder("BUY", 100), orderId=1, transmit=False)
    order_id = 2
    for number, (size, target) in enumerate(PAIRS):
        link = {"parentId": 1, "transmit": False, "ocaGroup": f"pair{number}", "ocaType": kind}
        place(api, f"T{number}", LimitOrder("SELL", size, target), orderId=order_id, **link)
        place(api, f"S{number}", StopOrder("SELL", size, 250), orderId=order_id + 1, **link)
        order_id += 2
    place(api, "R", StopOrder("SELL", 10, 250), orderId=order_id, parentId=1)


def refs(tws: Tws) -> set[str]:
    return {one.form.order_ref for one in tws.exchange.floor.book.open_orders()}


def stopped(tws: Tws) -> Decimal:
    """Return how much the stops that work would sell."""
    live = tws.exchange.floor.book.open_orders()
    return sum((one.remaining for one in live if one.form.order_type == "STP" and one.why_held != "child"), Decimal(0))


# -- pairs under one entry ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_each_target_ends_its_own_stop(tws: Tws, api: Api, kind: int) -> None:
    scale_out(api, kind=kind)
    assert tws.position("AAPL") == 100 and stopped(tws) == 100 and api.errors() == []
    for number, left in enumerate((75, 50, 25, 10)):
        tws.price("AAPL", str(PAIRS[number][1] + 1))
        assert (tws.position("AAPL"), stopped(tws)) == (left, left)
    tws.price("AAPL", "249")
    assert tws.position("AAPL") == 0 and refs(tws) == set()


def test_all_stops_fill_and_end_their_targets(tws: Tws, api: Api) -> None:
    scale_out(api)
    tws.price("AAPL", "271")
    tws.price("AAPL", "249")
    assert tws.position("AAPL") == 0 and refs(tws) == set()


def test_group_is_the_parents_until_it_fills_and_then_the_one_asked_for(tws: Tws, api: Api) -> None:
    """ib_insync issue 606."""
    scale_out(api, LimitOrder("BUY", 100, 260))
    asleep = {(args[2].ocaGroup, args[2].ocaType) for name, args in api.take() if name == "openOrder" and args[0] > 1}
    assert asleep == {(str(kept(tws, 1).perm_id), 3)}
    tws.price("AAPL", "259")
    awake = [
        (args[2].ocaGroup, args[2].ocaType)
        for name, args in api.take()
        if name == "openOrder" and args[0] in (2, 3, 10)
    ]
    assert awake == [("pair0", 2), ("pair0", 2), (str(kept(tws, 1).perm_id), 3)]


def test_family_that_stays_one_group_ends_with_its_first_target(tws: Tws, api: Api) -> None:
    tws.fault("oca_family", count=10)
    scale_out(api)
    tws.price("AAPL", "271")
    assert tws.position("AAPL") == 75 and refs(tws) == set()


@pytest.mark.parametrize(("kind", "left"), [(1, 75), (2, 90), (3, 90)])
def test_part_of_a_target_takes_as_much_from_its_stop(tws: Tws, api: Api, kind: int, left: int) -> None:
    tws.fault("partials", order_ref="T0", sizes=[10], then="rest")
    scale_out(api, kind=kind)
    tws.price("AAPL", "271")
    assert tws.position("AAPL") == 90 and stopped(tws) == left
    assert ("S0" in refs(tws)) == (kind != 1)


def test_half_filled_entry_lets_its_exits_sell_what_it_bought(tws: Tws, api: Api) -> None:
    tws.fault("partials", role="entry", sizes=[40], then="rest")
    scale_out(api)
    assert tws.position("AAPL") == 40
    tws.price("AAPL", "310")
    assert tws.position("AAPL") == 0
    assert sum(kept(tws, order_id).filled for order_id in (2, 4, 6, 8)) == 40


def test_children_wake_with_the_first_part_and_once(tws: Tws, api: Api) -> None:
    tws.fault("partials", role="entry", sizes=[40, 30, 30], gap=5)
    scale_out(api)
    assert {kept(tws, order_id).why_held for order_id in range(2, 11)} == {"", "trigger"}
    api.take()
    tws.advance(5)
    assert tws.position("AAPL") == 70
    assert [line for line in api.story() if line.startswith("openOrder") and line != "openOrder 1"] == []


def test_cancelled_entry_leaves_no_child_larger_than_what_it_bought(tws: Tws, api: Api) -> None:
    tws.fault("partials", role="entry", sizes=[20], then="rest")
    scale_out(api)
    api.cancelOrder(1)
    assert {one.remaining for one in tws.exchange.floor.book.open_orders()} == {20, 15, 10}
    assert tws.position("AAPL") == 20


def test_entry_cancelled_before_it_fills_takes_all_nine_along(tws: Tws, api: Api) -> None:
    scale_out(api, LimitOrder("BUY", 100, 200))
    api.take()
    api.cancelOrder(1)
    assert [line for line in api.story() if line.endswith("Cancelled")] == [f"{n} Cancelled" for n in range(1, 11)]


def test_one_child_that_is_refused_leaves_the_others(tws: Tws, api: Api) -> None:
    tws.fault("reject", order_ref="S1")
    scale_out(api)
    assert stopped(tws) == 75 and tws.position("AAPL") == 100


def test_child_without_a_group_stays_with_its_family(tws: Tws, api: Api) -> None:
    place(api, "E", MarketOrder("BUY", 10), orderId=1, transmit=False)
    place(api, "T", LimitOrder("SELL", 4, 270), orderId=2, parentId=1, transmit=False)
    place(api, "S", StopOrder("SELL", 10, 250), orderId=3, parentId=1)
    tws.price("AAPL", "271")
    assert tws.position("AAPL") == 6 and refs(tws) == set()  # completion of one cancels the rest


# -- groups of unequal sizes ----------------------------------------------------------------------------------


def group(api: Api, sizes: tuple[int, int], kind: int) -> None:
    link = {"ocaGroup": "g", "ocaType": kind}
    place(api, "T", LimitOrder("SELL", sizes[0], 270), orderId=1, **link)
    place(api, "S", StopOrder("SELL", sizes[1], 250), orderId=2, **link)


@pytest.mark.parametrize("kind", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(4, 10), (10, 10), (10, 4)])
def test_whole_fill_cancels_the_rest_whatever_its_size(tws: Tws, api: Api, kind: int, sizes: tuple[int, int]) -> None:
    group(api, sizes, kind)
    tws.price("AAPL", "271")
    assert tws.position("AAPL") == -sizes[0] and kept(tws, 2).status == "Cancelled"


@pytest.mark.parametrize(("sizes", "left"), [((6, 10), 7), ((10, 4), 1), ((10, 3), None), ((10, 2), None)])
def test_part_reduces_the_other_by_as_much(tws: Tws, api: Api, sizes: tuple[int, int], left: int | None) -> None:
    tws.fault("partials", sizes=[3], then="rest", order_ref="T")
    group(api, sizes, 2)
    tws.price("AAPL", "271")
    other = kept(tws, 2)
    assert (other.status, other.remaining) == ("Cancelled", sizes[1]) if left is None else other.remaining == left


def test_parts_and_then_the_rest(tws: Tws, api: Api) -> None:
    tws.fault("partials", sizes=[3, 3], gap=5, order_ref="T")
    group(api, (6, 10), 3)
    tws.price("AAPL", "271")
    assert kept(tws, 2).remaining == 7
    tws.advance(5)
    assert kept(tws, 2).status == "Cancelled" and tws.position("AAPL") == -6


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_nothing_joins_a_group_that_has_filled(tws: Tws, api: Api, kind: int) -> None:
    """Recorded on a Gateway in July 2026: 201, Inactive."""
    group(api, (4, 10), kind)
    tws.price("AAPL", "271")
    api.take()
    place(api, "S2", StopOrder("SELL", 6, 250), orderId=3, ocaGroup="g", ocaType=kind)
    ((_, (_, code, words, _)),) = [one for one in api.take() if one[0] == "error"]
    assert (code, words) == (201, "Order rejected - reason:OCA group is already filled")
    assert kept(tws, 3).status == "Inactive"


def test_group_that_filled_in_part_or_lost_a_member_takes_more(tws: Tws, api: Api) -> None:
    tws.fault("partials", sizes=[3], then="rest", order_ref="T")
    group(api, (6, 10), 2)
    tws.price("AAPL", "271")
    api.cancelOrder(2)
    place(api, "S2", StopOrder("SELL", 7, 250), orderId=3, ocaGroup="g", ocaType=2)
    assert refs(tws) == {"T", "S2"} and 201 not in api.errors()


# -- other orders beside a bracket ----------------------------------------------------------------------------


def test_reduction_beside_exits_leaves_them_as_they_are(tws: Tws, api: Api) -> None:
    """TWS links nothing that was not linked: whoever reduces must make the stop smaller first."""
    scale_out(api)
    place(api, "reduce", MarketOrder("SELL", 40), orderId=20)
    assert tws.position("AAPL") == 60 and stopped(tws) == 100
    tws.price("AAPL", "249")
    assert tws.position("AAPL") == -40


def test_stop_shrinks_then_the_reduction_goes_out(tws: Tws, api: Api) -> None:
    api.bracket(AAPL, quantity=100, tp=300, sl=250)
    for order_id, kind, price in ((2, "LMT", {"lmtPrice": 300}), (3, "STP", {"auxPrice": 250})):
        api.place(AAPL, Order(action="SELL", totalQuantity=60, orderType=kind, orderId=order_id, tif="GTC", **price))
    place(api, "reduce", MarketOrder("SELL", 40), orderId=20)
    tws.price("AAPL", "249")
    assert tws.position("AAPL") == 0 and 201 not in api.errors()


def test_limit_reduction_waits_beside_the_exits(tws: Tws, api: Api) -> None:
    api.bracket(AAPL, quantity=100, tp=300, sl=250)
    place(api, "reduce", LimitOrder("SELL", 40, 275), orderId=20)
    tws.price("AAPL", "276")
    assert tws.position("AAPL") == 60 and refs(tws) == {"sx1:1:T", "sx1:1:S", "reduce"} - {"reduce"}


def test_addition_has_its_own_stop_from_the_first_byte(tws: Tws, api: Api) -> None:
    api.bracket(AAPL, quantity=100, tp=300, sl=250)
    place(api, "A", MarketOrder("BUY", 50), orderId=20, transmit=False)
    place(api, "AS", StopOrder("SELL", 50, 255), orderId=21, parentId=20)
    assert tws.position("AAPL") == 150 and stopped(tws) == 150
    tws.price("AAPL", "254")
    assert tws.position("AAPL") == 100 and stopped(tws) == 100
    tws.price("AAPL", "249")
    assert tws.position("AAPL") == 0 and refs(tws) == set()


def test_both_sides_of_a_stock_are_taken(tws: Tws, api: Api) -> None:
    """IBKR refuses orders on both sides (201) of US options only, which are not traded here (ib_insync issue 694)."""
    place(api, "B", LimitOrder("BUY", 10, 200), orderId=1)
    place(api, "S", LimitOrder("SELL", 10, 300), orderId=2)
    assert api.errors() == [] and refs(tws) == {"B", "S"}


STEPS = st.tuples(st.sampled_from(["price", "part", "cancel", "shrink"]), st.integers(0, 60))


@given(st.lists(STEPS, max_size=20), st.sampled_from([2, 3]))
@settings(deadline=None, max_examples=40)
def test_pairs_never_sell_more_than_was_bought(steps: list[tuple[str, int]], kind: int) -> None:
    """Whatever prices, parts and cancels come, a scale-out ends flat at most, and each stop fits its target."""
    tws = Tws()
    api = tws.connect()
    scale_out(api, kind=kind)
    for what, number in steps:
        if what == "price":
            tws.price("AAPL", str(245 + number))
        elif what == "part":
            tws.fault("partials", sizes=[1 + number % 7], gap=1.0, order_ref=f"T{number % 4}")
        elif what == "cancel":
            api.cancelOrder(2 + number % 9)
        else:
            api.place(AAPL, Order(action="SELL", totalQuantity=5, orderType="STP", auxPrice=250, orderId=10, tif="GTC"))
        tws.advance(1)
        assert tws.position("AAPL") >= 0
        for pair in range(4):
            target, stop = kept(tws, 2 + 2 * pair), kept(tws, 3 + 2 * pair)
            both = not target.done and not stop.done
            assert not both or target.remaining == stop.remaining
