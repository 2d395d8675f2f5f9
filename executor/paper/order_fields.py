"""What a paper TWS makes of every field of placeOrder: one table, under the API's own names. Pure.

A field that would change how an order lives, and that is not simulated, is refused: an order that fills as if it had no
condition is a wrong result that nobody sees. The codes and words are TWS's own (IBKR, Message Codes; 10244 and 10268 to
10274 as quoted in users' reports); a field without a code of its own gets 321 in the words of 152 and 10274. A real TWS
takes most of these orders; none of them is refused there for being unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from executor.paper.wire import number

Refusal = tuple[int, str]


class Use(Enum):
    """What becomes of a field."""

    SIMULATED = "simulated"  # it does here what it does in TWS
    HARMLESS = "harmless"  # it changes nothing about the order, or is read by order types only that are refused
    REFUSED = "refused"  # it would change the order's life, so the order is refused if it is set


class Kind(Enum):
    """How a field is written, which decides when it counts as set."""

    TEXT = "text"
    FLAG = "flag"
    NUMBER = "number"  # 0 counts as not set, for that is what many clients send


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `unset`: texts that mean "not set" beside the usual ones, as TWS itself says them in openOrder."""

    use: Use
    kind: Kind
    refusal: Refusal = (0, "")
    unset: frozenset[str] = frozenset()

    def is_set(self, text: str) -> bool:
        """True if the text is a value of its own. Raises WireError if it is no number and should be one."""
        if self.kind is Kind.NUMBER:
            return number(text) not in (None, 0) and text not in self.unset
        usual = {"", "0", "false"} if self.kind is Kind.FLAG else {""}
        return text not in usual | self.unset


def _simulated(kind: Kind) -> Field:
    return Field(Use.SIMULATED, kind)


def _harmless(kind: Kind) -> Field:
    return Field(Use.HARMLESS, kind)


def _refused(kind: Kind, code: int, words: str, *unset: str) -> Field:
    return Field(Use.REFUSED, kind, (code, words), frozenset(unset))


def _attribute(name: str, kind: Kind) -> tuple[str, Field]:
    """Return a field that TWS has no code for."""
    shown = name[0].upper() + name[1:]
    said = f"The '{shown}' order attribute may not be specified for this order."
    return name, _refused(kind, 321, f"Error validating request.-'bN' : cause - {said}")


TEXT, FLAG, NUMBER = Kind.TEXT, Kind.FLAG, Kind.NUMBER
_ADVISOR = 344, "The account logged into is not a financial advisor account."
_NO_SHORT_SALE = 348, "Order not a short sale -- type must be SSHORT to specify short sale slot."
_CLEARING = 346, "Not an institutional account or an away clearing account."
_DISCRETIONARY = 325, "Discretionary orders are not supported for this combination of exchange and order type."
_DELTA_NEUTRAL = 429, "Delta neutral orders are only supported for combos (BAG security type)."
_ORDER_TYPE = 387, "Unsupported order type for this exchange and security type."
_SCALE = 409, "Invalid scale order. You must specify order component size."
_SCALE_ADJUST = 449, "Unexpected scale price adjustment amount or interval."
_ALGO = 442, "Specified algorithm is not allowed for this order."
_CONDITIONS = 402, "Conditions are not allowed for this security."
_STOCK_RANGE = 373, "Can only set stock range attribute on VOL or RELATIVE TO STOCK order."
_COMBO = 312, "The combo details are invalid."

