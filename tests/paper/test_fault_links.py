"""Messages and connections that break, stop or lie: every knob does what docs/reference/paper-tws.md says of it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from ib_insync import ExecutionFilter, LimitOrder, MarketOrder, StopOrder

from executor.paper.actions import perform
from tests.paper.harness import AAPL, EURUSD, Api, Tws


@pytest.mark.parametrize(("direction", "when", "kind", "n", "filled", "heard"), [
    ("in", "before", "placeOrder", 3, False, 0),
    ("in", "after", "placeOrder", 3, True, 14),
    ("out", "before", "openOrder", 1, True, 0),
    ("out", "after", "openOrder", 1, True, 1),
    ("out", "before", "", 3, True, 2),
])  # fmt: skip
def test_drop_around_a_message(
    tws: Tws, api: Api, direction: str, when: str, kind: str, n: int, filled: bool, heard: int
) -> None:
    tws.fault("drop", direction=direction, when=when, kind=kind, n=n)
    api.bracket()
    assert api.cut and len(api.story()) == heard and (tws.position() == 20000) is filled


def test_stop_at_freezes_at_the_boundary_and_goes_on(tws: Tws, api: Api) -> None:
    tws.fault("stop_at", direction="out", when="before", kind="execDetails")
    api.bracket()
    assert api.story()[-1] == "3 PreSubmitted child" and tws.position() == 20000
    assert perform(tws.server, "stopped") == {"direction": "out", "when": "before", "kind": "execDetails"}
    perform(tws.server, "thaw")
    assert api.story()[:2] == ["1 fill 20000 @ 1.19005", "openOrder 1"] and not api.cut


def test_each_drop_counts_for_itself(tws: Tws, api: Api) -> None:
    for n in (1, 2):
        tws.fault("drop", direction="in", when="after", kind="reqCurrentTime", n=n)
    api.reqCurrentTime()
    assert api.cut
    again = tws.connect()
    again.reqCurrentTime()
    assert again.cut


def test_second_stop_lies_in_what_waited(tws: Tws, api: Api) -> None:
    for kind in ("execDetails", "commissionReport"):
        tws.fault("stop_at", direction="out", kind=kind)
    api.bracket()
    perform(tws.server, "thaw")
    assert api.story()[-1] == "1 Filled" and tws.server.gateway.frozen
    perform(tws.server, "thaw")
    assert api.story()[-1] == "3 PreSubmitted trigger" and not tws.server.gateway.frozen


def test_order_of_a_dead_client_arrives_after_the_freeze(tws: Tws, api: Api) -> None:
    """Bytes written before a client died are obeyed later; until then its id is taken."""
    perform(tws.server, "freeze")
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    api.session.close()
    again = tws.connect(1, quiet=False)
    assert tws.position("AAPL") == 0 and again.kinds() == []
    perform(tws.server, "thaw")
    assert tws.position("AAPL") == 1 and api.story() == []
    assert ("nextValidId", (2,)) in again.take()


def test_frozen_tws_hears_and_says_nothing(tws: Tws, api: Api) -> None:
    perform(tws.server, "freeze", seconds=5)
    api.reqCurrentTime()
    assert api.take() == [] and not api.cut
    tws.advance(6)
    assert api.kinds() == ["currentTime"]


@pytest.mark.parametrize(
    "kind", ["openOrderEnd", "completedOrdersEnd", "execDetailsEnd", "positionEnd", "accountDownloadEnd"]
)
def test_missing_end(tws: Tws, api: Api, kind: str) -> None:
    tws.fault("missing_end", kind=kind)
    api.reqOpenOrders()
    api.reqCompletedOrders(False)
    api.reqExecutions(1, ExecutionFilter())
    api.reqPositions()
    api.reqAccountUpdates(True, "DU1234567")
    ends = [name for name in api.kinds() if name.endswith("End")]
    assert kind not in ends and len(ends) == 4


@pytest.mark.parametrize("kind", ["openOrderEnd", "completedOrdersEnd", "execDetailsEnd", "positionEnd"])
def test_answer_may_be_empty_and_end_once(tws: Tws, api: Api, kind: str) -> None:
    api.bracket()
    tws.owner.place("AAPL", "BUY", 1)
    asked = {
        "openOrderEnd": api.reqAllOpenOrders, "completedOrdersEnd": lambda: api.reqCompletedOrders(False),
        "execDetailsEnd": lambda: api.reqExecutions(1, ExecutionFilter()), "positionEnd": api.reqPositions,
    }  # fmt: skip
    api.take()
    tws.fault("empty_answer", kind=kind)
    for times in (1, 2):
        asked[kind]()
        names = api.kinds()
        assert names[-1] == kind and (len(names) == 1) is (times == 1)


def test_client_id_in_use_is_326_and_the_end(tws: Tws, api: Api) -> None:
    second = tws.connect(1, quiet=False)
    assert [args[1] for name, args in second.take() if name == "error"] == [326] and second.cut and not api.cut


def test_dead_connection_holds_its_client_id(tws: Tws, api: Api) -> None:
    tws.fault("hold_client_id", seconds=10)
    api.session.close()
    assert tws.connect(1).cut
    tws.advance(11)
    assert not tws.connect(1).cut


def test_restart_cuts_refuses_and_comes_back(tws: Tws, api: Api) -> None:
    api.bracket()
    perform(tws.server, "restart", down_seconds=60)
    assert api.cut
    with pytest.raises(ConnectionRefusedError):
        tws.connect()
    tws.advance(61)
    again = tws.connect()
    again.reqOpenOrders()
    assert again.story() == ["openOrder 2", "2 Submitted", "openOrder 3", "3 PreSubmitted trigger"]


def test_restart_loses_the_last_and_gives_their_ids_again(tws: Tws, api: Api) -> None:
    """LEAN issue 242."""
    for order_id in (1, 2, 3):
        api.place(AAPL, LimitOrder("BUY", 1, 100, orderId=order_id))
    perform(tws.server, "restart", lose_last_n=2, rollback_ids=True)
    again = tws.connect(quiet=False)
    assert ("nextValidId", (2,)) in again.take() and len(tws.truth("lost")) == 2
    again.place(AAPL, LimitOrder("BUY", 7, 100, orderId=2))
    assert "2 Submitted" in again.story()


def test_restart_forgets_held_orders(tws: Tws, api: Api) -> None:
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1, transmit=False))
    perform(tws.server, "restart")
    assert not tws.exchange.floor.book.orders and tws.connect(1) is not None


def test_next_valid_id_can_be_set(tws: Tws) -> None:
    perform(tws.server, "next_valid_id", client_id=1, value=5000)
    assert ("nextValidId", (5000,)) in tws.connect(quiet=False).take()


def test_fills_go_on_during_1100(tws: Tws, api: Api) -> None:
    """LEAN issue 249: order events arrive while connectivity is lost."""
    api.bracket()
    api.take()
    perform(tws.server, "lose_connection", times=3)
    tws.price("EURUSD", "1.2005")
    assert "2 Filled" in api.story()
    perform(tws.server, "restore_connection")
    assert api.take()[0][1][:2] == (-1, 1102)


def test_events_can_be_held_back_until_1102(tws: Tws, api: Api) -> None:
    api.bracket()
    perform(tws.server, "lose_connection", hold_events=True)
    api.take()
    tws.price("EURUSD", "1.2005")
    assert api.story() == []
    perform(tws.server, "restore_connection", code=1102)
    assert "2 Filled" in api.story()


def test_what_is_asked_during_1100_is_answered_from_before(tws: Tws, api: Api) -> None:
    """A TWS that hears nothing of IB knows nothing of the fill: neither order nor execution nor position."""
    api.bracket()
    perform(tws.server, "lose_connection", hold_events=True)
    tws.price("EURUSD", "1.2005")
    assert tws.position() == 0 and tws.live() == []
    api.session.close()
    again = tws.connect()
    ask_everything(again)
    blind = again.take()
    assert [args[1] for name, args in blind if name == "orderStatus"] == ["Submitted", "PreSubmitted"]
    assert [args[2] for name, args in blind if name == "position"] == [20000]
    assert [args[1] for name, args in blind if name == "updatePortfolio"] == [20000]
    assert [name for name, _ in blind].count("execDetails") == 1
    perform(tws.server, "restore_connection")
    assert [line for line in again.story() if "fill" in line] == ["2 fill 20000 @ 1.2"]
    ask_everything(again)
    names = [name for name, _ in again.take()]
    assert names.count("execDetails") == 2 and "orderStatus" not in names and "position" not in names


def ask_everything(api: Api) -> None:
    api.reqOpenOrders()
    api.reqExecutions(1, ExecutionFilter())
    api.reqPositions()
    api.reqAccountUpdates(True, "DU1234567")


def test_change_sent_during_1100_waits_in_tws(tws: Tws, api: Api) -> None:
    api.bracket()
    stop = tws.owner.find(order_ref=":S")
    perform(tws.server, "lose_connection")
    api.take()
    api.place(EURUSD, StopOrder("SELL", 20000, 1.185, orderId=3, tif="GTC"), parentId=0)
    assert stop.form.aux_price == Decimal("1.18") and api.story() == []
    perform(tws.server, "restore_connection")
    assert stop.form.aux_price == Decimal("1.185") and api.story() == ["openOrder 3", "3 PreSubmitted trigger"] * 2


def test_order_whose_cancel_waits_for_1102_can_fill(tws: Tws, api: Api) -> None:
    api.bracket()
    perform(tws.server, "lose_connection")
    api.cancelOrder(2)
    api.take()
    tws.price("EURUSD", "1.2005")
    assert tws.position() == 0 and "2 Filled" in api.story()
    perform(tws.server, "restore_connection")
    assert api.story() == []


def test_events_of_1100_may_never_be_told(tws: Tws, api: Api) -> None:
    """LEAN pull request 884: fills missing after the nightly reset, though the connection was kept."""
    api.bracket()
    api.reqPositions()
    perform(tws.server, "lose_connection", hold_events=True)
    tws.price("EURUSD", "1.2005")
    api.place(AAPL, MarketOrder("BUY", 1, orderId=4))
    api.take()
    perform(tws.server, "restore_connection", lose_events=True)
    heard = api.take()
    assert {args[0] for name, args in heard if name == "orderStatus"} == {4}
    assert [args[2] for name, args in heard if name == "position"] == [0, 1]
    api.reqExecutions(1, ExecutionFilter(symbol="EUR"))
    assert api.kinds().count("execDetails") == 2


@pytest.mark.parametrize("arrives", [True, False])
def test_order_that_is_not_at_ib_yet_has_no_perm_id(tws: Tws, api: Api, arrives: bool) -> None:
    if arrives:
        perform(tws.server, "lose_connection")
    else:
        tws.fault("lose_order", silent=False)
    api.place(AAPL, LimitOrder("BUY", 1, 100, orderId=1))
    heard = api.take()
    assert [args[2].permId for name, args in heard if name == "openOrder"] == [0]
    assert [args[5] for name, args in heard if name == "orderStatus"] == [0]
    if arrives:
        perform(tws.server, "restore_connection")
        assert [args[2].permId > 0 for name, args in api.take() if name == "openOrder"] == [True]


def test_restart_during_1100_keeps_no_later_event_back(tws: Tws) -> None:
    perform(tws.server, "lose_connection", hold_events=True)
    perform(tws.server, "restart")
    api = tws.connect()
    api.bracket()
    assert "1 Filled" in api.story()


def test_cancel_sent_during_1100_is_forgotten_by_a_restart(tws: Tws, api: Api) -> None:
    api.bracket()
    perform(tws.server, "lose_connection")
    api.cancelOrder(3)
    perform(tws.server, "restart")
    api = tws.connect()
    api.cancelOrder(3)
    assert api.story()[-2:] == ["3 Cancelled", "3 error 202"]


def test_orders_sent_during_1100_wait_in_tws(tws: Tws, api: Api) -> None:
    perform(tws.server, "lose_connection")
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    assert api.story() == ["openOrder 1", "1 PendingSubmit"] and tws.position("AAPL") == 0
    perform(tws.server, "restore_connection")
    assert "1 Filled" in api.story()


def test_1101_loses_the_quotes(tws: Tws, api: Api) -> None:
    api.reqMktData(5, EURUSD, "", False, False, [])
    perform(tws.server, "lose_connection")
    perform(tws.server, "restore_connection", code=1101)
    api.take()
    tws.price("EURUSD", "1.2")
    assert api.kinds() == []


def test_farm_status(tws: Tws, api: Api) -> None:
    perform(tws.server, "farm", code=2103, name="usfarm")
    assert api.take()[0][1][:2] == (-1, 2103)
