"""What happens to orders and their cancels: every knob does what docs/reference/paper-tws.md says of it."""

from __future__ import annotations

import pytest
from ib_insync import ExecutionFilter, LimitOrder, MarketOrder

from executor.paper.actions import perform
from tests.paper.harness import AAPL, Api, Tws


def test_reject_is_an_error_then_inactive(tws: Tws, api: Api) -> None:
    """ib_insync issue 554: 201, then openOrder and orderStatus Inactive."""
    tws.fault("reject", code=201, words="Order rejected - reason:No trading permission.")
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    assert api.story() == ["1 error 201", "openOrder 1", "1 Inactive"]
    assert tws.truth("rejected")[0]["code"] == 201


def test_reject_then_cancelled(tws: Tws, api: Api) -> None:
    tws.fault("reject", then="Cancelled")
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    assert api.story()[-1] == "1 Cancelled"


def test_reject_comes_after_the_order_worked(tws: Tws, api: Api) -> None:
    """ib_insync issue 554: Submitted at first, then 201 and Inactive."""
    tws.fault("reject", role="stop_loss", seconds=3)
    api.bracket()
    assert api.story()[-1] == "3 PreSubmitted trigger"
    tws.advance(3.1)
    assert api.story() == ["3 error 201", "openOrder 3", "3 Inactive"] and tws.live() == ["T"]


def test_reject_without_a_status_leaves_no_trace(tws: Tws, api: Api) -> None:
    tws.fault("reject", code=110, then="")
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    assert api.story() == ["1 error 110"]
    api.reqAllOpenOrders()
    assert api.kinds() == ["openOrderEnd"]
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    assert "1 Filled" in api.story()  # the id was not used up


def test_rejected_stop_leaves_the_position_naked(tws: Tws, api: Api) -> None:
    tws.fault("reject", role="stop_loss")
    api.bracket()
    assert tws.position() == 20000 and tws.live() == ["T"]


def test_rejected_parent_takes_its_children_along(tws: Tws, api: Api) -> None:
    tws.fault("reject", role="entry")
    api.bracket()
    assert tws.live() == [] and tws.position() == 0


def test_reject_modify_keeps_the_order_as_it_was(tws: Tws, api: Api) -> None:
    api.place(AAPL, LimitOrder("BUY", 1, 100, orderId=1))
    tws.fault("reject_modify", code=10329)
    api.place(AAPL, LimitOrder("BUY", 1, 120, orderId=1))
    order = tws.exchange.floor.book.by_handle(1, 1)
    assert "1 error 10329" in api.story() and order and order.form.limit_price == 100


def test_lost_ack_is_silence_until_the_next_connection(tws: Tws, api: Api) -> None:
    tws.fault("lost_ack")
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1, orderRef="r"))
    api.take()
    assert tws.position("AAPL") == 1
    api.session.close()
    again = tws.connect()
    again.reqExecutions(1, ExecutionFilter())
    assert "execDetails" in again.kinds()


def test_lost_ack_of_an_order_that_died_ends_with_the_next_connection(tws: Tws, api: Api) -> None:
    tws.fault("lost_ack")
    tws.fault("cancel_race", then="after", seconds=1)
    api.place(AAPL, LimitOrder("BUY", 10, 200, orderId=1))
    api.cancelOrder(1)
    api.session.close()
    again = tws.connect()
    tws.advance(1.5)
    assert api.story() == [] and "1 fill 10 @ 200" in again.story()


def test_lost_ack_tells_nothing(tws: Tws, api: Api) -> None:
    tws.fault("lost_ack", count=3)
    api.bracket()
    assert api.story() == []


def test_lost_order_never_reaches_ib_and_a_restart_forgets_it(tws: Tws, api: Api) -> None:
    tws.fault("lose_order")
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    assert api.story() == [] and tws.position("AAPL") == 0
    api.reqOpenOrders()
    assert "1 PendingSubmit" in api.story()
    perform(tws.server, "restart")
    again = tws.connect()
    again.reqAllOpenOrders()
    assert again.kinds() == ["openOrderEnd"]


def test_lost_order_sent_again_under_its_id_arrives(tws: Tws, api: Api) -> None:
    tws.fault("lose_order", silent=False)
    for _ in range(2):
        api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    assert "1 Filled" in api.story() and tws.position("AAPL") == 1