# every field of placeOrder up to server version 176, in its order; the contract's are the catalogue's business
FIELDS: dict[str, Field] = {
    "action": _simulated(TEXT),
    "totalQuantity": _simulated(NUMBER),
    "orderType": _simulated(TEXT),
    "lmtPrice": _simulated(NUMBER),
    "auxPrice": _simulated(NUMBER),
    "tif": _simulated(TEXT),
    "ocaGroup": _simulated(TEXT),
    "account": _simulated(TEXT),
    "openClose": _harmless(TEXT),  # of institutions
    "origin": _harmless(NUMBER),  # of institutions
    "orderRef": _simulated(TEXT),
    "transmit": _simulated(FLAG),
    "parentId": _simulated(NUMBER),
    **dict([_attribute("blockOrder", FLAG), _attribute("sweepToFill", FLAG), _attribute("displaySize", NUMBER)]),
    "triggerMethod": _simulated(NUMBER),  # the methods that the matcher has; see `validation`
    "outsideRth": _simulated(FLAG),
    "hidden": _refused(FLAG, 152, "The 'hidden' order attribute may not be specified for this order."),
    "orderComboLegs": _refused(NUMBER, *_COMBO),
    "smartComboRoutingParams": _refused(NUMBER, *_COMBO),
    "discretionaryAmt": _refused(NUMBER, *_DISCRETIONARY),
    "goodAfterTime": _refused(TEXT, 338, "Good After Time orders are currently disabled on this exchange."),
    "goodTillDate": _refused(TEXT, 334, "Invalid Good Till Date order"),
    "faGroup": _refused(TEXT, *_ADVISOR),
    "faMethod": _refused(TEXT, *_ADVISOR),
    "faPercentage": _refused(TEXT, *_ADVISOR),
    "faProfile": _refused(TEXT, *_ADVISOR),
    **dict([_attribute("modelCode", TEXT)]),
    "shortSaleSlot": _refused(NUMBER, *_NO_SHORT_SALE),
    "designatedLocation": _refused(TEXT, *_NO_SHORT_SALE),
    "exemptCode": _refused(NUMBER, *_NO_SHORT_SALE, "-1"),
    "ocaType": _simulated(NUMBER),
    "rule80A": _harmless(TEXT),  # of institutions
    "settlingFirm": _harmless(TEXT),  # of institutions
    **dict([_attribute("allOrNone", FLAG), _attribute("minQty", NUMBER)]),
    "percentOffset": _harmless(NUMBER),  # of REL
    "eTradeOnly": _refused(FLAG, 10268, "The 'EtradeOnly' order attribute is not supported."),
    "firmQuoteOnly": _refused(FLAG, 10269, "The 'FirmQuoteOnly' order attribute is not supported."),
    "nbboPriceCap": _refused(NUMBER, 10270, "The 'NbboPriceCap' order attribute is not supported."),
    "auctionStrategy": _harmless(NUMBER),  # of orders to BOX
    "startingPrice": _harmless(NUMBER),  # of orders to BOX
    "stockRefPrice": _harmless(NUMBER),  # of PEG STK
    "delta": _harmless(NUMBER),  # of PEG STK
    "stockRangeLower": _refused(NUMBER, *_STOCK_RANGE),
    "stockRangeUpper": _refused(NUMBER, *_STOCK_RANGE),
    "overridePercentageConstraints": _simulated(FLAG),
    "volatility": _refused(
        NUMBER, 371, "VOL order requires positive floating point value for volatility. Do not set it for other order types."
    ),
    "volatilityType": _refused(
        NUMBER, 367, "Volatility type if set must be 1 or 2 for VOL orders. Do not set it for other order types."
    ),
    "deltaNeutralOrderType": _refused(TEXT, *_DELTA_NEUTRAL, "None"),
    **dict.fromkeys(
        ("deltaNeutralAuxPrice", "deltaNeutralConId", "deltaNeutralShortSaleSlot"), _harmless(NUMBER)
    ),  # of deltaNeutralOrderType, as those that follow
    **dict.fromkeys(
        ("deltaNeutralSettlingFirm", "deltaNeutralClearingAccount", "deltaNeutralClearingIntent",
         "deltaNeutralOpenClose", "deltaNeutralDesignatedLocation"), _harmless(TEXT)),
    "deltaNeutralShortSale": _harmless(FLAG),
    "continuousUpdate": _refused(FLAG, 372, "Cannot set dynamic VOL attribute on non-VOL order."),
    "referencePriceType": _refused(
        NUMBER, 368, "Reference Price Type must be 1 or 2 for dynamic volatility management. Do not set it for non-VOL orders."
    ),
    "trailStopPrice": _simulated(NUMBER),  # of TRAIL; TWS shows it for plain orders too, and clients send it back
    "trailingPercent": _simulated(NUMBER),  # of TRAIL
    "scaleInitLevelSize": _refused(NUMBER, 417, "Invalid initial component size for scale order."),
    "scaleSubsLevelSize": _refused(NUMBER, 410, "Invalid subsequent component size for scale order."),
    "scalePriceIncrement": _refused(NUMBER, 408, "Invalid scale order increment."),
    "scalePriceAdjustValue": _refused(NUMBER, *_SCALE_ADJUST),
    "scalePriceAdjustInterval": _refused(NUMBER, *_SCALE_ADJUST),
    "scaleProfitOffset": _refused(NUMBER, 418, "Invalid scale order profit offset."),
    "scaleAutoReset": _refused(FLAG, *_SCALE),
    "scaleInitPosition": _refused(NUMBER, *_SCALE),
    "scaleInitFillQty": _refused(NUMBER, *_SCALE),
    "scaleRandomPercent": _refused(FLAG, *_SCALE),
    "scaleTable": _refused(TEXT, *_SCALE),
    **dict([_attribute("activeStartTime", TEXT), _attribute("activeStopTime", TEXT)]),
    "hedgeType": _refused(TEXT, 10007, "Invalid hedge type."),
    "hedgeParam": _refused(TEXT, 10007, "Invalid hedge type."),
    "optOutSmartRouting": _harmless(FLAG),
    "clearingAccount": _harmless(TEXT),  # of IBExecution customers; nautilus_trader sends the account itself
    "clearingIntent": _refused(TEXT, *_CLEARING, "IB"),
    **dict([_attribute("notHeld", FLAG)]),
    "deltaNeutralContract": _refused(FLAG, *_DELTA_NEUTRAL),
    "algoStrategy": _refused(TEXT, *_ALGO),
    "algoParams": _refused(NUMBER, *_ALGO),
    "algoId": _harmless(TEXT),  # a name for algos
    "whatIf": _simulated(FLAG),
    **dict([_attribute("orderMiscOptions", TEXT)]),
    "solicited": _harmless(FLAG),
    **dict([_attribute("randomizeSize", FLAG), _attribute("randomizePrice", FLAG)]),
    **dict.fromkeys(("referenceContractId", "peggedChangeAmount", "referenceChangeAmount"), _refused(NUMBER, *_ORDER_TYPE)),
    "isPeggedChangeAmountDecrease": _refused(FLAG, *_ORDER_TYPE),
    "referenceExchangeId": _refused(TEXT, *_ORDER_TYPE),
    "conditions": _refused(NUMBER, *_CONDITIONS),
    "conditionsIgnoreRth": _refused(FLAG, *_CONDITIONS),
    "conditionsCancelOrder": _refused(FLAG, *_CONDITIONS),
    "adjustedOrderType": _simulated(TEXT),  # of stops; TWS says None for none, and clients send it back
    "triggerPrice": _simulated(NUMBER),
    "lmtPriceOffset": _harmless(NUMBER),  # of TRAIL LIMIT
    "adjustedStopPrice": _simulated(NUMBER),
    "adjustedStopLimitPrice": _refused(NUMBER, 363, "Invalid adjusted stop limit price."),
    "adjustedTrailingAmount": _simulated(NUMBER),
    "adjustableTrailingUnit": _simulated(NUMBER),  # of adjustedTrailingAmount
    "extOperator": _harmless(TEXT),
    **dict([_attribute("softDollarTier", TEXT)]),
    "cashQty": _refused(NUMBER, 10244, "Cash Quantity cannot be used for this order"),
    **dict.fromkeys(
        ("mifid2DecisionMaker", "mifid2DecisionAlgo", "mifid2ExecutionTrader", "mifid2ExecutionAlgo"), _harmless(TEXT)
    ),  # who decided, for the records of the firm
    "dontUseAutoPriceForHedge": _harmless(FLAG),  # of hedges
    **dict([_attribute("isOmsContainer", FLAG)]),
    "discretionaryUpToLimitPrice": _refused(FLAG, *_DISCRETIONARY),
    "usePriceMgmtAlgo": _harmless(FLAG),
    **dict([_attribute("duration", NUMBER)]),
    "postToAts": _refused(NUMBER, 10274, "The 'PostToATS' order attribute may not be specified for this order or is invalid."),
    **dict([_attribute("autoCancelParent", FLAG)]),
    "advancedErrorOverride": _harmless(TEXT),  # of refusals that are not made here
    "manualOrderTime": _harmless(TEXT),  # for the records of the firm
    **dict([_attribute("minTradeQty", NUMBER)]),
    "minCompeteSize": _harmless(NUMBER),  # of PEG BEST
    "competeAgainstBestOffset": _harmless(NUMBER),  # of PEG BEST
    "midOffsetAtWhole": _harmless(NUMBER),  # of PEG BEST and PEG MID
    "midOffsetAtHalf": _harmless(NUMBER),  # of PEG BEST and PEG MID
}  # fmt: skip
# what openOrder says again as it came
ECHOED = ("origin", "rule80A", "settlingFirm", "triggerMethod", "optOutSmartRouting", "solicited", "usePriceMgmtAlgo")


def beyond(raw: Mapping[str, str]) -> dict[str, str]:
    """Return the fields that are set and that `orders.OrderForm` has no place for.

    Raises:
        WireError: A number is none.
    """
    found = {name: text for name, text in raw.items() if FIELDS[name].is_set(text)}
    return {name: text for name, text in found.items() if FIELDS[name].use is not Use.SIMULATED or name in _BESIDE}


_BESIDE = frozenset({"triggerMethod", "overridePercentageConstraints"})  # simulated, and asked for by name


def refusal(extras: Mapping[str, str]) -> Refusal | None:
    """Return how TWS would refuse the first of these fields that is not simulated, or None."""
    return next((FIELDS[name].refusal for name in FIELDS if name in extras and FIELDS[name].use is Use.REFUSED), None)
