"""The wire: versions, framing however it is chopped, rubbish, and what ib_insync reads in the long messages."""

from __future__ import annotations

import struct
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ib_insync import ContractDetails, LimitOrder, MarketOrder, Order, StopOrder, TagValue

from executor.paper.orders import OrderForm
from executor.paper.requests import TABLE, read
from executor.paper.wire import Receiver, WireError, frame, negotiate, text
from tests.paper.harness import AAPL, EURUSD, Api, Tws


def greeting(offered: str) -> bytes:
    return b"API\0" + struct.pack(">I", len(offered)) + offered.encode()


@pytest.mark.parametrize(
    ("offered", "spoken"),
    [("v157..176", 176), ("v157..178", 176), ("v100..157", 157), ("v157..160 +PACEAPI", 160), ("v176", 176)],
)
def test_version_is_the_best_that_both_speak(offered: str, spoken: int) -> None:
    assert negotiate(offered) == spoken


@pytest.mark.parametrize("offered", ["v100..156", "v177..200", "", "hello", "v"])
def test_no_common_version_ends_the_connection(offered: str, tws: Tws) -> None:
    closed: list[bool] = []
    session = tws.server.attach(lambda data: None, lambda: closed.append(True))
    session.receive(greeting(offered))
    assert closed == [True]


@settings(deadline=None)
@given(
    st.lists(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1), max_size=5),
    st.data(),
)
def test_messages_survive_any_chopping(messages: list[list[str]], data: st.DataObject) -> None:
    stream = b"API\0" + b"".join(frame(fields) for fields in messages)
    receiver, found, at = Receiver(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 9))
        found += list(receiver.feed(stream[at : at + size]))
        at += size
    assert found == messages


@settings(deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False, places=8, min_value=-(10**9), max_value=10**9))
def test_numbers_are_written_without_exponent(number: Decimal) -> None:
    assert Decimal(text(number)) == number and "E" not in text(number)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_rubbish_at_the_start_closes_or_waits(data: bytes) -> None:
    tws = Tws()
    closed: list[bool] = []
    tws.server.attach(lambda _: None, lambda: closed.append(True)).receive(data)
    assert bool(closed) or b"API\0".startswith(data[:4]) or data.startswith(b"API\0")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(TABLE)), st.lists(st.text(max_size=8).map(lambda word: word.replace("\0", "")), max_size=30)
)
def test_rubbish_in_a_message_is_answered_and_survived(number: int, fields: list[str]) -> None:
    tws = Tws()
    api = tws.connect()
    api.session.receive(frame([number, *fields]))
    api.take()
    api.reqCurrentTime()
    assert number == 71 or "currentTime" in api.kinds()


def test_unknown_message_is_answered(api: Api) -> None:
    api.session.receive(frame([999, 1, 2]))
    assert [args[:2] for _, args in api.take()] == [(-1, 505)]


def test_number_that_is_none_is_320(api: Api) -> None:
    api.session.receive(frame([3, "one"]))
    assert [args[:2] for _, args in api.take()] == [(-1, 320)]


def test_message_too_long_ends_the_connection(api: Api) -> None:
    api.session.receive(struct.pack(">I", 2**31))
    assert api.cut


def test_nothing_is_answered_before_start_api(tws: Tws) -> None:
    sent: list[bytes] = []
    session = tws.server.attach(sent.append)
    session.receive(greeting("v157..176") + frame([49, 1]))
    assert b"\x00504\x00" in sent[-1]


def test_every_field_of_an_order_finds_its_place(tws: Tws, api: Api) -> None:
    """Fields before and behind each optional part of placeOrder."""
    forms: list[OrderForm | None] = []
    api.session.receive = lambda data: forms.append(read(data[4:-1].decode().split("\0"), 176).order)  # type: ignore[method-assign]
    plain = {"action": "SELL", "totalQuantity": 3, "orderType": "LMT", "lmtPrice": 7.5, "ocaType": 2, "whatIf": True}
    variants = [
        {},
        {"algoStrategy": "Adaptive", "algoParams": [TagValue("p", "Urgent")]},
        {"hedgeType": "D", "hedgeParam": "1"},
        {"deltaNeutralOrderType": "LMT"},
        {"scalePriceIncrement": 0.5},
    ]
    for more in variants:
        api.placeOrder(1, AAPL, Order(**plain, **more, ocaGroup="g", orderRef="r"))
    wanted = ("SELL", Decimal(3), "LMT", Decimal("7.5"), 2, True, "g", "r")
    assert [(f.action, f.quantity, f.order_type, f.limit_price, f.oca_type, f.what_if, f.oca_group, f.order_ref)
            for f in forms if f] == [wanted] * len(variants)  # fmt: skip


def test_open_order_says_what_was_asked_for(api: Api) -> None:
    sent = StopOrder(
        "SELL", 20000, 1.18, orderId=4, tif="GTC", orderRef="sx1:abc:S", outsideRth=True, account="DU1234567"
    )
    api.place(EURUSD, sent)
    _, (order_id, contract, order, state) = api.take()[0]
    assert (order_id, contract.conId, contract.exchange, contract.localSymbol) == (4, 12087792, "IDEALPRO", "EUR.USD")
    assert (order.action, order.totalQuantity, order.orderType, order.auxPrice) == ("SELL", 20000, "STP", 1.18)
    assert (order.tif, order.orderRef, order.outsideRth, order.clientId) == ("GTC", "sx1:abc:S", True, 1)
    assert order.permId > 0 and state.status == "PreSubmitted" and order.account == "DU1234567"


@pytest.mark.parametrize("version", [b"v157..157", b"v157..158", b"v157..163", b"v157..169", b"v157..176"])
def test_older_versions_are_spoken_too(tws: Tws, version: bytes) -> None:
    api = Api(tws.server, 1, version)
    api.place(AAPL, LimitOrder("BUY", 1, 100, orderId=1))
    api.place(AAPL, MarketOrder("BUY", 1, orderId=2))
    api.reqContractDetails(5, AAPL)
    api.reqCompletedOrders(False)
    api.reqMatchingSymbols(6, "AAPL")
    heard = api.take()
    assert {"openOrder", "execDetails", "contractDetails", "completedOrder", "symbolSamples"} <= {
        name for name, _ in heard
    }
    details = next(args[1] for name, args in heard if name == "contractDetails")
    assert isinstance(details, ContractDetails) and details.contract and details.contract.conId == 265598


def test_each_message_is_counted_at_its_boundary(tws: Tws) -> None:
    seen: list[tuple[str, str, int]] = []
    tws.server.gateway.hooks.append(lambda *boundary: seen.append(boundary))
    api = tws.connect()
    api.reqCurrentTime()
    assert [one for one in seen if one[0] == "in"] == [("in", "startApi", 1), ("in", "reqCurrentTime", 2)]
    assert [number for direction, _, number in seen if direction == "out"] == list(range(1, len(seen) - 1))


@pytest.mark.parametrize("bad", ["x", "NaN", "1e999999", "--1"])
def test_prices_that_are_no_numbers_are_refused(bad: str) -> None:
    fields = ["3", "1", *[""] * 12, "", "", "BUY", bad, "LMT"]
    with pytest.raises(WireError):
        read(fields, 176)
