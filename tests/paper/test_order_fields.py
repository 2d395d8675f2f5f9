"""Every field of placeOrder has a place in one table, and is simulated, harmless, or refused in TWS's words."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import pytest
from ib_insync import (
    ComboLeg,
    Contract,
    DeltaNeutralContract,
    ExecutionCondition,
    LimitOrder,
    MarginCondition,
    MarketOrder,
    Order,
    PercentChangeCondition,
    PriceCondition,
    SoftDollarTier,
    StopOrder,
    TagValue,
    TimeCondition,
    VolumeCondition,
)

from executor.paper.order_fields import FIELDS, Field, Kind, Use
from executor.paper.requests import read
from tests.paper.harness import AAPL, EURUSD, Api, Tws

# fields of ib_insync's Order that placeOrder does not carry at the versions spoken here
NOT_SENT = {
    "orderId", "clientId", "permId",  # the message's own, and TWS's
    "basisPoints", "basisPointsType", "autoCancelDate", "filledQuantity", "refFuturesConId", "shareholder",
    "imbalanceOnly", "routeMarketableToBbo", "parentPermId",  # said by TWS only
}  # fmt: skip
SENT_OF_THE_CONTRACT = {"deltaNeutralContract"}

CONDITIONS = [
    PriceCondition(conId=265598, exch="SMART", price=300),
    TimeCondition(time="20260413 15:30:00 US/Eastern"),
    MarginCondition(percent=30),
    ExecutionCondition(secType="STK", exch="SMART", symbol="MSFT"),
    VolumeCondition(conId=265598, exch="SMART", volume=10),
    PercentChangeCondition(conId=265598, exch="SMART", changePercent=5),
]
# values for fields whose default says too little, and what must be set beside them to have them sent
VALUES: dict[str, Any] = {
    "conditions": CONDITIONS, "algoParams": [TagValue("adaptivePriority", "Urgent")], "softDollarTier": SoftDollarTier("a", "b"),
    "orderMiscOptions": [TagValue("a", "b")], "exemptCode": 2, "triggerMethod": 8, "conditionsIgnoreRth": True,
    "conditionsCancelOrder": True, "deltaNeutralOrderType": "LMT",
}  # fmt: skip
ALGO, CONDITION = {"algoStrategy": "Adaptive"}, {"conditions": CONDITIONS[:1]}
PEG_BENCH, SCALE = {"orderType": "PEG BENCH"}, {"scalePriceIncrement": 0.5}
BESIDE: dict[str, dict[str, Any]] = {
    "algoParams": ALGO, "conditionsIgnoreRth": CONDITION, "conditionsCancelOrder": CONDITION,
    "hedgeParam": {"hedgeType": "D"},
    **dict.fromkeys(["scalePriceAdjustValue", "scalePriceAdjustInterval", "scaleProfitOffset", "scaleAutoReset",
                     "scaleInitPosition", "scaleInitFillQty", "scaleRandomPercent"], SCALE),
    **dict.fromkeys(["referenceContractId", "peggedChangeAmount", "referenceChangeAmount", "referenceExchangeId",
                     "isPeggedChangeAmountDecrease"], PEG_BENCH),
}  # fmt: skip
# orderComboLegs, smartComboRoutingParams: of combos, which no catalogue has; minTradeQty: of an exchange that none has
ELSEWHERE = {"orderComboLegs", "smartComboRoutingParams", "minTradeQty", "deltaNeutralContract"}
REFUSED = sorted(name for name, field in FIELDS.items() if field.use is Use.REFUSED and name not in ELSEWHERE)
HARMLESS = sorted(name for name, field in FIELDS.items() if field.use is Use.HARMLESS)


def value(name: str, field: Field) -> Any:
    return VALUES.get(name, {Kind.FLAG: True, Kind.NUMBER: 7, Kind.TEXT: "X"}[field.kind])


def test_every_field_of_an_order_is_in_the_table() -> None:
    known = {field.name for field in dataclasses.fields(Order)}
    assert set(FIELDS) - SENT_OF_THE_CONTRACT == known - NOT_SENT and known >= NOT_SENT


def test_every_field_of_the_table_is_read_from_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    names: set[str] = set()
    monkeypatch.setattr("executor.paper.order_fields.beyond", lambda raw: names.update(raw) or {})  # type: ignore[func-returns-value]
    sent: list[list[str]] = []
    tws = Tws()
    api = tws.connect()
    api.session.receive = lambda data: sent.append(data[4:-1].decode().split("\0"))  # type: ignore[method-assign]
    full = {"action": "BUY", "algoStrategy": "A", "hedgeType": "D", "scalePriceIncrement": 1, "conditions": CONDITIONS,
            "deltaNeutralOrderType": "LMT"}  # fmt: skip
    combo = Contract(symbol="X", secType="BAG", exchange="IBKRATS", comboLegs=[ComboLeg()])
    for kind in ("PEG BENCH", "PEG BEST", "PEG MID", "LMT"):
        api.placeOrder(1, combo, Order(orderType=kind, **full))
    for fields in sent:
        read(fields, 176)
    assert names == set(FIELDS)


@pytest.mark.parametrize("version", [b"v157..157", b"v157..176"])
@pytest.mark.parametrize("name", REFUSED)
def test_field_that_would_change_the_order_is_refused(version: bytes, name: str) -> None:
    tws = Tws()
    api = Api(tws.server, 1, version)
    plain = {"action": "BUY", "totalQuantity": 10, "orderType": "MKT", "orderId": 1}
    order = Order(**plain | {name: value(name, FIELDS[name])} | BESIDE.get(name, {}))
    since = {"duration": 158, "postToAts": 160, "autoCancelParent": 162}
    api.take()
    api.place(AAPL, order)
    if api.session.version < since.get(name, 0):
        assert api.errors() == []
        return
    ((_, (order_id, code, words, _)),) = api.take()
    first = next(one for one in FIELDS if one == name or one in BESIDE.get(name, {}))
    assert (order_id, code, words) == (1, *FIELDS[first].refusal) or (code, BESIDE.get(name)) == (387, PEG_BENCH)
    assert not tws.exchange.floor.book.orders and tws.position("AAPL") == 0 and not tws.truth("accepted")


@pytest.mark.parametrize("kind", ["MKT", "LMT", "STP", "STP LMT"])
@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda one: type(one).__name__)
def test_no_order_fills_as_if_it_had_no_condition(kind: str, condition: Any, tws: Tws, api: Api) -> None:
    api.place(AAPL, Order(action="BUY", totalQuantity=1, orderType=kind, lmtPrice=300, auxPrice=200, orderId=1,
                          conditions=[condition, condition]))  # fmt: skip
    assert api.errors() == [402] and tws.position("AAPL") == 0


@pytest.mark.parametrize("name", HARMLESS)
def test_field_that_changes_nothing_changes_nothing(name: str) -> None:
    told = []
    for more in ({}, {name: value(name, FIELDS[name])}):
        api = Tws().connect()
        api.place(AAPL, MarketOrder("BUY", 10, orderId=1, **more))
        told.append(api.story())
    assert told[0] == told[1] and "1 Filled" in told[0]


@pytest.mark.parametrize("change", [
    {"goodAfterTime": "20260413 15:00:00 US/Eastern"}, {"allOrNone": True}, {"displaySize": 100}, {"hidden": True},
    {"discretionaryAmt": 0.05}, {"faGroup": "All", "faMethod": "NetLiq"}, {"algoStrategy": "Adaptive"},
])  # fmt: skip
def test_change_of_a_working_order_to_what_is_not_simulated_is_refused(change: dict[str, Any], tws: Tws) -> None:
    api = tws.connect()
    api.place(AAPL, LimitOrder("BUY", 300, 200, orderId=1))
    api.take()
    api.place(AAPL, LimitOrder("BUY", 300, 201, orderId=1, **change))
    (order,) = tws.exchange.floor.book.live.values()
    assert len(api.errors()) == 1 and order.form.limit_price == 200


@pytest.mark.parametrize("field", ["conditions", "allOrNone"])
def test_what_if_is_refused_as_the_order_would_be(field: str, api: Api) -> None:
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1, whatIf=True, **{field: value(field, FIELDS[field])}))
    assert api.errors() == [FIELDS[field].refusal[0]]


def test_what_if_that_is_not_transmitted_is_refused(api: Api) -> None:
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1, whatIf=True, transmit=False))
    assert api.errors() == [413]


def test_orders_as_tws_says_them_may_be_sent_back(tws: Tws, api: Api) -> None:
    """A client changes an order that it read from TWS: values that TWS filled in are no wish of the client's."""
    api.place(AAPL, LimitOrder("BUY", 10, 200, orderId=1, tif="GTC"))
    api.place(AAPL, StopOrder("SELL", 10, 190, orderId=2, tif="GTC"))
    api.bracket(first=3)
    api.session.close()
    again = tws.connect()
    again.reqOpenOrders()
    found = [(args[1], args[2]) for name, args in again.take() if name == "openOrder"]
    assert len(found) == 4
    for contract, order in found:
        order.parentId = 0
        again.place(contract, order)
    assert again.errors() == []


