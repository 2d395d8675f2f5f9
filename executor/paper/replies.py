"""What the server says: one function a message, each returning its fields; no state, no decisions.

Source of the layouts: ib_insync's Decoder for server version 176, the official 9.81 client for 157, and
recorded frames of a Gateway in the public ibkr-go repository. openOrder and completedOrder are in
`order_frames`.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from executor.paper.contracts import Instrument, Rules
from executor.paper.orders import Execution, Order
from executor.paper.wire import UNSET_DOUBLE, UNSET_INTEGER, text

Message = list[object]

KINDS = {
    1: "tickPrice", 2: "tickSize", 3: "orderStatus", 4: "error", 5: "openOrder", 6: "updateAccountValue",
    7: "updatePortfolio", 8: "updateAccountTime", 9: "nextValidId", 10: "contractDetails", 11: "execDetails",
    15: "managedAccounts", 19: "scannerParameters", 45: "tickGeneric", 46: "tickString", 49: "currentTime",
    52: "contractDetailsEnd",
    53: "openOrderEnd", 54: "accountDownloadEnd", 55: "execDetailsEnd", 57: "tickSnapshotEnd",
    58: "marketDataType", 59: "commissionReport", 61: "position", 62: "positionEnd", 63: "accountSummary",
    64: "accountSummaryEnd", 66: "verifyCompleted", 67: "displayGroupList", 68: "displayGroupUpdated",
    70: "verifyAndAuthCompleted", 71: "positionMulti", 72: "positionMultiEnd",
    73: "accountUpdateMulti", 74: "accountUpdateMultiEnd", 76: "securityDefinitionOptionParameterEnd",
    77: "softDollarTiers", 78: "familyCodes", 79: "symbolSamples", 80: "mktDepthExchanges", 81: "tickReqParams",
    82: "smartComponents", 85: "newsProviders", 93: "marketRule", 94: "pnl", 95: "pnlSingle", 100: "orderBound",
    101: "completedOrder", 102: "completedOrdersEnd", 107: "userInfo",
}  # fmt: skip


def kind(message: Message) -> str:
    """Return the name of a message, as the API's callbacks call it."""
    number = message[0]
    return KINDS.get(number, str(number)) if isinstance(number, int) else "handshake"


def error(req_id: int, code: int, words: str, version: int) -> Message:
    return [4, 2, req_id, code, words] + ([""] if version >= 166 else [])


def managed_accounts(accounts: Iterable[str]) -> Message:
    return [15, 1, ",".join(accounts)]


def next_valid_id(order_id: int) -> Message:
    return [9, 1, order_id]


def current_time(seconds: int) -> Message:
    return [49, 1, seconds]


def order_status(order: Order, shown_id: int, parent_id: int) -> Message:
    return [3, shown_id, order.status, order.filled, order.remaining, order.average, order.perm_id, parent_id,
            order.last_price, order.client_id, order.why_held, order.cap or Decimal(0)]  # fmt: skip


def execution(req_id: int, one: Execution, contract: Instrument, at: str) -> Message:
    # an execution of a manual order carries the unset integer (source: ib_insync, wrapper)
    shown_id = one.order_id if one.order_id > 0 else UNSET_INTEGER
    side = "BOT" if one.action == "BUY" else "SLD"
    return [11, req_id, shown_id, *short_contract(contract, one.exchange), one.exec_id, at, one.account,
            one.exchange, side, one.quantity, one.price, one.perm_id, one.client_id, 0, one.cumulative,
            one.average, one.order_ref, "", "", "", 1]  # fmt: skip


def execution_end(req_id: int) -> Message:
    return [55, 1, req_id]


def commission(exec_id: str, amount: object, currency: str, realized: Decimal | None) -> Message:
    return [59, 1, exec_id, amount, currency, UNSET_DOUBLE if realized is None else realized, UNSET_DOUBLE, ""]


def price(value: Decimal | None) -> str:
    """Return a price of an order as TWS writes it, a Java double: 500.0; 0.0 for none.

    >>> price(Decimal("500")), price(Decimal("1.180")), price(None)
    ('500.0', '1.18', '0.0')
    """
    shown = text(value or Decimal(0))
    return shown if "." in shown else f"{shown}.0"


def short_contract(one: Instrument, exchange: str, right: str = "", strike: str = "0.0") -> Message:
    """The eleven fields conId … tradingClass that most messages carry; the long ones say `?` for no right."""
    return [one.con_id, one.symbol, one.sec_type, one.expiry, strike, right, one.multiplier_text, exchange,
            one.currency, one.local_symbol, one.trading_class]  # fmt: skip


def position_exchange(one: Instrument) -> str:
    # stocks show their listing, futures nothing (source: a recorded reqPositions answer)
    return {"STK": one.primary, "CASH": one.exchange}.get(one.sec_type, "")


def position(account: str, one: Instrument, quantity: Decimal, average: Decimal) -> Message:
    return [61, 3, account, *short_contract(one, position_exchange(one)), quantity, average]


def position_end() -> Message:
    return [62, 1]


