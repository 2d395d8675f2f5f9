"""Which orders TWS refuses before they reach IB, with its codes and words. Pure.

Source of codes and words: IBKR Message Codes (those of single fields are in `order_fields`); 321 for an invalid type,
434, 110, 200 as recorded or reported in the issues of ib_insync; 10243 for fractional shares.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from executor.paper import order_fields
from executor.paper.contracts import Instrument
from executor.paper.faults import Fault
from executor.paper.order_fields import Refusal
from executor.paper.orders import LIMITS, STOPS, TRAIL, Adjustment, OrderForm
from executor.paper.wire import number

WORDS: dict[int, str] = {
    103: "Duplicate order id",
    104: "Cannot modify a filled order.",
    105: "Order being modified does not match original order",
    111: "The Time in force (tif type) and the order type are incompatible.",
    110: "The price does not conform to the minimum price variation for this contract.",
    135: "Can't find order with id ={id}",
    146: "Invalid trigger method.",
    161: "Cancel attempted when order is not in a cancellable state. Order permId ={id}",
    200: "No security definition has been found for the request",
    201: "Order rejected - reason:We are unable to accept your order.",
    202: "Order Canceled - reason:",
    320: "Server error when reading an API client request.",
    329: "Order modify failed. Cannot change to the new order type:{cause}",
    462: "Order modify failed. Cannot change to the new Time in Force.{cause}",
    2102: "Unable to modify this order as it is still being processed.",
    328: "Trailing stop orders can be attached to limit or stop-limit orders only.",
    321: "Error validating request.-'bN' : cause - {cause}",
    361: "Invalid trigger price.",
    362: "Invalid adjusted stop price.",
    364: "Invalid adjusted trailing amount.",
    387: "Unsupported order type for this exchange and security type.",
    399: "Order Message:\n{order}\nWarning: {cause}",
    404: "Order held while securities are located.",
    413: "What-if order should have the transmit flag set to true.",
    434: "The order size cannot be zero.",
    435: "You must specify an account.",
    10006: "Missing parent order.",
    10147: "OrderId {id} that needs to be cancelled is not found.",
    10148: "OrderId {id} that needs to be cancelled cannot be cancelled, state: {cause}.",
    10326: "OCA group revision is not allowed.",
    10327: "OCA group type revision is not allowed.",
    10243: "Fractional-sized order cannot be placed via API. Please refer to desktop version.",
    10349: "Order TIF was set to DAY based on order preset.",
}
KNOWN_TYPES = frozenset({"MKT", "LMT", "STP", "STP LMT", TRAIL})
REAL_BUT_NOT_HERE = frozenset({"TRAIL LIMIT", "MIT", "LIT", "MOC", "LOC", "MTL", "REL", "MIDPRICE",
                               "PEG MKT", "PEG MID", "PEG BEST", "PEG BENCH", "PEG STK", "VOL"})  # fmt: skip
KNOWN_TIFS = frozenset({"DAY", "GTC", "IOC", "FOK"})
IMMEDIATE = frozenset({"IOC", "FOK"})
HUNDRED = 100  # the unit of a trailing amount in per cent
PARENTS_OF_TRAILS = frozenset({"LMT", "STP LMT"})
REAL_TIFS_BUT_NOT_HERE = frozenset({"GTD", "GTT", "OPG", "DTC", "AUC", "GTX", "GTH", "MINUTES", "OVERNIGHT",
                                    "OVERNIGHT + DAY"})  # fmt: skip
# how a stop is triggered here, by security type: the last price, in forex the side that it would trade at
TRIGGER_METHODS = {"CASH": frozenset({0, 4})}
LAST_PRICE = frozenset({0, 2})
ODD_LOTS = {"EUR": 20_000, "GBP": 17_000, "AUD": 25_000, "NZD": 35_000, "USD": 25_000}  # IDEALPRO minimum


def invalid(cause: str) -> Refusal:
    return 321, WORDS[321].format(cause=cause)


NO_ADVISOR = invalid("FA data operations ignored for non FA customers.")
READ_ONLY = invalid("The API interface is currently in Read-Only mode.")


def words(code: int, **facts: object) -> str:
    """Return TWS's words for a code; for an unknown one a neutral sentence."""
    return WORDS.get(code, f"Order message {code}").format(**{"id": "", "cause": "", "order": ""} | facts)


def said(fault: Fault, **facts: object) -> Refusal:
    """Return the code that a fault says, and its words or else TWS's own."""
    code = fault.whole("code")
    return code, fault.word("words") or words(code, **facts)


def refusal(form: OrderForm, one: Instrument, accounts: list[str]) -> Refusal | None:
    """Return the first reason to refuse a form, or None."""
    for check in _CHECKS:
        found = check(form, one)
        if found:
            return found
    return _account(form, accounts)


def _action(form: OrderForm, one: Instrument) -> Refusal | None:
    return None if form.action in ("BUY", "SELL") else invalid("Invalid action was entered")


def _order_type(form: OrderForm, one: Instrument) -> Refusal | None:
    if form.order_type in KNOWN_TYPES:
        return None
    if form.order_type in REAL_BUT_NOT_HERE:
        return 387, WORDS[387]
    return invalid("Invalid order type was entered")


def _tif(form: OrderForm, one: Instrument) -> Refusal | None:
    if form.tif in KNOWN_TIFS:
        return (111, WORDS[111]) if form.trails and form.tif in IMMEDIATE else None
    return (111, WORDS[111]) if form.tif in REAL_TIFS_BUT_NOT_HERE else invalid("Invalid time in force was entered")


