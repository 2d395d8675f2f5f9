"""What a client may ask: one table of message numbers, names and fields; placeOrder, the longest, has its own reader.

Source of the layouts: what ib_insync's client writes for server version 176 and the official 9.81 for 157.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from executor.paper import order_fields
from executor.paper.orders import Adjustment, OrderForm
from executor.paper.wire import MAX_FIELDS, Fields, WireError, number, whole

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


# placeOrder in its order, cut where a part follows that is not always there; names as in `order_fields`
_FIRST = ("action", "totalQuantity", "orderType", "lmtPrice", "auxPrice", "tif", "ocaGroup", "account", "openClose",
          "origin", "orderRef", "transmit", "parentId", "blockOrder", "sweepToFill", "displaySize", "triggerMethod",
          "outsideRth", "hidden")  # fmt: skip
_SECOND = ("discretionaryAmt", "goodAfterTime", "goodTillDate", "faGroup", "faMethod", "faPercentage", "faProfile",
           "modelCode", "shortSaleSlot", "designatedLocation", "exemptCode", "ocaType", "rule80A", "settlingFirm",
           "allOrNone", "minQty", "percentOffset", "eTradeOnly", "firmQuoteOnly", "nbboPriceCap", "auctionStrategy",
           "startingPrice", "stockRefPrice", "delta", "stockRangeLower", "stockRangeUpper",
           "overridePercentageConstraints", "volatility", "volatilityType", "deltaNeutralOrderType",
           "deltaNeutralAuxPrice")  # fmt: skip
_DELTA_NEUTRAL = ("deltaNeutralConId", "deltaNeutralSettlingFirm", "deltaNeutralClearingAccount",
                  "deltaNeutralClearingIntent", "deltaNeutralOpenClose", "deltaNeutralShortSale",
                  "deltaNeutralShortSaleSlot", "deltaNeutralDesignatedLocation")  # fmt: skip
_THIRD = ("continuousUpdate", "referencePriceType", "trailStopPrice", "trailingPercent", "scaleInitLevelSize",
          "scaleSubsLevelSize", "scalePriceIncrement")  # fmt: skip
_SCALE = ("scalePriceAdjustValue", "scalePriceAdjustInterval", "scaleProfitOffset", "scaleAutoReset",
          "scaleInitPosition", "scaleInitFillQty", "scaleRandomPercent")  # fmt: skip
_FOURTH = ("scaleTable", "activeStartTime", "activeStopTime", "hedgeType")
_FIFTH = ("optOutSmartRouting", "clearingAccount", "clearingIntent", "notHeld", "deltaNeutralContract")
_SIXTH = ("algoId", "whatIf", "orderMiscOptions", "solicited", "randomizeSize", "randomizePrice")
_PEG_BENCH = ("referenceContractId", "isPeggedChangeAmountDecrease", "peggedChangeAmount", "referenceChangeAmount",
              "referenceExchangeId")  # fmt: skip
_SEVENTH = ("adjustedOrderType", "triggerPrice", "lmtPriceOffset", "adjustedStopPrice", "adjustedStopLimitPrice",
            "adjustedTrailingAmount", "adjustableTrailingUnit", "extOperator", "softDollarTier", "", "cashQty",
            "mifid2DecisionMaker", "mifid2DecisionAlgo", "mifid2ExecutionTrader", "mifid2ExecutionAlgo",
            "dontUseAutoPriceForHedge", "isOmsContainer", "discretionaryUpToLimitPrice",
            "usePriceMgmtAlgo")  # fmt: skip
# name -> server version that began with it
_NEWEST = {"duration": 158, "postToAts": 160, "autoCancelParent": 162, "advancedErrorOverride": 166,
           "manualOrderTime": 169}  # fmt: skip
# kind of a condition -> how many fields follow it: price, time, margin, execution, volume, change in per cent
_CONDITIONS = {1: 6, 3: 3, 4: 3, 5: 4, 6: 5, 7: 5}


def _place_order(cursor: Fields, version: int) -> Request:
    order_id = cursor.whole()
    args = dict(zip(CONTRACT, cursor.texts(len(CONTRACT)), strict=True))
    args |= {"sec_id_type": cursor.text(), "sec_id": cursor.text()}
    raw = cursor.named(_FIRST)
    if args["sec_type"] == "BAG":
        raw |= _combo(cursor)
    cursor.text()  # shares allocation, which no client has any more
    raw |= cursor.named(_SECOND)
    raw |= cursor.named(_DELTA_NEUTRAL if raw["deltaNeutralOrderType"] else ())
    raw |= cursor.named(_THIRD)
    raw |= cursor.named(_SCALE if (number(raw["scalePriceIncrement"]) or 0) > 0 else ())
    raw |= cursor.named(_FOURTH)
    raw |= cursor.named(("hedgeParam",) if raw["hedgeType"] else ())
    raw |= cursor.named(_FIFTH)
    cursor.texts(3 if raw["deltaNeutralContract"] == "1" else 0)
    raw |= _algo(cursor) | cursor.named(_SIXTH)
    raw |= cursor.named(_PEG_BENCH if raw["orderType"] == "PEG BENCH" else ())
    raw |= _conditions(cursor) | cursor.named(_SEVENTH)
    raw |= cursor.named([name for name, since in _NEWEST.items() if version >= since])
    raw |= cursor.named(_pegged(raw["orderType"], args["exchange"]) if version >= 170 else ())
    return Request("placeOrder", order_id, args, _form(raw))


def _combo(cursor: Fields) -> dict[str, str]:
    cursor.texts(8 * cursor.whole())  # the contract's legs
    prices = cursor.whole()
    cursor.texts(prices)
    params = cursor.whole()
    cursor.texts(2 * params)
    return {"orderComboLegs": str(prices), "smartComboRoutingParams": str(params)}


def _algo(cursor: Fields) -> dict[str, str]:
    strategy = cursor.text()
    count = cursor.whole() if strategy else 0
    cursor.texts(2 * count)
    return {"algoStrategy": strategy, "algoParams": str(count)}


def _conditions(cursor: Fields) -> dict[str, str]:
    count = cursor.whole()
    for _ in range(min(count, MAX_FIELDS)):
        kind = cursor.whole()
        if kind not in _CONDITIONS:
            raise WireError(f"expected a kind of condition from 1 to 7, found {kind}")
        cursor.texts(_CONDITIONS[kind])
    flags = ("conditionsIgnoreRth", "conditionsCancelOrder") if count else ()
    return {"conditions": str(count)} | cursor.named(flags)


def _pegged(order_type: str, exchange: str) -> list[str]:
    """Return the fields at the very end that only some orders have."""
    own = {
        "PEG BEST": ["minCompeteSize", "competeAgainstBestOffset"],
        "PEG MID": ["midOffsetAtWhole", "midOffsetAtHalf"],
    }
    return ["minTradeQty"] * (exchange == "IBKRATS") + own.get(order_type, [])


def _adjustment(raw: dict[str, str]) -> Adjustment | None:
    """Return how a stop is to be adjusted, None if nothing of it is set; TWS itself says None for no type."""
    kind = raw["adjustedOrderType"].upper()
    found = Adjustment(
        "" if kind == "NONE" else kind,
        number(raw["triggerPrice"]) or None,
        number(raw["adjustedStopPrice"]) or None,
        number(raw["adjustedTrailingAmount"]) or None,
        whole(raw["adjustableTrailingUnit"]),
    )
    return None if replace(found, unit=0) == Adjustment("") else found


def _form(raw: dict[str, str]) -> OrderForm:
    return OrderForm(
        action=raw["action"].upper(),
        quantity=number(raw["totalQuantity"]),
        order_type=raw["orderType"].upper(),
        limit_price=number(raw["lmtPrice"]),
        aux_price=number(raw["auxPrice"]),
        tif=raw["tif"].upper() or "DAY",
        oca_group=raw["ocaGroup"],
        oca_type=whole(raw["ocaType"]),
        account=raw["account"],
        order_ref=raw["orderRef"],
        transmit=raw["transmit"] != "0",
        parent_id=whole(raw["parentId"]),
        outside_rth=raw["outsideRth"] == "1",
        what_if=raw["whatIf"] == "1",
        trail_stop=number(raw["trailStopPrice"]) or None,
        trail_percent=number(raw["trailingPercent"]) or None,
        adjust=_adjustment(raw),
        extras=order_fields.beyond(raw),
    )