def position_multi(req_id: int, account: str, one: Instrument, quantity: Decimal, average: Decimal) -> Message:
    return [71, 1, req_id, account, *short_contract(one, position_exchange(one)), quantity, average, ""]


def position_multi_end(req_id: int) -> Message:
    return [72, 1, req_id]


def account_value(tag: str, value: str, currency: str, account: str) -> Message:
    return [6, 2, tag, value, currency, account]


def account_time(at: str) -> Message:
    return [8, 1, at]


def account_end(account: str) -> Message:
    return [54, 1, account]


def account_update_multi(req_id: int, account: str, tag: str, value: str, currency: str) -> Message:
    return [73, 1, req_id, account, "", tag, value, currency]


def account_update_multi_end(req_id: int) -> Message:
    return [74, 1, req_id]


def account_summary(req_id: int, account: str, tag: str, value: str, currency: str) -> Message:
    return [63, 1, req_id, account, tag, value, currency]


def account_summary_end(req_id: int) -> Message:
    return [64, 1, req_id]


def portfolio(one: Instrument, account: str, numbers: Iterable[Decimal]) -> Message:
    """`numbers`: position, price, value, average cost, unrealised, realised."""
    return [7, 8, one.con_id, one.symbol, one.sec_type, one.expiry, "0.0", "", one.multiplier_text,
            one.primary or one.exchange, one.currency, one.local_symbol, one.trading_class, *numbers,
            account]  # fmt: skip


def pnl(req_id: int, numbers: Iterable[Decimal]) -> Message:
    return [94, req_id, *numbers]


def pnl_single(req_id: int, numbers: Iterable[Decimal]) -> Message:
    return [95, req_id, *numbers]


_ORDER_TYPES = "ADJUST,DAY,GTC,IOC,LMT,MKT,OCA,STP,STPLMT,TRAIL,WHATIF"  # what is taken here; a real TWS lists dozens
_GROUPS = {"STK": "1", "CASH": "4"}  # aggGroup; source: recorded contract details; of others unset


def contract_details(req_id: int, one: Instrument, hours: tuple[str, str, str], version: int) -> Message:
    """`hours`: time zone, trading hours, liquid hours."""
    exchanges = f"{one.exchange},{one.primary}" if one.primary else one.exchange
    rules = ",".join([str(one.rule_id)] * (exchanges.count(",") + 1))
    underlying = (one.symbol, "IND") if one.sec_type == "FUT" else ("", "")
    return [10, *([8] if version < 164 else []), req_id, one.symbol, one.sec_type, one.expiry, "0", "", one.exchange,
            one.currency, one.local_symbol, one.trading_class, one.trading_class, one.con_id, one.rules[0][1],
            *([100] if version < 164 else []), one.multiplier_text, _ORDER_TYPES, exchanges, 1, 0, one.long_name,
            one.primary, one.expiry[:6], "", "", "", *hours, "", "", *_identifiers(one),
            _GROUPS.get(one.sec_type, UNSET_INTEGER), *underlying, rules, one.expiry, one.kind,
            *_sizes(one, version)]  # fmt: skip


def _identifiers(one: Instrument) -> Message:
    return [1, "ISIN", one.isin] if one.isin else [0]


def _sizes(one: Instrument, version: int) -> Message:
    """Smallest size, its increment, the suggested increment; 163 knew the last one only."""
    least, suggested = ("0.0001", "100") if one.sec_type == "STK" else ("1", "1")
    return [least, least, suggested] if version >= 164 else [suggested] * (version == 163)


def contract_details_end(req_id: int) -> Message:
    return [52, 1, req_id]


def market_rule(rule_id: int, rules: Rules) -> Message:
    return [93, rule_id, len(rules), *(field for edge_and_step in rules for field in edge_and_step)]


def symbol_samples(req_id: int, found: list[Instrument], version: int) -> Message:
    fields: Message = [79, req_id, len(found)]
    for one in found:
        fields += [one.con_id, one.symbol, one.sec_type, one.primary or one.exchange, one.currency, 0]
        fields += [one.long_name, ""] if version >= 176 else []
    return fields


def tick_price(req_id: int, tick: int, price: Decimal, size: Decimal) -> Message:
    return [1, 6, req_id, tick, price, size, 0]


def tick_req_params(req_id: int, one: Instrument) -> Message:
    return [81, req_id, one.rules[0][1], "", 3]


def market_data_type(req_id: int, number: int) -> Message:
    return [58, 1, req_id, number]


def snapshot_end(req_id: int) -> Message:
    return [57, 1, req_id]


def display_groups(req_id: int, groups: Iterable[int]) -> Message:
    return [67, 1, req_id, "|".join(map(str, groups))]


def display_group(req_id: int, contract: str) -> Message:
    """`contract`: conId@exchange, or none."""
    return [68, 1, req_id, contract]


def not_verified(number: int, why: str) -> Message:
    return [number, 1, 0, why]  # the official client takes anything but `true` for false, ib_insync only a number


def open_order_end() -> Message:
    return [53, 1]


def completed_orders_end() -> Message:
    return [102]