@pytest.mark.parametrize(("contract", "stop", "method", "code"), [
    (AAPL, 250, 0, None), (AAPL, 250, 2, None), (AAPL, 250, 1, 146), (AAPL, 250, 4, 146), (AAPL, 250, 7, 146),
    (AAPL, 250, 8, 146), (EURUSD, 1.18, 4, None), (EURUSD, 1.18, 2, 146), (EURUSD, 1.18, 3, 146),
])  # fmt: skip
def test_stop_is_triggered_as_asked_for_or_refused(
    api: Api, contract: Contract, stop: float, method: int, code: int | None
) -> None:
    api.place(contract, StopOrder("SELL", 100, stop, orderId=1, triggerMethod=method))
    assert not code or not api.session.floor.book.orders
    assert [one for one in api.errors() if one != 399] == ([code] if code else [])


@pytest.mark.parametrize(("kind", "code"), [(0, None), (1, None), (3, None), (4, 321), (-1, 321)])
def test_only_the_oca_types_that_are_simulated_are_taken(api: Api, kind: int, code: int | None) -> None:
    api.place(AAPL, LimitOrder("BUY", 1, 200, orderId=1, ocaGroup="g", ocaType=kind))
    assert api.errors() == ([code] if code else [])


@pytest.mark.parametrize(("tif", "code"), [("GTD", 111), ("OPG", 111), ("OVERNIGHT", 111), ("SOON", 321)])
def test_time_in_force_that_is_not_simulated_is_refused(api: Api, tif: str, code: int) -> None:
    api.place(AAPL, LimitOrder("BUY", 1, 200, orderId=1, tif=tif))
    assert api.errors() == [code]


