"""Answers beside captures of a real TWS or Gateway, field by field.

Sources, public repositories all of them; facts are taken, no sentence and no code:

* openOrder: ThomasMarcelis/ibkr-go, testdata/transcripts/api_order_type_matrix_aapl (Gateway, server version 200,
  June 2026), the fields that version 176 has; api_bracket_place_aapl for limits and stops;
* completedOrder: the same, completed_orders_cancelled_system_live (version 200, April 2026);
* contractDetails: the same, internal/codec/codec_capture_test (AAPL, 1171 bytes, version 200), contract_details_eurusd_cash;
* account download: nautechsystems/nautilus_trader, tests/integration_tests/adapters/interactive_brokers, account_values.json;
* summary tags: what ib_insync asks for, which its users' logs show answered.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from ib_insync import Contract, LimitOrder, MarketOrder, Order, StopOrder

from executor.paper.account_values import DAY_TRADES, NOTHING, SEGMENTED
from executor.paper.contracts import BUILT_IN
from executor.paper.order_frames import cancelled_by_ib_at
from executor.paper.orders import Order as Kept
from executor.paper.orders import OrderForm
from executor.paper.wire import Receiver
from executor.tws import decode
from tests.paper.harness import AAPL, EURUSD, Api, Tws

NONE, DOUBLE, INTEGER = "", "1.7976931348623157E308", "2147483647"


def frames(api: Api, act: Any, *kinds: str) -> list[list[str]]:
    """Return the fields of the messages of these kinds that something brings."""
    heard: list[bytes] = []
    api.session._write = heard.append
    act()
    receiver = Receiver()
    found = [fields for data in [b"API\0", *heard] for fields in receiver.feed(data)]
    return [fields for fields in found if fields[0] in kinds]


def placed(api: Api, contract: Contract, order: Order) -> list[str]:
    return frames(api, lambda: api.place(contract, order), "5")[0]


# what the Gateway said of a market order of 100 AAPL, cut to version 176; ACCOUNT, REF and the ids are its own
SELL_AT_MARKET = [
    "5", "380", "265598", "AAPL", "STK", NONE, "0", "?", NONE, "SMART", "USD", "AAPL", "NMS", "SELL", "100", "MKT",
    "0.0", "0.0", "DAY", NONE, "ACCOUNT", NONE, "0", "REF", "1", "PERM", "0", "0", "0", NONE, "PERM.0/ACCOUNT/100",
    *[NONE] * 9, "0", NONE, "-1", "0", *[NONE] * 5, INTEGER, "0", "0", "0", NONE, "3", "0", "0", NONE, "0", "0", NONE,
    "0", "None", NONE, "0", NONE, NONE, NONE, "?", "0", "0", NONE, "0", "0", *[NONE] * 5, "0", "0", "0", INTEGER,
    INTEGER, NONE, NONE, "0", NONE, "IB", "0", "0", NONE, "0", "0", "Submitted", *[DOUBLE] * 9, *[NONE] * 5, "0", "0",
    "0", "None", *[DOUBLE] * 6, "0", NONE, NONE, NONE, "0", "1", "0", "0", "0", NONE, NONE, "0", *[NONE] * 5,
]  # fmt: skip

STATUS, TRAIL = SELL_AT_MARKET.index("Submitted"), SELL_AT_MARKET.index("None") + 12


def as_captured(fields: list[str], perm: str) -> list[str]:
    return [word.replace("DU1234567", "ACCOUNT").replace(perm, "PERM") for word in fields]


def test_open_order_of_a_market_order(api: Api) -> None:
    found = placed(api, AAPL, MarketOrder("SELL", 100, orderId=380, tif="DAY", orderRef="REF"))
    assert as_captured(found, found[25]) == SELL_AT_MARKET


@pytest.mark.parametrize(("order", "limit", "aux", "trail", "status"), [
    pytest.param(LimitOrder("BUY", 1, 15.53, orderId=1), "15.53", "0.0", "16.53", "Submitted", id="a limit, moved by one"),
    pytest.param(LimitOrder("SELL", 1, 3106, orderId=1), "3106.0", "0.0", "3105", "Submitted", id="a selling limit"),
    pytest.param(StopOrder("SELL", 1, 7.77, orderId=1), "0.0", "7.77", "7.77", "PreSubmitted", id="a stop, its price"),
])  # fmt: skip
def test_open_order_of_orders_with_prices(
    api: Api, order: Order, limit: str, aux: str, trail: str, status: str
) -> None:
    """A real TWS shows the price of a stop, and a limit moved by one, as the trailing stop price."""
    found = placed(api, AAPL, order)
    assert (found[16], found[17], found[TRAIL], found[STATUS]) == (limit, aux, trail, status)


@pytest.mark.parametrize(("fields", "aux", "stop", "percent"), [
    ({"auxPrice": 1, "trailStopPrice": 2921.8}, "1.0", "2921.8", NONE),
    ({"trailingPercent": 1.5, "trailStopPrice": 2000}, "0.0", "2000", "1.5"),
], ids=["amount", "percentage"])  # fmt: skip
def test_open_order_of_a_trailing_stop(api: Api, fields: dict[str, float], aux: str, stop: str, percent: str) -> None:
    """The amount is in the aux price, the stop in both places of the trailing stop price; a first one too high is taken.

    Source: ibkr-go, api_order_type_matrix_aapl (TRAIL of June 2026, version 200) and api_tif_attribute_matrix_aapl.
    """
    found = placed(api, AAPL, Order(action="SELL", totalQuantity=100, orderType="TRAIL", orderId=385, **fields))
    shown = found[15], found[16], found[17], found[STATUS]
    assert shown == ("TRAIL", "0.0", aux, "PreSubmitted")
    assert (found[TRAIL], found[TRAIL + 1]) == (stop, percent)
    adjusted = found.index("None", TRAIL)
    assert found[adjusted : adjusted + 3] == ["None", DOUBLE, stop]


def test_what_the_client_left_unset_is_shown_as_tws_shows_it(api: Api) -> None:
    """However a client writes "not set", TWS says the same of it."""
    plain = placed(api, AAPL, LimitOrder("BUY", 1, 200, orderId=1))
    unset = {"displaySize": 2147483647, "minQty": 0, "percentOffset": 0.0, "triggerMethod": 0, "volatilityType": 0,
             "deltaNeutralOrderType": "None", "clearingIntent": "IB", "adjustedOrderType": "None",
             "discretionaryAmt": 0.0, "ocaType": 0, "exemptCode": -1}  # fmt: skip
    other = placed(api, AAPL, LimitOrder("BUY", 1, 200, orderId=2, **unset))
    differ = [at for at, (one, two) in enumerate(zip(plain, other, strict=True)) if one != two]
    assert differ == [1, 25, 30]  # the order id, and twice the permId


def test_children_of_a_bracket_show_its_group_and_their_parent(api: Api) -> None:
    shown = {fields[1]: fields for fields in frames(api, api.bracket, "5")}  # the last of each order
    parent, take, stop = (shown[order_id] for order_id in ("1", "2", "3"))
    assert (parent[19], parent[54], parent[58]) == ("", "3", "0")
    assert [(one[19], one[54], one[58]) for one in (take, stop)] == [(parent[25], "3", "1")] * 2


def test_completed_order_of_a_cancelled_child(tws: Tws, api: Api) -> None:
    """The recorded one is a limit of 500 that had been a bracket's take-profit, cancelled by TWS with its parent."""
    api.place(AAPL, LimitOrder("BUY", 1, 200, orderId=1, tif="GTC", transmit=False))
    api.place(AAPL, LimitOrder("SELL", 1, 500, orderId=2, tif="GTC", parentId=1))
    api.cancelOrder(1)
    found = frames(api, lambda: api.reqCompletedOrders(False), "101")
    perm, parent = found[1][23], found[0][23]
    captured = [
        "101", "265598", "AAPL", "STK", NONE, "0", "?", NONE, "SMART", "USD", "AAPL", "NMS", "SELL", "1", "LMT",
        "500.0", "0.0", "GTC", parent, "DU1234567", NONE, "0", NONE, perm, "0", "0", "0", *[NONE] * 7, NONE, NONE, NONE,
        "0", NONE, "-1", *[NONE] * 5, INTEGER, "0", "0", NONE, "3", "0", NONE, "0", "None", NONE, "0", "0", "0", NONE,
        "0", "0", NONE, NONE, NONE, "0", "0", "0", INTEGER, INTEGER, NONE, NONE, NONE, "IB", "0", "0", NONE, "0",
        "Cancelled", "0", "0", "0", DOUBLE, DOUBLE, "0", "1", "0", "20260930 20:00:00 UTC", "0", INTEGER, "0",
        "Not an insider or substantial shareholder", "0", "0", parent, "20260413 10:30:00 US/Eastern",
        found[1][95], *[NONE] * 5,
    ]  # fmt: skip
    assert found[1] == captured