@pytest.mark.parametrize("code", [399, 2109, 10268])
def test_warning_is_no_rejection(tws: Tws, api: Api, code: int) -> None:
    tws.fault("warn", code=code)
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    story = api.story()
    assert f"1 error {code}" in story and "1 Filled" in story


def test_preset_makes_it_a_day_order(tws: Tws, api: Api) -> None:
    tws.fault("preset_tif")
    api.place(AAPL, LimitOrder("BUY", 1, 100, orderId=1, tif="GTC"))
    heard = api.take()
    assert heard[0][1][1] == 10349 and heard[1][1][2].tif == "DAY" and heard[2][1][1] == "Submitted"


def test_locate_holds_and_then_fills(tws: Tws, api: Api) -> None:
    tws.fault("locate", seconds=30)
    api.place(AAPL, MarketOrder("SELL", 1, orderId=1))
    assert api.story() == ["1 error 404", "openOrder 1", "1 PreSubmitted locate"]
    tws.advance(31)
    assert "1 Filled" in api.story()


def test_locate_as_an_inactive_order_that_still_fills(tws: Tws, api: Api) -> None:
    """ib_insync issue 363: Inactive with whyHeld `locate` is alive, can be cancelled, and may fill at any moment."""
    tws.fault("locate", seconds=30, status="Inactive", count=2)
    for order_id in (1, 2):
        api.place(AAPL, MarketOrder("SELL", 1, orderId=order_id, orderRef=str(order_id)))
    assert api.story()[:3] == ["1 error 404", "openOrder 1", "1 Inactive locate"] and tws.live() == ["1", "2"]
    api.cancelOrder(2)
    assert api.story() == ["2 Cancelled", "2 error 202"]
    tws.advance(31)
    assert "1 Filled" in api.story()


def test_partials_come_in_their_sizes(tws: Tws, api: Api) -> None:
    tws.fault("partials", sizes=[3, 2], gap=1)
    api.place(AAPL, MarketOrder("BUY", 10, orderId=1))
    assert [line for line in api.story() if "fill" in line or "Submitted" in line][-2:] == [
        "1 fill 3 @ 263.51",
        "1 Submitted",
    ]
    tws.advance(1.1)
    assert "1 fill 2 @ 263.51" in api.story()
    tws.advance(1.1)
    assert api.story()[-2:] == ["1 Filled", "commission"]


def test_partials_then_cancel(tws: Tws, api: Api) -> None:
    tws.fault("partials", sizes=[3], then="cancel")
    api.place(AAPL, MarketOrder("BUY", 10, orderId=1))
    assert tws.position("AAPL") == 3 and api.story()[-2:] == ["1 Cancelled", "1 error 202"]


def test_delayed_fill(tws: Tws, api: Api) -> None:
    tws.fault("delay_fill", seconds=5)
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    assert tws.position("AAPL") == 0
    tws.advance(6)
    assert tws.position("AAPL") == 1


def test_held_children_protect_nothing(tws: Tws, api: Api) -> None:
    tws.fault("hold_children", role="stop_loss", seconds=20)
    api.bracket()
    tws.price("EURUSD", "1.17")
    assert tws.position() == 20000
    tws.advance(21)
    assert tws.position() == 0


def test_held_child_is_released_by_name(tws: Tws, api: Api) -> None:
    tws.fault("hold_children", role="stop_loss")
    api.bracket()
    api.take()
    perform(tws.server, "release_child", order_ref=":S")
    assert api.story() == ["openOrder 3", "3 PreSubmitted trigger"]


def test_orphans_outlive_a_rejected_parent(tws: Tws, api: Api) -> None:
    tws.fault("orphan_children", role="entry")
    tws.fault("reject", role="entry")
    api.bracket()
    assert tws.live() == ["S", "T"]
    tws.price("EURUSD", "1.2005")
    assert tws.position() == -20000  # what an orphan can do


def test_children_stay_whole_when_the_parent_fills_in_part(tws: Tws, api: Api) -> None:
    tws.fault("partials", sizes=[5000], then="cancel", role="entry")
    tws.fault("children_stay", count=3)
    api.bracket()
    tws.price("EURUSD", "1.1795")
    assert tws.position() == -15000  # over-protected: the stop flips the position


