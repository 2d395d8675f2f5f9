"""Message order and meaning against a real TWS: each test names the transcript it was checked with.

The transcripts are those of the public repository ThomasMarcelis/ibkr-go (testdata/transcripts), recorded from a
paper Gateway. The expectations are written here by hand; where ours differs, the test says how and why.
"""

from __future__ import annotations

from decimal import Decimal

import pytest
from ib_insync import Contract, ExecutionFilter, LimitOrder, MarketOrder, Order, StopOrder

from executor.paper.contracts import from_table
from tests.paper.harness import AAPL, EURUSD, Api, Tws

MES = from_table({
    "symbol": "MES", "sec_type": "FUT", "exchange": "CME", "expiry": "20260618", "local_symbol": "MESM6",
    "trading_class": "MES", "multiplier": 5, "price": "7039.25", "tick": "0.25", "commission": "0.62",
    "con_id": 770561194,
})  # fmt: skip


def test_accounts_then_id_then_farms(tws: Tws) -> None:
    """grounded_bootstrap: managedAccounts, nextValidId, then 2104, 2106, 2158."""
    heard = tws.connect(quiet=False).take()
    heard = [one for one in heard if one[0] != "connectAck"]
    assert [name for name, _ in heard] == ["managedAccounts", "nextValidId", "error", "error", "error"]
    assert heard[0][1] == ("DU1234567",) and heard[1][1] == (1,)
    assert [args[:2] for name, args in heard if name == "error"] == [(-1, 2104), (-1, 2106), (-1, 2158)]


def test_market_buy_is_presubmitted_then_fills(tws: Tws, api: Api) -> None:
    """place_order_fill_native_execution_time: openOrder, PreSubmitted, execution, openOrder, Filled, commission."""
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1, tif="DAY"))
    heard = api.take()
    assert [line for name, args in heard if (line := _short(name, args))] == [
        "openOrder PreSubmitted",
        "PreSubmitted",
        "exec BOT 1.0",
        "openOrder Filled",
        "Filled",
        "commission 1.0",
    ]
    execution = next(args[2] for name, args in heard if name == "execDetails")
    assert execution.execId.count(".") == 3 and execution.execId.endswith(".01")
    assert execution.time == tws.clock.now()


def _short(name: str, args: tuple[object, ...]) -> str:
    match name, args:
        case "openOrder", (_, _, _, state):
            return f"openOrder {state.status}"  # type: ignore[attr-defined]
        case "orderStatus", (_, status, *_):
            return str(status)
        case "execDetails", (_, _, one):
            return f"exec {one.side} {one.shares}"  # type: ignore[attr-defined]
        case "commissionReport", (report,):
            return f"commission {report.commission}"  # type: ignore[attr-defined]
    return ""


def test_native_execution_time_is_eastern(tws: Tws, api: Api) -> None:
    """place_order_fill_native_execution_time: `20260413 15:27:04 US/Eastern`, realised P&L unset when opening."""
    sent: list[bytes] = []
    api.session._write = sent.append  # the bytes themselves
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    stream = b"".join(sent)
    assert b"\x0020260413 10:30:00 US/Eastern\x00" in stream
    assert b"\x001.0\x00USD\x001.7976931348623157E308\x00" in stream.replace(b"\x001\x00USD", b"\x001.0\x00USD")


def test_market_sell_is_submitted_then_fills(api: Api) -> None:
    """api_completed_orders_variants_aapl: a selling market order is Submitted where a buying one is PreSubmitted."""
    api.place(AAPL, MarketOrder("SELL", 5, orderId=1))
    assert [word for word in api.story() if word.startswith("1 ") and "fill" not in word] == ["1 Submitted", "1 Filled"]


def test_held_order_is_silent_until_transmitted(api: Api) -> None:
    """api_transmit_false_then_transmit_aapl: nothing at all, then openOrder and Submitted, then 202 after Cancelled."""
    order = LimitOrder("BUY", 10, 13.26, orderId=1, tif="DAY", transmit=False)
    api.place(AAPL, order)
    assert api.take() == []
    api.place(AAPL, order, transmit=True)
    assert api.story() == ["openOrder 1", "1 Submitted"]
    api.cancelOrder(1)
    assert api.story() == ["1 Cancelled", "1 error 202"]