def test_order_that_tws_ended_says_so_as_recorded(api: Api) -> None:
    api.place(AAPL, LimitOrder("BUY", 1, 12.9, orderId=61, tif="IOC"))
    ((*_, text, _, _, _, _, _),) = frames(api, lambda: api.reqCompletedOrders(False), "101")
    assert text == "Cancelled by System:\n"


def test_recorded_end_of_an_order_is_one_line_to_the_executor(api: Api) -> None:
    api.place(AAPL, LimitOrder("BUY", 1, 12.9, orderId=61, tif="IOC"))
    api.take()
    api.reqCompletedOrders(False)
    report = decode.from_completed_order(order=api.take()[0][1][1], contract=AAPL, state=SimpleNamespace(
        status="Cancelled", completedStatus="Cancelled by System:\n"))  # fmt: skip
    assert report.note == "Cancelled by System:"


@pytest.mark.parametrize(("placed_on", "ends_on"), [
    ((2026, 4, 11), "20260930 20:00:00 UTC"), ((2026, 1, 1), "20260630 20:00:00 UTC"),
    ((2026, 8, 31), "20261231 21:00:00 UTC"), ((2026, 10, 1), "20270331 20:00:00 UTC"),
    ((2026, 12, 31), "20270331 20:00:00 UTC"),
])  # fmt: skip
def test_gtc_order_ends_with_the_next_quarter(placed_on: tuple[int, int, int], ends_on: str) -> None:
    at = datetime(*placed_on, 15, tzinfo=UTC)
    form = OrderForm("BUY", Decimal(1), "LMT", Decimal(1), tif="GTC")
    assert cancelled_by_ib_at(Kept(1, 1, 1, form, 1, at, Decimal(1))) == ends_on


