"""What is told of fills, statuses and positions: every knob does what docs/reference/paper-tws.md says of it."""

from __future__ import annotations

from typing import Any

import pytest
from ib_insync import MarketOrder, StopOrder

from executor.paper.actions import perform
from tests.paper.harness import AAPL, Api, Tws


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