def test_stop_waits_for_its_trigger_and_can_be_moved(api: Api) -> None:
    """api_stop_loss_management_aapl: PreSubmitted with whyHeld `trigger`, the same again after a change of price;
    Cancelled drops whyHeld. (TWS says each pair twice, the first with an adjusted limit price; ours once.)"""
    api.place(AAPL, StopOrder("SELL", 1, 13.13, orderId=1))
    assert api.story() == ["openOrder 1", "1 PreSubmitted trigger"]
    api.place(AAPL, StopOrder("SELL", 1, 14.13, orderId=1))
    heard = api.take()
    assert heard[0][1][2].auxPrice == 14.13 and heard[1][1][1] == "PreSubmitted"
    api.cancelOrder(1)
    assert api.story() == ["1 Cancelled", "1 error 202"]


def test_limit_changed_to_market_fills(tws: Tws, api: Api) -> None:
    """place_order_modify_to_market_late_execution: openOrder as a market order, Filled before execution and commission
    (a race of the real one; here the knob `status_first`)."""
    api.place(AAPL, LimitOrder("BUY", 1, 12.89, orderId=1))
    assert api.story() == ["openOrder 1", "1 Submitted"]
    tws.fault("status_first", seconds=0.1)
    api.place(AAPL, MarketOrder("BUY", 1, orderId=1))
    assert api.story()[-2:] == ["openOrder 1", "1 Filled"]
    tws.advance(0.2)
    assert api.story() == ["1 fill 1 @ 263.51", "commission"]


def test_invalid_type_is_321_and_nothing_else(api: Api) -> None:
    """place_order_invalid_type_live_error: error 321 for the order id, no status; the id can be used again."""
    api.place(AAPL, Order(action="BUY", totalQuantity=1, orderType="FEELINGS", lmtPrice=10, orderId=40))
    assert api.story() == ["40 error 321"]
    api.place(AAPL, LimitOrder("BUY", 1, 10, orderId=40))
    assert api.story() == ["openOrder 40", "40 Submitted"]


def test_ioc_ends_without_202(api: Api) -> None:
    """api_ioc_fok_aapl: IOC goes PendingCancel, Cancelled; FOK goes Inactive; neither gets an error."""
    api.place(AAPL, LimitOrder("BUY", 1, 12.9, orderId=61, tif="IOC"))
    assert [word for word in api.story() if "openOrder" not in word] == [
        "61 Submitted",
        "61 PendingCancel",
        "61 Cancelled",
    ]
    api.place(AAPL, LimitOrder("BUY", 1, 12.9, orderId=62, tif="FOK"))
    assert api.story()[-1] == "62 Inactive"


def test_gtc_order_is_there_after_reconnect(tws: Tws, api: Api) -> None:
    """api_reconnect_active_order_aapl: nextValidId counts on, reqOpenOrders shows it, cancel works by the old id."""
    api.place(AAPL, LimitOrder("BUY", 10, 13.27, orderId=294, tif="GTC"))
    api.session.close()
    again = tws.connect(quiet=False)
    assert ("nextValidId", (295,)) in again.take()
    again.reqOpenOrders()
    assert again.kinds() == ["openOrder", "orderStatus", "openOrderEnd"]
    again.cancelOrder(294)
    assert again.story() == ["294 Cancelled", "294 error 202"]


@pytest.mark.parametrize("other", [0, 2])
def test_another_client_sees_and_cancels(tws: Tws, api: Api, other: int) -> None:
    """api_cross_client_cancel_aapl, api_client_id0_order_observation_aapl: after reqAllOpenOrders clients 2 and 0
    cancel client 1's order, and hear of it under their own client id."""
    api.place(AAPL, LimitOrder("BUY", 10, 13.27, orderId=296, tif="GTC"))
    second = tws.connect(other)
    second.cancelOrder(296)
    assert second.errors() == [10147]
    second.reqAllOpenOrders()
    second.take()
    second.cancelOrder(296)
    status = next(args for name, args in second.take() if name == "orderStatus")
    assert (status[0], status[1], status[8]) == (296, "Cancelled", other)
    assert "296 Cancelled" in api.story()


