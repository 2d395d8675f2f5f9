"""Every knob does what docs/reference/paper-tws.md says of it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ib_insync import ExecutionFilter, LimitOrder, MarketOrder, StopOrder

from executor.paper.actions import ACTIONS, ActionError, perform
from executor.paper.control import ControlServer
from executor.paper.faults import KNOBS, KnobError
from executor.paper.scenario import load, play
from tests.paper.harness import AAPL, EURUSD, Api, Tws

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "paper-tws.md"


# parameters that a knob cannot do without
NEEDED: dict[str, dict[str, Any]] = {"partials": {"sizes": [3, 2]}}


@pytest.mark.parametrize("name", sorted([*KNOBS, *ACTIONS]))
def test_knob_is_in_the_table_and_has_a_test(name: str) -> None:
    assert f"| `{name}`" in TABLE.read_text("utf-8")
    if name in KNOBS:
        tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
        assert f'"{name}"' in tests, f"no test names the knob {name}"


@pytest.mark.parametrize("name", sorted(KNOBS))
def test_knob_is_set_alike_by_test_control_port_and_scenario_file(tws: Tws, tmp_path: Path, name: str) -> None:
    given = NEEDED.get(name, {})
    tws.server.fault(name, **given)
    by_test = perform(tws.server, "faults")
    line = json.dumps({"do": name} | given).encode()
    for ask in (lambda: ControlServer(tws.server).answer(line), lambda: _play(tws, tmp_path, name, given)):
        tws.exchange.floor.faults.clear()
        ask()
        assert perform(tws.server, "faults") == by_test and by_test[0]["name"] == name


def _play(tws: Tws, folder: Path, name: str, given: dict[str, Any]) -> None:
    file = folder / "story.json"
    file.write_text(json.dumps({"step": [{"do": name, "with": given}]}), "utf-8")
    play(tws.server, load(file))


def test_unknown_knob_is_named_with_the_choices(tws: Tws) -> None:
    with pytest.raises(KnobError, match="no knob is called 'nonsense'; there are cancel_race"):
        tws.fault("nonsense")
    with pytest.raises(KnobError, match="reject has no colour"):
        tws.fault("reject", colour="red")
    with pytest.raises(ActionError, match="nothing is called"):
        perform(tws.server, "nonsense")


# -- orders ---------------------------------------------------------------------------------------------------


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


# -- cancellations --------------------------------------------------------------------------------------------


@pytest.fixture
def resting(api: Api) -> Api:
    api.place(AAPL, LimitOrder("BUY", 10, 200, orderId=1))
    api.take()
    return api


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


# -- fills ----------------------------------------------------------------------------------------------------


def buy(api: Api) -> list[str]:
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    return api.story()


def test_status_before_execution(tws: Tws, api: Api) -> None:
    tws.fault("status_first")
    assert buy(api)[-4:] == ["openOrder 1", "1 Filled", "1 fill 1 @ 263.51", "commission"]


def test_skipped_status(tws: Tws, api: Api) -> None:
    tws.fault("skip_status")
    assert buy(api)[-2:] == ["1 fill 1 @ 263.51", "commission"]


def test_duplicated_status(tws: Tws, api: Api) -> None:
    tws.fault("duplicate_status", times=2)
    assert buy(api).count("1 Filled") == 3


@pytest.mark.parametrize("kind", ["PreSubmitted", "Submitted", "PendingCancel", "Cancelled", ""])
def test_any_status_can_be_left_out_or_come_again(tws: Tws, api: Api, kind: str) -> None:
    def told(order_id: int) -> list[str]:
        tws.fault("pending_cancel")
        api.place(AAPL, StopOrder("BUY", 1, 270, orderId=order_id))
        tws.price("AAPL", "271" if kind == "Submitted" else "269")
        api.cancelOrder(order_id)
        tws.price("AAPL", "263.5")
        words = [line.split()[1] for line in api.story() if line.startswith(f"{order_id} ")]
        return [word for word in words if word not in ("error", "fill")]

    usual = told(1)
    seen = kind or "PreSubmitted"
    tws.fault("skip_status", kind=kind)
    assert told(2) == [word for word in usual if word != seen] != usual
    tws.fault("duplicate_status", kind=kind, times=1)
    assert told(3) == [word for word in usual for _ in range(2 if word == seen else 1)]


def test_position_comes_after_its_fill(tws: Tws, api: Api) -> None:
    """ib_async issue 15: positions follow executions after one to five seconds, and answers know no more."""
    api.reqPositions()
    api.reqAccountUpdates(True, "DU1234567")
    tws.fault("position_delay", seconds=4)
    api.take()
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    tws.advance(3.5)  # the account's values are pushed meanwhile
    api.reqPositions()
    api.reqAccountUpdates(True, "DU1234567")
    heard = api.take()
    assert "execDetails" in [name for name, _ in heard] and tws.position("AAPL") == 1
    assert not [name for name, _ in heard if name in ("position", "updatePortfolio")]
    tws.advance(1)
    assert [args[2] for name, args in api.take() if name == "position"] == [1]


def test_next_fill_ends_the_delay_of_the_last(tws: Tws, api: Api) -> None:
    api.reqPositions()
    tws.fault("position_delay", seconds=4)
    for order_id in (1, 2):
        api.place(AAPL, MarketOrder("BUY", 1, orderId=order_id))
    assert [args[2] for name, args in api.take() if name == "position"] == [2]


@pytest.mark.parametrize(("knob", "given"), [
    ("lost_ack", {}), ("status_first", {"seconds": 9}), ("skip_status", {}), ("no_commission", {}),
    ("partials", {"sizes": [1], "then": "rest"}), ("preset_tif", {}), ("oca_ignored", {}),
])  # fmt: skip
def test_position_is_told_of_every_fill_whatever_else_is_not(
    tws: Tws, api: Api, knob: str, given: dict[str, Any]
) -> None:
    """TWS API, reqPositions: whoever has asked hears of every change, whosever the order is."""
    other = tws.connect(2)
    for client in (api, other):
        client.reqPositions()
        client.reqAccountUpdates(True, "DU1234567")
        client.take()
    tws.fault(knob, **given)
    api.place(AAPL, MarketOrder("BUY", 2, orderId=1))
    for client in (api, other):
        heard = {name: args for name, args in client.take()}
        assert heard["position"][2] == tws.position("AAPL") > 0 and heard["updatePortfolio"][1] == tws.position("AAPL")


def test_position_is_told_of_a_fill_behind_the_cancel(tws: Tws, resting: Api) -> None:
    resting.reqPositions()
    tws.fault("cancel_race", then="after", seconds=1)
    resting.cancelOrder(1)
    resting.take()
    tws.advance(1.5)
    assert [name for name, _ in resting.take() if name in ("execDetails", "position")] == ["execDetails", "position"]


def test_late_commission(tws: Tws, api: Api) -> None:
    tws.fault("commission_delay", seconds=2)
    assert "commission" not in buy(api)
    tws.advance(3)
    assert api.story() == ["commission"]


def test_unset_commission(tws: Tws, api: Api) -> None:
    tws.fault("commission_unset")
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    assert [args[0].commission for name, args in api.take() if name == "commissionReport"] == [1.7976931348623157e308]


def test_no_commission(tws: Tws, api: Api) -> None:
    tws.fault("no_commission")
    assert buy(api)[-1] == "1 Filled"


def test_corrected_execution(tws: Tws, api: Api) -> None:
    api.place(AAPL, MarketOrder("BUY", 10, orderId=1))
    api.take()
    perform(tws.server, "correct_execution", quantity="8", price="263")
    (_, (_, _, new)), *_ = api.take()
    assert (new.execId[-3:], new.shares, new.price) == (".02", 8, 263) and tws.position("AAPL") == 8
    assert tws.truth("correction")[0]["corrects"].endswith(".01")


# -- messages and connections ---------------------------------------------------------------------------------


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
    assert stop.form.aux_price == Decimal("1.185") and api.story() == ["openOrder 3", "3 PreSubmitted trigger"]


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


# -- standing -------------------------------------------------------------------------------------------------


def test_read_only_api(tws: Tws, api: Api) -> None:
    tws.fault("read_only")
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    api.place(AAPL, MarketOrder("BUY", 1, orderId=2, whatIf=True))
    assert api.story() == ["1 error 321", "2 error 321"]


def test_closed_market_holds_with_a_warning(tws: Tws, api: Api) -> None:
    tws.fault("closed_market", symbols=["STK"], until="2026-04-14 09:30:00 US/Eastern")
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    heard = api.take()
    assert [args[1] for name, args in heard if name == "error"] == [399]
    assert "until 2026-04-14 09:30:00 US/Eastern" in next(args[2] for name, args in heard if name == "error")
    api.place(EURUSD, MarketOrder("BUY", 20000, orderId=2))
    assert "2 Filled" in api.story() and tws.position("AAPL") == 0
    perform(tws.server, "clear", knob="closed_market")
    tws.advance(1)
    assert "1 Filled" in api.story()


@pytest.mark.parametrize(("mode", "code"), [("none", 354), ("delayed", 354), ("10197", 10197), ("10089", 10089)])
def test_no_market_data(tws: Tws, api: Api, mode: str, code: int) -> None:
    tws.fault("mktdata", mode=mode)
    api.reqMktData(5, EURUSD, "", False, False, [])
    assert api.errors() == [code]


def test_too_many_messages(tws: Tws, api: Api) -> None:
    tws.fault("max_rate", per_second=5)
    for _ in range(6):
        api.reqCurrentTime()
    assert [args[1] for name, args in api.take() if name == "error"] == [100] and not api.cut
    for _ in range(2):
        api.reqCurrentTime()
    assert api.cut


@pytest.mark.parametrize(("form", "shown"), [
    ("utc", b"\x0020260413-14:30:00\x00"), ("tws", b"\x0020260413  14:30:00\x00"),
    ("instrument", b"\x0020260413 10:30:00 US/Eastern\x00"),
])  # fmt: skip
def test_time_of_executions(tws: Tws, api: Api, form: str, shown: bytes) -> None:
    tws.fault("exec_time_format", form=form)
    sent: list[bytes] = []
    api.session._write = sent.append
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    assert shown in b"".join(sent)


def test_held_order_sent_again_can_be_103(tws: Tws, api: Api) -> None:
    tws.fault("held_resend_103")
    for _ in range(2):
        api.place(AAPL, MarketOrder("BUY", 1, orderId=1, transmit=False))
    assert api.errors() == [103]


def test_owner_trades_while_the_api_is_read_only(tws: Tws) -> None:
    tws.fault("read_only")
    tws.owner.place("AAPL", "BUY", 1)
    assert tws.position("AAPL") == 1


def test_rejected_order_may_stay_in_the_list(tws: Tws, api: Api) -> None:
    tws.fault("inactive_listed")
    tws.fault("reject")
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    api.take()
    api.reqOpenOrders()
    assert api.story() == ["openOrder 1", "1 Inactive"]
    perform(tws.server, "midnight")
    api.reqOpenOrders()
    assert api.story() == []


def test_login_that_says_nothing(tws: Tws) -> None:
    tws.fault("silent_login")
    assert [name for name in tws.connect(quiet=False).kinds() if name != "connectAck"] == []


def test_connections_can_be_refused(tws: Tws) -> None:
    tws.fault("refuse_connections")
    with pytest.raises(ConnectionRefusedError):
        tws.connect()


# -- the owner ------------------------------------------------------------------------------------------------


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