def _fields(form: OrderForm, one: Instrument) -> Refusal | None:
    """Refuse what is not simulated, and the ways of triggering a stop that the matcher does not have."""
    found = order_fields.refusal(form.extras)
    method = number(form.extras.get("triggerMethod", "")) or 0
    if found or form.order_type not in STOPS or method in TRIGGER_METHODS.get(one.sec_type, LAST_PRICE):
        return found
    return 146, WORDS[146]


def _oca(form: OrderForm, one: Instrument) -> Refusal | None:
    return None if 0 <= form.oca_type <= 3 else invalid("Invalid OCA type was entered")


def _what_if(form: OrderForm, one: Instrument) -> Refusal | None:
    return (413, WORDS[413]) if form.what_if and not form.transmit else None


def _size(form: OrderForm, one: Instrument) -> Refusal | None:
    if not form.quantity or form.quantity < 0:
        return 434, WORDS[434]
    if form.quantity % 1 == 0:
        return None
    return (10243, WORDS[10243]) if one.sec_type == "STK" else invalid("Order size does not conform to market rule")


def _trail(form: OrderForm, one: Instrument) -> Refusal | None:
    """Refuse a TRAIL that does not say how far it trails, or says it twice.

    Source: userFRM/ibkr-dx (docs, Limits), which reads what a Gateway answers: 320 for both; 321 for a percentage outside
    what one can be, without the words. What it says of neither, and of an amount below zero, is not known: those get
    what a stop without price gets. A first stop beyond the market is taken, and triggers at once (ibkr-go, recorded
    api_order_type_matrix_aapl).
    """
    amount, percent = form.aux_price or 0, form.trail_percent or 0
    if not form.trails:
        return None
    if amount and percent:
        return 320, "Error reading request: Cannot specify Trailing Amount and Trailing Percent at the same time"
    if amount < 0 or not 0 <= percent < 100 or not (amount or percent) or (form.trail_stop or 0) < 0:
        return invalid("Missing or invalid price value was entered")
    if not one.on_tick(form.trail_stop or Decimal(0)) or amount % one.tick(form.trail_stop or one.price):
        return 110, WORDS[110]
    return None


def _adjust(form: OrderForm, one: Instrument) -> Refusal | None:
    """Refuse an adjustment that makes no sense, or is not of a stop into a stop or a TRAIL, which alone are simulated.

    Source: TWS API, Adjustable Stops; IBKR Message Codes 361, 362, 364. A trigger lies on the profit's side of the stop. One
    without a stop price, and a trailing unit that is neither 0 nor 100, never became an order (ib_insync issue 216).
    """
    to = form.adjust
    if to is None:
        return None
    if form.order_type != "STP" or to.order_type not in ("STP", TRAIL):
        return 387, WORDS[387]
    code = _adjusted_wrongly(to, form, one)
    return (code, WORDS[code]) if code else None


def _adjusted_wrongly(to: Adjustment, form: OrderForm, one: Instrument) -> int | None:
    """Return the code of what is wrong with an adjustment of a stop."""
    if to.trigger_price is None or (to.trigger_price - (form.aux_price or 0)) * form.sign >= 0:
        return 361
    if to.stop_price is None or to.stop_price < 0 or (to.trigger_price - to.stop_price) * form.sign >= 0:
        return 362
    amount, percent = (to.trailing, None) if to.unit == 0 else (None, to.trailing)
    if to.order_type == TRAIL and not ((amount or 0) > 0 or (to.unit == HUNDRED and 0 < (percent or 0) < HUNDRED)):
        return 364
    prices = [to.trigger_price, to.stop_price, *([amount] if amount else [])]
    return None if all(price % one.tick(to.stop_price) == 0 for price in prices) else 110


def _prices(form: OrderForm, one: Instrument) -> Refusal | None:
    needed = [form.limit_price] if form.order_type in LIMITS else []
    needed += [form.aux_price] if form.order_type in STOPS and not form.trails else []
    for price in needed:
        if price is None or price <= 0:
            return invalid("Missing or invalid price value was entered")
        if not one.on_tick(price):
            return 110, WORDS[110]
    return None


def _account(form: OrderForm, accounts: list[str]) -> Refusal | None:
    if form.account in accounts or (not form.account and len(accounts) == 1):
        return None
    return invalid("Invalid account code") if form.account else (435, WORDS[435])


_CHECKS: tuple[Callable[[OrderForm, Instrument], Refusal | None], ...] = (
    _action, _order_type, _tif, _fields, _oca, _what_if, _size, _trail, _prices, _adjust)  # fmt: skip


def order_line(form: OrderForm, one: Instrument, quantity: Decimal) -> str:
    """Return the order as TWS words it in warnings: BUY 10,000 EUR.USD Forex."""
    venue = {"CASH": "Forex", "STK": f"{one.primary}.{one.trading_class}"}.get(one.sec_type, one.exchange)
    return f"{form.action} {quantity:,f} {one.local_symbol} {venue}"


def odd_lot(form: OrderForm, one: Instrument, quantity: Decimal) -> str | None:
    """Return the cause of the 399 that a small forex order gets (it still fills), or None."""
    if one.sec_type != "CASH":
        return None
    least = ODD_LOTS.get(one.symbol, 25_000)
    if quantity >= least:
        return None
    return (f"Your order size is below the {one.symbol} {least} IdealPro minimum and will be routed as an "
            "odd lot order.")  # fmt: skip