def details(api: Api, **query: Any) -> list[list[str]]:
    return frames(api, lambda: api.reqContractDetails(9, Contract(**query)), "10", "4")


def test_contract_details_of_a_stock(api: Api) -> None:
    (found,) = details(api, symbol="AAPL", secType="STK", exchange="SMART", currency="USD")
    orders, exchanges, trading, liquid = found[14], found[15], found[24], found[25]
    assert found == [
        "10", "9", "AAPL", "STK", NONE, "0", NONE, "SMART", "USD", "AAPL", "NMS", "NMS", "265598", "0.01", NONE,
        *found[15:17], "1", "0", "APPLE INC", "NASDAQ", NONE, NONE, NONE, NONE, "US/Eastern", *found[26:28], NONE, NONE,
        "1", "ISIN", "US0378331005", "1", NONE, NONE, "26,26", NONE, "COMMON", "0.0001", "0.0001", "100",
    ]  # fmt: skip
    assert orders == NONE and exchanges.split(",")[0] != "" and trading == NONE and liquid == "US/Eastern"
    assert found[26].startswith("20260413:0400-20260413:2000;") and found[27].startswith("20260413:0930-20260413:1600;")


def test_contract_details_of_a_currency_pair(api: Api) -> None:
    (found,) = details(api, symbol="EUR", secType="CASH", exchange="IDEALPRO", currency="USD")
    assert found[2:15] == ["EUR", "CASH", NONE, "0", NONE, "IDEALPRO", "USD", "EUR.USD", "EUR.USD", "EUR.USD",
                           "12087792", "0.00005", NONE]  # fmt: skip
    assert found[16:22] == ["IDEALPRO", "1", "0", "European Monetary Union Euro", NONE, NONE]
    assert found[28:34] == [NONE, NONE, "0", "4", NONE, NONE]
    assert found[26].startswith("20260412:1715-20260413:1700;")


