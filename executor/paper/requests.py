"""What a client may ask: one table of message numbers, names and fields; placeOrder has its own reader.

Source of the layouts: what ib_insync's client writes for server version 176 and the official 9.81 for 157.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from executor.paper.orders import OrderForm
from executor.paper.wire import Fields, WireError, number, whole

CONTRACT = ("con_id", "symbol", "sec_type", "expiry", "strike", "right", "multiplier", "exchange",
            "primary", "currency", "local_symbol", "trading_class")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """One decoded message: its name, its request id (0 where it has none), its other fields as text."""

    kind: str
    req_id: int = 0
    args: dict[str, str] = field(default_factory=dict)
    order: OrderForm | None = None


# message number -> (name, fields). v: a version number that is skipped; contract: the twelve fields above.
TABLE: dict[int, tuple[str, str]] = {
    1: ("reqMktData", "v req_id contract legs hedge generic_ticks snapshot"),
    2: ("cancelMktData", "v req_id"),
    3: ("placeOrder", ""),
    4: ("cancelOrder", "v req_id manual_time"),
    5: ("reqOpenOrders", "v"),
    6: ("reqAccountUpdates", "v subscribe account"),
    7: ("reqExecutions", "v req_id client_id account time symbol sec_type exchange side"),
    8: ("reqIds", "v count"),
    9: ("reqContractDetails", "v req_id contract include_expired sec_id_type sec_id"),
    10: ("reqMktDepth", "v req_id"),
    11: ("cancelMktDepth", "v req_id"),
    12: ("reqNewsBulletins", "v all"),
    13: ("cancelNewsBulletins", "v"),
    14: ("setServerLogLevel", "v level"),
    15: ("reqAutoOpenOrders", "v bind"),
    16: ("reqAllOpenOrders", "v"),
    17: ("reqManagedAccts", "v"),
    18: ("requestFA", "v data"),
    19: ("replaceFA", "v data xml req_id"),
    20: ("reqHistoricalData", "req_id"),
    21: ("exerciseOptions", "v req_id"),
    22: ("reqScannerSubscription", "req_id"),
    23: ("cancelScannerSubscription", "v req_id"),
    24: ("reqScannerParameters", "v"),
    25: ("cancelHistoricalData", "v req_id"),
    49: ("reqCurrentTime", "v"),
    50: ("reqRealTimeBars", "v req_id"),
    51: ("cancelRealTimeBars", "v req_id"),
    52: ("reqFundamentalData", "v req_id"),
    53: ("cancelFundamentalData", "v req_id"),
    54: ("calculateImpliedVolatility", "v req_id"),
    55: ("calculateOptionPrice", "v req_id"),
    56: ("cancelCalculateImpliedVolatility", "v req_id"),
    57: ("cancelCalculateOptionPrice", "v req_id"),
    58: ("reqGlobalCancel", "v"),
    59: ("reqMarketDataType", "v type"),
    61: ("reqPositions", "v"),
    62: ("reqAccountSummary", "v req_id group tags"),
    63: ("cancelAccountSummary", "v req_id"),
    64: ("cancelPositions", "v"),
    65: ("verifyRequest", "v"),
    66: ("verifyMessage", "v"),
    67: ("queryDisplayGroups", "v req_id"),
    68: ("subscribeToGroupEvents", "v req_id group"),
    69: ("updateDisplayGroup", "v req_id contract_info"),
    70: ("unsubscribeFromGroupEvents", "v req_id"),
    71: ("startApi", "v client_id capabilities"),
    72: ("verifyAndAuthRequest", "v"),
    73: ("verifyAndAuthMessage", "v"),
    74: ("reqPositionsMulti", "v req_id account model"),
    75: ("cancelPositionsMulti", "v req_id"),
    76: ("reqAccountUpdatesMulti", "v req_id account model ledger"),
    77: ("cancelAccountUpdatesMulti", "v req_id"),
    78: ("reqSecDefOptParams", "req_id"),
    79: ("reqSoftDollarTiers", "req_id"),
    80: ("reqFamilyCodes", ""),
    81: ("reqMatchingSymbols", "req_id pattern"),
    82: ("reqMktDepthExchanges", ""),
    83: ("reqSmartComponents", "req_id"),
    84: ("reqNewsArticle", "req_id"),
    85: ("reqNewsProviders", ""),
    86: ("reqHistoricalNews", "req_id"),
    87: ("reqHeadTimeStamp", "req_id"),
    88: ("reqHistogramData", "req_id"),
    89: ("cancelHistogramData", "req_id"),
    90: ("cancelHeadTimeStamp", "req_id"),
    91: ("reqMarketRule", "req_id"),
    92: ("reqPnL", "req_id account model"),
    93: ("cancelPnL", "req_id"),
    94: ("reqPnLSingle", "req_id account model con_id"),
    95: ("cancelPnLSingle", "req_id"),
    96: ("reqHistoricalTicks", "req_id"),
    97: ("reqTickByTickData", "req_id"),
    98: ("cancelTickByTickData", "req_id"),
    99: ("reqCompletedOrders", "api_only"),
    100: ("reqWshMetaData", "req_id"),
    101: ("cancelWshMetaData", "req_id"),
    102: ("reqWshEventData", "req_id"),
    103: ("cancelWshEventData", "req_id"),
    104: ("reqUserInfo", "req_id"),
}


class UnknownMessage(WireError):
    """A message number that no client of these versions has; it is answered, and the connection stays."""


def read(fields: list[str], version: int) -> Request:
    """Decode one message of a client that speaks the given version.

    Raises:
        UnknownMessage: Answer it and go on.
        WireError: A field is no number where one is needed; answer with 320 and go on.
    """
    cursor = Fields(fields)
    number_ = cursor.whole()
    if number_ not in TABLE:
        raise UnknownMessage(f"message number {number_}")
    kind, names = TABLE[number_]
    if kind == "placeOrder":
        return _place_order(cursor, version)
    args: dict[str, str] = {}
    for name in names.split():
        _read_field(cursor, name, args)
    return Request(kind, whole(args.pop("req_id", "")), args)


def _read_field(cursor: Fields, name: str, args: dict[str, str]) -> None:
    if name == "v":
        cursor.text()
    elif name == "contract":
        args.update(zip(CONTRACT, cursor.texts(len(CONTRACT)), strict=True))
    elif name == "legs":
        cursor.texts(4 * cursor.whole() if args["sec_type"] == "BAG" else 0)
    elif name == "hedge":
        cursor.texts(3 if cursor.text() == "1" else 0)
    else:
        args[name] = cursor.text()


_FIRST = ("sec_id_type", "sec_id", "action", "quantity", "order_type", "limit_price", "aux_price", "tif",
          "oca_group", "account", "open_close", "origin", "order_ref", "transmit", "parent_id", "block_order",
          "sweep_to_fill", "display_size", "trigger_method", "outside_rth", "hidden")  # fmt: skip
_SECOND = ("", "discretionary_amount", "good_after_time", "good_till_date", "fa_group", "fa_method",
           "fa_percentage", "fa_profile", "model_code", "short_sale_slot", "designated_location", "exempt_code",
           "oca_type", "rule_80a", "settling_firm", "all_or_none", "min_quantity", "percent_offset",
           "etrade_only", "firm_quote_only", "nbbo_price_cap", "auction_strategy", "starting_price",
           "stock_ref_price", "delta", "stock_range_lower", "stock_range_upper", "override_constraints",
           "volatility", "volatility_type", "delta_neutral_type", "delta_neutral_aux")  # fmt: skip
_THIRD = ("continuous_update", "reference_price_type", "trail_stop_price", "trailing_percent",
          "scale_init_size", "scale_subs_size", "scale_increment")  # fmt: skip
_FOURTH = ("opt_out_smart", "clearing_account", "clearing_intent", "not_held")
_FIFTH = ("algo_id", "what_if", "misc_options", "solicited", "randomize_size", "randomize_price")


def _place_order(cursor: Fields, version: int) -> Request:
    order_id = cursor.whole()
    args = dict(zip(CONTRACT, cursor.texts(len(CONTRACT)), strict=True))
    raw = dict(zip(_FIRST, cursor.texts(len(_FIRST)), strict=True))
    if args["sec_type"] == "BAG":
        _skip_combo(cursor)
    raw.update(zip(_SECOND, cursor.texts(len(_SECOND)), strict=True))
    cursor.texts(8 if raw["delta_neutral_type"] else 0)
    raw.update(zip(_THIRD, cursor.texts(len(_THIRD)), strict=True))
    increment = number(raw["scale_increment"])
    cursor.texts(7 if increment and increment > 0 else 0)
    cursor.texts(3)  # scale table, active start and stop
    raw["hedge_type"] = cursor.text()
    cursor.texts(1 if raw["hedge_type"] else 0)
    raw.update(zip(_FOURTH, cursor.texts(len(_FOURTH)), strict=True))
    cursor.texts(3 if cursor.text() == "1" else 0)  # delta neutral contract
    raw["algo_strategy"] = cursor.text()
    cursor.texts(2 * cursor.whole() if raw["algo_strategy"] else 0)
    raw.update(zip(_FIFTH, cursor.texts(len(_FIFTH)), strict=True))
    return Request("placeOrder", order_id, args, _form(raw))


def _skip_combo(cursor: Fields) -> None:
    cursor.texts(8 * cursor.whole())
    cursor.texts(cursor.whole())
    cursor.texts(2 * cursor.whole())


# what openOrder says again as it came: texts, and numbers that no client could read were they rubbish
_ECHOED = ("good_after_time", "good_till_date", "rule_80a", "settling_firm")
_ECHOED_NUMBERS = ("origin", "hidden", "display_size", "trigger_method", "all_or_none", "min_quantity")
_ECHOED_DECIMALS = ("discretionary_amount",)


def _form(raw: dict[str, str]) -> OrderForm:
    return OrderForm(
        action=raw["action"].upper(),
        quantity=number(raw["quantity"]),
        order_type=raw["order_type"].upper(),
        limit_price=number(raw["limit_price"]),
        aux_price=number(raw["aux_price"]),
        tif=raw["tif"].upper() or "DAY",
        oca_group=raw["oca_group"],
        oca_type=whole(raw["oca_type"]),
        account=raw["account"],
        order_ref=raw["order_ref"],
        transmit=raw["transmit"] != "0",
        parent_id=whole(raw["parent_id"]),
        outside_rth=raw["outside_rth"] == "1",
        what_if=raw["what_if"] == "1",
        extras=_echoed(raw),
    )


def _echoed(raw: dict[str, str]) -> dict[str, str]:
    """Return the fields that are sent back, those that are set. Raises WireError if a number is none."""
    for name in _ECHOED_NUMBERS:
        whole(raw[name])
    for name in _ECHOED_DECIMALS:
        number(raw[name])
    names = (*_ECHOED, *_ECHOED_NUMBERS, *_ECHOED_DECIMALS)
    return {name: raw[name] for name in names if raw[name]}