def test_ignored_oca_leaves_the_other_exit(tws: Tws, api: Api) -> None:
    tws.fault("oca_ignored", role="take_profit")
    api.bracket()
    tws.price("EURUSD", "1.2005")
    assert tws.position() == 0 and tws.live() == ["S"]


def test_both_exits_fill(tws: Tws, api: Api) -> None:
    tws.fault("oca_double_fill", role="take_profit")
    api.bracket()
    tws.price("EURUSD", "1.2005")
    assert tws.position() == -20000


def test_oca_type_of_the_request_is_not_honoured(tws: Tws, api: Api) -> None:
    tws.fault("oca_type", type=3)
    api.place(AAPL, LimitOrder("SELL", 10, 270, orderId=1, ocaGroup="g", ocaType=1))
    assert api.take()[0][1][2].ocaType == 3


def test_fill_wins_against_the_cancel(tws: Tws, resting: Api) -> None:
    tws.fault("cancel_race", then="fill")
    resting.cancelOrder(1)
    assert resting.story() == ["1 PendingCancel", "1 fill 10 @ 200", "openOrder 1", "1 Filled", "commission"]


def test_part_fills_before_the_cancel(tws: Tws, resting: Api) -> None:
    tws.fault("cancel_race", then="partial", quantity=4)
    resting.cancelOrder(1)
    assert tws.position("AAPL") == 4 and resting.story()[-2:] == ["1 Cancelled", "1 error 202"]


def test_fill_after_the_cancel(tws: Tws, resting: Api) -> None:
    """pysystemtrade issues 1580, 874: Cancelled is not the end of accounting."""
    tws.fault("cancel_race", then="after", seconds=1)
    resting.cancelOrder(1)
    assert resting.story() == ["1 Cancelled", "1 error 202"]
    tws.advance(1.5)
    assert "1 fill 10 @ 200" in resting.story() and tws.position("AAPL") == 10


def test_pending_cancel_comes_first(tws: Tws, resting: Api) -> None:
    tws.fault("pending_cancel")
    resting.cancelOrder(1)
    assert resting.story() == ["1 PendingCancel", "1 Cancelled", "1 error 202"]


def test_order_fills_while_its_cancel_is_pending(tws: Tws, resting: Api) -> None:
    tws.fault("pending_cancel", seconds=5)
    resting.cancelOrder(1)
    tws.price("AAPL", "199")
    assert resting.story() == ["1 PendingCancel", "1 fill 10 @ 200", "openOrder 1", "1 Filled", "commission"]
    tws.advance(6)
    assert resting.story() == []


def test_cancel_that_is_never_answered(tws: Tws, resting: Api) -> None:
    """LEAN pull request 256: a cancel outside the hours of the market is answered hours later, or never."""
    tws.fault("pending_cancel", seconds=None, silent=True)
    resting.cancelOrder(1)
    tws.advance(3600)
    assert resting.story() == []
    resting.reqOpenOrders()
    assert resting.story() == ["openOrder 1", "1 PendingCancel"]


def test_cancel_is_refused(tws: Tws, resting: Api) -> None:
    tws.fault("reject_cancel", code=10148)
    resting.cancelOrder(1)
    assert resting.story() == ["1 error 10148"] and len(tws.live()) == 1


def test_cancel_spreads_in_the_group(tws: Tws, api: Api) -> None:
    api.bracket()
    tws.fault("oca_cancel_spreads")
    api.cancelOrder(2)
    assert tws.live() == []


def test_cross_client_cancel_can_be_refused(tws: Tws, resting: Api) -> None:
    tws.fault("cross_client_cancel")
    second = tws.connect(2)
    second.reqAllOpenOrders()
    second.take()
    second.cancelOrder(1)
    assert second.errors() == [10147]


def test_fill_meets_no_cancel_of_an_order_that_is_not_at_the_market(tws: Tws, api: Api) -> None:
    tws.fault("cancel_race", role="stop_loss")
    tws.fault("delay_fill", seconds=60, role="entry")
    api.bracket()
    api.cancelOrder(3)
    assert tws.position() == 0 and tws.live() == ["E", "T"]