def test_combos_and_delta_neutral_contracts_are_refused(api: Api) -> None:
    combo = Contract(symbol="AAPL", secType="BAG", exchange="SMART", currency="USD",
                     comboLegs=[ComboLeg(265598, 1, "BUY", "SMART"), ComboLeg(272093, 1, "SELL", "SMART")])  # fmt: skip
    api.place(combo, LimitOrder("BUY", 1, 1, orderId=1))
    hedged = Contract(conId=265598, exchange="SMART", deltaNeutralContract=DeltaNeutralContract(272093, 0.5, 100))
    api.place(hedged, LimitOrder("BUY", 1, 200, orderId=2))
    assert api.errors() == [200, 429]


@pytest.mark.parametrize("kind", ["PEG BENCH", "PEG BEST", "PEG MID", "TRAIL LIMIT", "MOC", "VOL"])
def test_types_with_fields_of_their_own_are_read_to_the_end_and_refused(tws: Tws, api: Api, kind: str) -> None:
    api.place(AAPL, Order(action="BUY", totalQuantity=1, orderType=kind, lmtPrice=200, orderId=1, duration=5))
    assert api.errors() == [387] and tws.truth("refused")[0]["code"] == 387


def test_number_that_is_none_is_320_wherever_it_stands(api: Api) -> None:
    order = Order(action="BUY", totalQuantity=1, orderType="LMT", lmtPrice=200, orderId=1)
    for name in [name for name, field in FIELDS.items() if field.kind is Kind.NUMBER and hasattr(order, name)]:
        if name in {
            "parentId",
            "totalQuantity",
            "lmtPrice",
            "auxPrice",
            "scalePriceIncrement",
            *VALUES,
            *BESIDE,
            *ELSEWHERE,
        }:
            continue
        if name.startswith(("deltaNeutral", "min", "compete", "midOffset")) and name != "minQty":
            continue  # sent beside other fields only
        api.take()
        api.place(AAPL, dataclasses.replace(order, **{name: "many"}))
        assert [args[1] for _, args in api.take()] == [320], name
    assert api.session.floor.books.accounts["DU1234567"].cash == {"USD": Decimal(1_000_000)}