def test_each_client_has_its_own_ids(tws: Tws, api: Api) -> None:
    """api_cross_client_cancel_aapl: client 1 stands at 296, client 2 at 18; req_ids: asked again, the next one."""
    api.place(AAPL, LimitOrder("BUY", 1, 10, orderId=296))
    second = tws.connect(2, quiet=False)
    assert ("nextValidId", (1,)) in second.take()
    api.take()
    api.reqIds(1)
    assert api.take() == [("nextValidId", (297,))]


def test_future_round_trip_reports_both_commissions() -> None:
    """api_future_campaign_mes: 7039.50 bought, 7039.25 sold, 0.62 a side: realised -2.49."""
    tws = Tws(instruments=[MES, *Tws().exchange.floor.catalog])
    api, contract = tws.connect(), Contract(conId=770561194, exchange="CME")
    tws.price("MESM6", "7039.25")
    api.place(contract, MarketOrder("BUY", 1, orderId=289))
    tws.exchange.set_quote("MESM6", Decimal("7039.25"), Decimal("7039.5"))
    api.place(contract, MarketOrder("SELL", 1, orderId=290))
    reports = [args[0] for name, args in api.take() if name == "commissionReport"]
    assert [(one.commission, round(one.realizedPNL, 2)) for one in reports] == [
        (0.62, 1.7976931348623157e308),
        (0.62, -2.49),
    ]


def test_completed_orders_carry_no_order_id(api: Api) -> None:
    """completed_orders_cancelled_system_live, api_completed_orders_variants_aapl: both forms of the request end; an
    entry has account, ref, permId, status and words, and no order id."""
    api.place(AAPL, MarketOrder("BUY", 5, orderId=297, orderRef="sx1:a:E"))
    api.take()
    for api_only in (False, True):
        api.reqCompletedOrders(api_only)
        (_, (contract, order, state)), end = api.take()
        assert end == ("completedOrdersEnd", ())
        assert (order.orderId, order.orderRef, order.filledQuantity) == (0, "sx1:a:E", 5.0)
        assert (state.status, state.completedStatus, contract.conId) == ("Filled", "Filled Size: 5", 265598)


def test_executions_come_with_commissions_and_an_end(api: Api) -> None:
    """executions, executions_correlated: execDetails with the request's id, its commission, execDetailsEnd."""
    api.place(AAPL, MarketOrder("BUY", 5, orderId=1))
    api.take()
    api.reqExecutions(77, ExecutionFilter())
    assert [(name, args[0] if name != "commissionReport" else "") for name, args in api.take()] == [
        ("execDetails", 77), ("commissionReport", ""), ("execDetailsEnd", 77)]  # fmt: skip


def test_missing_end_of_executions(tws: Tws, api: Api) -> None:
    """executions_missing_end_live: a Gateway was recorded that never ends an empty answer (knob `missing_end`)."""
    tws.fault("missing_end", kind="execDetailsEnd")
    api.reqExecutions(77, ExecutionFilter())
    assert api.take() == []


def test_positions_show_the_listing(api: Api) -> None:
    """grounded_positions: exchange is the listing for stocks; then positionEnd."""
    api.place(AAPL, MarketOrder("BUY", 10, orderId=1))
    api.take()
    api.reqPositions()
    (_, (account, contract, quantity, cost)), end = api.take()
    assert (account, contract.exchange, quantity, end[0]) == ("DU1234567", "NASDAQ", 10.0, "positionEnd")
    assert cost == pytest.approx(263.51 + 0.1)  # one dollar of commission over ten shares