def test_details_name_only_what_is_taken(api: Api) -> None:
    """A real TWS lists dozens of order types and attributes; a client that believed them would be refused here."""
    (found,) = details(api, conId=265598)
    assert not {"COND", "ALGO", "AON", "GAT", "TRAILLMT", "HID", "SCALE", "SWEEP"} & set(found[15].split(","))


def check_digit(isin: str) -> int:
    digits = "".join(str(int(letter, 36)) for letter in isin[:-1])
    doubled = [int(digit) * (2 if at % 2 == 0 else 1) for at, digit in enumerate(reversed(digits))]
    return -sum(number // 10 + number % 10 for number in doubled) % 10


def test_every_stock_has_an_isin_that_is_one_and_is_found_by_it(api: Api) -> None:
    for one in BUILT_IN:
        if one.sec_type == "STK":
            assert len(one.isin) == 12 and int(one.isin[-1]) == check_digit(one.isin), one.name
            found = details(api, secIdType="ISIN", secId=one.isin, currency=one.currency)
            assert [fields[12] for fields in found] == [str(one.con_id)]
    assert [fields[3] for fields in details(api, secIdType="ISIN", secId="US0000000000")] == ["200"]


def test_order_by_isin_is_for_that_stock_and_no_other(tws: Tws, api: Api) -> None:
    order = MarketOrder("BUY", 1, orderId=1)
    api.place(Contract(symbol="AAPL", secType="STK", exchange="SMART", currency="USD", secIdType="ISIN",
                       secId="US5949181045"), order)  # fmt: skip
    assert tws.position("MSFT") == 1 and tws.position("AAPL") == 0


# -- accounts -------------------------------------------------------------------------------------------------

PER_CURRENCY = {"AccountOrGroup", "AccruedCash", "CashBalance", "CorporateBondValue", "Currency", "ExchangeRate",
                "FundValue", "FutureOptionValue", "FuturesPNL", "FxCashBalance", "IssuerOptionValue",
                "MoneyMarketFundValue", "MutualFundValue", "NetDividend", "NetLiquidationByCurrency",
                "OptionMarketValue"}  # fmt: skip
# tags of the recorded download that are a word or a number of the whole account
OF_THE_ACCOUNT = {"AccountCode", "AccountReady", "AccountType", "Cushion", "Leverage-S", "LookAheadNextChange",
                  "NLVAndMarginInReview"}  # fmt: skip
IN_BASE = {"AccruedDividend", "AvailableFunds", "Billable", "BuyingPower", "EquityWithLoanValue", "ExcessLiquidity",
           "FullAvailableFunds", "FullExcessLiquidity", "FullInitMarginReq", "FullMaintMarginReq", "Guarantee",
           "IndianStockHaircut", "InitMarginReq", "LookAheadAvailableFunds", "LookAheadExcessLiquidity",
           "LookAheadInitMarginReq", "LookAheadMaintMarginReq", "MaintMarginReq", "NetLiquidation",
           "NetLiquidationUncertainty", "TotalCashValue"}  # fmt: skip
NO_SEGMENT = {"BuyingPower", "NetLiquidationUncertainty"}


def download(api: Api) -> dict[tuple[str, str], str]:
    """Return what an account download says, by tag and currency."""
    found = frames(api, lambda: api.reqAccountUpdates(True, "DU1234567"), "6")
    rows = [(fields[2], fields[4]) for fields in found]
    assert len(set(rows)) == len(rows) and rows == sorted(rows)
    return {(fields[2], fields[4]): fields[3] for fields in found}


def test_account_download_has_the_recorded_rows(tws: Tws, api: Api) -> None:
    api.place(EURUSD, MarketOrder("BUY", 20000, orderId=1))
    rows = download(api)
    assert {(tag, "") for tag in OF_THE_ACCOUNT} <= set(rows)
    assert {(tag, currency) for tag in PER_CURRENCY for currency in ("BASE", "USD", "EUR")} <= set(rows)
    segments = {f"{tag}-S" for tag in IN_BASE - NO_SEGMENT} | {"AccruedCash-S"}
    assert {(tag, "USD") for tag in IN_BASE | segments} <= set(rows)
    assert len(rows) >= 108 and not {tag for tag, _ in rows} & {f"{tag}-S" for tag in NO_SEGMENT}


def test_ledgers_add_up(tws: Tws, api: Api) -> None:
    api.place(EURUSD, MarketOrder("BUY", 20000, orderId=1))
    api.place(AAPL, MarketOrder("BUY", 10, orderId=2))
    api.place(
        Contract(symbol="SHOP", secType="STK", exchange="SMART", currency="CAD"), MarketOrder("SELL", 5, orderId=3)
    )
    tws.price("AAPL", "270")
    tws.price("EURUSD", "1.21")
    rows = {key: value for key, value in download(api).items()}
    rates = {currency: Decimal(value) for (tag, currency), value in rows.items() if tag == "ExchangeRate"}
    for tag in ("CashBalance", "StockMarketValue", "UnrealizedPnL", "RealizedPnL", "NetLiquidationByCurrency"):
        together = sum(Decimal(rows[tag, one]) * rate for one, rate in rates.items() if one != "BASE")
        assert Decimal(rows[tag, "BASE"]) == pytest.approx(together, abs=Decimal("0.05")), tag
    assert Decimal(rows["NetLiquidationByCurrency", "BASE"]) == pytest.approx(Decimal(rows["NetLiquidation", "USD"]))
    assert set(rates) == {"BASE", "USD", "EUR", "CAD"} and Decimal(rows["StockMarketValue", "CAD"]) < 0


def summary(api: Api, tags: str) -> list[tuple[str, str]]:
    api.reqAccountSummary(3, "All", tags)
    found = [(args[2], args[4]) for name, args in api.take() if name == "accountSummary"]
    api.cancelAccountSummary(3)
    return found


SUMMARY_TAGS = ["AccountType", "NetLiquidation", "TotalCashValue", "SettledCash", "AccruedCash", "BuyingPower",
                "EquityWithLoanValue", "PreviousDayEquityWithLoanValue", "GrossPositionValue", "RegTEquity",
                "RegTMargin", "SMA", "InitMarginReq", "MaintMarginReq", "AvailableFunds", "ExcessLiquidity", "Cushion",
                "FullInitMarginReq", "FullMaintMarginReq", "FullAvailableFunds", "FullExcessLiquidity",
                "LookAheadNextChange", "LookAheadInitMarginReq", "LookAheadMaintMarginReq", "LookAheadAvailableFunds",
                "LookAheadExcessLiquidity", "HighestSeverity", "Leverage", *DAY_TRADES]  # fmt: skip


def test_summary_has_every_tag_that_there_is(api: Api) -> None:
    assert sorted({tag for tag, _ in summary(api, ",".join(SUMMARY_TAGS))}) == sorted(SUMMARY_TAGS)
    for tag in SUMMARY_TAGS:
        assert [found for found, _ in summary(api, tag)] == [tag]
    assert set(SUMMARY_TAGS) <= {tag for tag, _ in summary(api, "All")}


@pytest.mark.parametrize(("asked", "currencies"), [
    ("$LEDGER", {"USD"}), ("$LEDGER:EUR", {"EUR"}), ("$LEDGER:ALL", {"BASE", "USD", "EUR"}), ("$LEDGER:JPY", set()),
    ("$LEDGER:EUR,$LEDGER:USD", {"EUR", "USD"}),
])  # fmt: skip
def test_ledger_is_of_the_currency_that_was_asked_for(api: Api, asked: str, currencies: set[str]) -> None:
    api.place(EURUSD, MarketOrder("BUY", 20000, orderId=1))
    api.take()
    rows = summary(api, asked)
    assert {currency for _, currency in rows} == currencies
    assert all({(tag, one) for tag in NOTHING} <= set(rows) for one in currencies)


def test_values_that_move_are_sent_again_and_no_others(tws: Tws, api: Api) -> None:
    api.place(AAPL, MarketOrder("BUY", 10, orderId=1))
    before = download(api)
    tws.price("AAPL", "300")
    moved = frames(api, lambda: tws.advance(4), "6")
    assert {fields[2] for fields in moved} >= {
        "NetLiquidation",
        "NetLiquidation-S",
        "UnrealizedPnL",
        "FullAvailableFunds",
    }
    assert all(before[fields[2], fields[4]] != fields[3] for fields in moved)
    assert not {fields[2] for fields in moved} & {*NOTHING, "CashBalance", "AccountType"} and len(SEGMENTED) > 20
