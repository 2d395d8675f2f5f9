"""Orders that TWS or IBKR holds to be a mistake: the presets' precautionary settings, and price protection. Pure.

Source: the words of 163, 383 and 451 as TWS says them in users' logs (IbcAlpha/IBC issue 227; Voyz/ibind issue 42 and
its list of the questions that IBKR asks), 382 from IBKR's Message Codes; of 202 IBKR's TWS API page about cancelled
orders, and ibkr-go's recorded price bands (api_oca_trigger_aapl: PendingCancel, Cancelled, 202). The percentage counts in
both directions: IBKR's own example of 163 is a limit below the market.
"""

from __future__ import annotations

from decimal import Decimal

from executor.paper.contracts import Instrument
from executor.paper.faults import Fault
from executor.paper.market import Quote
from executor.paper.order_fields import Refusal
from executor.paper.orders import LIMITS, OrderForm
from executor.paper.wire import text

_WHERE = "Restriction is specified in Precautionary Settings of Global Configuration/Presets."
HUNDRED = Decimal(100)


def touch(form: OrderForm, quote: Quote) -> Decimal:
    """Return the price at which an order would trade now."""
    return quote.ask if form.action == "BUY" else quote.bid


def precaution(fault: Fault, order_id: int, form: OrderForm, one: Instrument, quote: Quote) -> Refusal | None:
    """Return how the precautionary settings of TWS refuse an order, or None."""
    asked = f'The following order "ID:{order_id}"'
    quantity = form.quantity or Decimal(0)
    size, value = fault.size("size"), fault.size("value")
    if size is not None and quantity > size:
        return 383, f"{asked} size exceeds the Size Limit of {text(size)}. {_WHERE}"
    price = form.trail_stop if form.trails else form.limit_price or form.aux_price
    worth = quantity * one.multiplier * (price or touch(form, quote))
    if value is not None and worth > value:
        return 451, (f"{asked} value estimate of {worth:,.2f} {one.currency} exceeds  the Total Value Limit of "
                     f"{value:,f} {one.currency}. {_WHERE}")  # fmt: skip
    return None if "overridePercentageConstraints" in form.extras else _price(fault, asked, form, one, quote)


def _price(fault: Fault, asked: str, form: OrderForm, one: Instrument, quote: Quote) -> Refusal | None:
    percentage, ticks, limit = fault.size("percentage"), fault.size("ticks"), form.limit_price
    if form.order_type != "LMT" or limit is None:
        return None
    market = touch(form, quote)
    if percentage is not None and abs(limit - market) * HUNDRED > percentage * market:
        return 163, f"{asked} price exceeds the Percentage constraint of {text(percentage)}%. {_WHERE}"
    if ticks is not None and abs(limit - market) > ticks * one.tick(market):
        return 382, f"{asked} price exceeds the Tick Size Limit of {text(ticks)}. {_WHERE}"
    return None


def cap(fault: Fault, form: OrderForm, one: Instrument, quote: Quote) -> Decimal | None:
    """Return the worst price that price protection leaves a limit, None if its own is no worse."""
    limit, market = form.limit_price, touch(form, quote)
    if limit is None or form.order_type not in LIMITS:
        return None
    tick = one.tick(market)
    furthest = market + form.sign * (market * (fault.size("percentage") or Decimal(0)) / HUNDRED // tick * tick)
    return furthest if (limit - furthest) * form.sign > 0 else None


def too_far(form: OrderForm, quote: Quote) -> str:
    """Return IBKR's reason for cancelling a limit that is too far through the market."""
    return ("In accordance with our regulatory obligations as a broker, we cannot accept your order at the limit price "
            f"{text(form.limit_price)} you selected because it is too far through the market.  Please submit your order "
            f"using a limit price that is closer to the current market price {text(touch(form, quote))}.")  # fmt: skip
