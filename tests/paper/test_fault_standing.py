"""Knobs that hold until they are cleared do what docs/reference/paper-tws.md says of them."""

from __future__ import annotations

import pytest
from ib_insync import MarketOrder

from executor.paper.actions import perform
from tests.paper.harness import AAPL, EURUSD, Api, Tws


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