def test_unknown_symbol_is_200(api: Api) -> None:
    """error_api_error_oneshot: error 200 for the request, no end."""
    api.reqContractDetails(9, Contract(symbol="ZZZZNONE", secType="STK", exchange="SMART", currency="USD"))
    assert api.take() == [("error", (9, 200, "No security definition has been found for the request", ""))]


def test_contract_details_of_aapl(api: Api) -> None:
    """grounded_contract_details_aapl and the recorded 1171-byte frame: names, class, zone, hours, rule 26."""
    api.reqContractDetails(9, AAPL)
    (_, (_, found)), end = api.take()
    assert end == ("contractDetailsEnd", (9,))
    assert (found.contract.conId, found.contract.primaryExchange, found.contract.tradingClass) == (
        265598,
        "NASDAQ",
        "NMS",
    )
    assert (found.longName, found.timeZoneId, found.minTick) == ("APPLE INC", "US/Eastern", 0.01)
    assert set(found.marketRuleIds.split(",")) == {"26"} and found.stockType == "COMMON"
    assert found.liquidHours.startswith("20260413:0930-20260413:1600;")


def test_delayed_data_is_a_warning_and_ticks_66_67(tws: Tws, api: Api) -> None:
    """quote_delayed_data, error_market_data_warning: 10167, marketDataType 3, delayed ticks."""
    tws.fault("mktdata", mode="delayed")
    api.reqMarketDataType(3)
    api.reqMktData(5, EURUSD, "", False, False, [])
    heard = api.take()
    assert heard[0] == (
        "error",
        (5, 10167, "Requested market data is not subscribed. Displaying delayed market data.", ""),
    )
    assert ("marketDataType", (5, 3)) in heard
    assert {args[1] for name, args in heard if name == "priceSizeTick"} >= {66, 67}


def test_snapshot_ends(api: Api) -> None:
    """quote_snapshot: marketDataType, prices, tickSnapshotEnd; no later tick."""
    api.reqMktData(5, EURUSD, "", True, False, [])
    names = api.kinds()
    assert names[0] == "marketDataType" and names[-1] == "tickSnapshotEnd" and "priceSizeTick" in names


def test_1100_and_1102_are_for_everybody(tws: Tws, api: Api) -> None:
    """reconnect_1102_resume: both codes without an order id; subscriptions live on."""
    api.reqMktData(5, EURUSD, "", False, False, [])
    api.take()
    tws.exchange.lose_connection()
    tws.exchange.restore_connection()
    assert [args[:2] for _, args in api.take()] == [(-1, 1100), (-1, 1102)]
    tws.price("EURUSD", "1.1905")
    assert "priceSizeTick" in api.kinds()


def test_account_download_order(api: Api) -> None:
    """account_updates: values, portfolio, time, accountDownloadEnd."""
    api.place(AAPL, MarketOrder("BUY", 10, orderId=1))
    api.take()
    api.reqAccountUpdates(True, "DU1234567")
    names = list(dict.fromkeys(api.kinds()))
    assert names == ["updateAccountValue", "updatePortfolio", "updateAccountTime", "accountDownloadEnd"]


def test_account_summary_goes_on_after_its_end(tws: Tws, api: Api) -> None:
    """grounded_account_summary, account_summary_stream: only what was asked for, sorted by tag, then the end."""
    api.reqAccountSummary(3, "All", "NetLiquidation,BuyingPower")
    heard = api.take()
    assert [args[2] for name, args in heard if name == "accountSummary"] == ["BuyingPower", "NetLiquidation"]
    assert heard[-1] == ("accountSummaryEnd", (3,))


def test_what_is_not_offered_is_refused(api: Api) -> None:
    """wsh_meta_data_error 10276, market_depth_error 10092, realtime_bars_api_error 10089; tick-by-tick 10189."""
    api.reqWshMetaData(1)
    api.reqMktDepth(2, AAPL, 5, False, [])
    api.reqRealTimeBars(3, AAPL, 5, "TRADES", True, [])
    api.reqTickByTickData(4, AAPL, "Last", 0, False)
    assert [args[:2] for _, args in api.take()] == [(1, 10276), (2, 10092), (3, 10089), (4, 10189)]
